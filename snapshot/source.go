package snapshot

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"libvirt.org/go/libvirt"
)

// Source is one production VM to take a view of.
type Source struct {
	Domain *libvirt.Domain // must run; stays the caller's, who may free it after [Take]
	Name   string          // how the caller calls the VM; unique among the sources
	Disks  []SourceDisk
	// NoFreeze leaves the guest's file systems alone: the view is as after a power cut.
	NoFreeze bool
}

// SourceDisk is one disk of a source.
type SourceDisk struct {
	Target   string // vda
	Capacity uint64 // bytes the guest sees
}

// Options says where and how a view is taken.
type Options struct {
	// Dir holds the scratch files; QEMU's user must be able to enter it. It
	// needs room for the full size of all disks together.
	Dir string
	// SocketDir holds the NBD sockets; short, because a socket's path has at most 107 bytes.
	SocketDir string
	// FreezeTimeout bounds how long one guest may take to freeze; default 10 s.
	FreezeTimeout time.Duration
	// BeginTimeout bounds how long all guests may stay frozen while the backup
	// jobs begin; then the guard thaws them and the view fails. Default 20 s.
	BeginTimeout time.Duration
	// GuardCommand runs [RunGuard] in a process of its own, for example
	// {"/proc/self/exe", "guard-thaw"}.
	GuardCommand []string
	// URI is where the guard connects to; default is the URI of the first domain's connection.
	URI string
	// Reserve is kept free on the scratch file system, in bytes; default 64 MiB.
	Reserve uint64
	Log     *slog.Logger

	hooks hooks
}

// hooks lets this package's own tests break what must not break.
type hooks struct {
	scratchLayout string // in place of scratchLayout
	skipSpace     bool   // do not check for space
	afterFreeze   func() // runs while the guests are frozen
}

const (
	defaultFreezeTimeout = 10 * time.Second
	defaultBeginTimeout  = 20 * time.Second
	defaultReserve       = 64 << 20
	maxSocketPath        = 107 // sun_path without its final zero byte
)

func (o Options) withDefaults() Options {
	if o.FreezeTimeout <= 0 {
		o.FreezeTimeout = defaultFreezeTimeout
	}
	if o.BeginTimeout <= 0 {
		o.BeginTimeout = defaultBeginTimeout
	}
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if o.hooks.scratchLayout == "" {
		o.hooks.scratchLayout = scratchLayout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	for name, dir := range map[string]string{"scratch": o.Dir, "socket": o.SocketDir} {
		if !filepath.IsAbs(dir) {
			errs = append(errs, fmt.Errorf("the %s directory %q is not an absolute path", name, dir))
		}
	}
	if len(o.GuardCommand) == 0 {
		errs = append(errs, errors.New("no command for the thaw guard: a guest must not stay frozen if this process dies"))
	}
	return errors.Join(errs...)
}

func validateSources(sources []Source) error {
	if len(sources) == 0 {
		return errors.New("no VM to take a view of")
	}
	var errs []error
	seen := map[string]bool{}
	for _, s := range sources {
		if s.Name == "" || seen[s.Name] {
			errs = append(errs, fmt.Errorf("VM name %q is empty or given twice", s.Name))
		}
		seen[s.Name] = true
		errs = append(errs, s.validate())
	}
	return errors.Join(errs...)
}

func (s Source) validate() error {
	if s.Domain == nil || len(s.Disks) == 0 {
		return fmt.Errorf("VM %q: no domain or no disks given", s.Name)
	}
	seen := map[string]bool{}
	for _, d := range s.Disks {
		if d.Target == "" || d.Capacity == 0 || seen[d.Target] || strings.ContainsAny(d.Target, "/\x00") {
			return fmt.Errorf("VM %q: disk %q: want a unique target and a size", s.Name, d.Target)
		}
		seen[d.Target] = true
	}
	return nil
}
