// Package test has the tests of imago as its users run it: both programs are
// built, a lab of the smallest sample system is made, and the imago command
// upgrades the real VMs in it, goes back, gives up, is killed and refuses. The
// package owns no code of the product and no test of a single room.
package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"imago.dev/imago/images"
	"imago.dev/imago/images/recipes"
	"imago.dev/imago/internal/lab"
)

// dirPattern names the tests' directories. It is short, because sockets lie
// below it.
const dirPattern = "/var/tmp/imt-*"

func TestMain(m *testing.M) {
	if os.Getenv(writerEnv) != "" {
		os.Exit(writeAll())
	}
	sweep()
	code := m.Run()
	for _, l := range []*sharedLab{&small, &store} {
		if err := l.end(); err != nil {
			fmt.Fprintln(os.Stderr, "end the lab:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// sweep removes what a test process left that was killed: its lab ended with
// it, but not its directory.
func sweep() {
	dirs, _ := filepath.Glob(dirPattern)
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < time.Hour {
			continue
		}
		if _, err := lab.Find(filepath.Join(dir, "lab")); errors.Is(err, lab.ErrNoLab) {
			_ = os.RemoveAll(dir)
		}
	}
}

// sharedLab is a lab of one sample system that tests use one after the other.
type sharedLab struct {
	system string
	once   sync.Once
	dir    string
	host   *host
	err    error
}

// The labs: of the smallest system, and of a database whose rows flow.
var (
	small = sharedLab{system: "small"}
	store = sharedLab{system: "store"}
)

// theHost gives the host of the smallest system's lab.
func theHost(t *testing.T) *host {
	t.Helper()
	return small.get(t)
}

// get gives the lab's host, made at the first call.
func (s *sharedLab) get(t *testing.T) *host {
	t.Helper()
	if why := missing(); why != "" {
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	s.once.Do(func() { s.err = s.begin(t) })
	if s.err != nil {
		t.Fatalf("make the lab: %v", s.err)
	}
	return s.host
}

// missing says why no lab can be made here; "" if one can.
func missing() string {
	if testing.Short() {
		return "a lab takes minutes: not with -short"
	}
	if os.Geteuid() != 0 {
		return "a lab needs root"
	}
	for _, tool := range []string{"libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "nft", "ip", "nsenter", "curl", "ssh", "mmdebstrap"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err.Error()
		}
	}
	return ""
}

func (s *sharedLab) begin(t *testing.T) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp(filepath.Dir(dirPattern), filepath.Base(dirPattern))
	if err != nil {
		return err
	}
	s.dir = dir
	imago, err := build(ctx, dir)
	if err != nil {
		return err
	}
	cache := os.Getenv("IMAGO_CACHE")
	if cache == "" {
		cache = "/var/cache/imago"
	}
	if err := buildImages(ctx, cache, s.system, t); err != nil {
		return err
	}
	l, err := lab.Up(ctx, lab.Options{Dir: filepath.Join(dir, "lab"), CacheDir: cache, System: s.system, Executable: imago, Attached: true},
		func(text string) { t.Log(text) })
	if err != nil {
		return err
	}
	if s.host, err = newHost(l, imago); err == nil {
		s.host.letLibvirtMakeItsChains(t)
	}
	return err
}

// build makes the command and, beside it, the agent for the guests.
func build(ctx context.Context, dir string) (string, error) {
	imago := filepath.Join(dir, "imago")
	for _, b := range []struct{ out, pkg, cgo string }{
		{imago, "imago.dev/imago/cmd/imago", "CGO_ENABLED=1"},
		{imago + "-agent", "imago.dev/imago/cmd/imago-agent", "CGO_ENABLED=0"},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.out, b.pkg)
		cmd.Env = append(os.Environ(), b.cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w: %s", b.pkg, err, out)
		}
	}
	return imago, nil
}

func buildImages(ctx context.Context, cache, system string, t *testing.T) error {
	sys, err := lab.SystemByName(system)
	if err != nil {
		return err
	}
	cat, err := images.LoadCatalogue(recipes.FS)
	if err != nil {
		return err
	}
	b := &images.Builder{Catalogue: cat, CacheDir: cache, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Progress: func(p images.Progress) { t.Logf("image %s: %s", p.Image, p.Step) }}
	_, err = b.Build(ctx, sys.Images()...)
	return err
}

// end takes the lab and its directory away. It may be repeated.
func (s *sharedLab) end() error {
	if s.dir == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var errs []error
	if s.host != nil {
		errs = append(errs, s.host.lab.Down(ctx))
	}
	if os.Getenv("IMAGO_KEEP") == "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	s.dir, s.host = "", nil
	return errors.Join(errs...)
}
