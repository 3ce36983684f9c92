package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"libvirt.org/go/libvirtxml"
)

// Take freezes one instant of all disks of all sources.
//
// Order is safety here: everything that can fail without production noticing
// comes first (room, scratch files, sockets, guard, watchdog); then freeze,
// begin and thaw, as short as can be. If anything fails, all jobs are ended,
// all guests thawed and all files removed before Take returns.
func Take(ctx context.Context, sources []Source, opts Options) (*Set, error) {
	opts = opts.withDefaults()
	if err := errors.Join(opts.validate(), validateSources(sources)); err != nil {
		return nil, fmt.Errorf("take a view: %w", err)
	}
	if !opts.hooks.skipSpace {
		if err := checkSpace(sources, opts); err != nil {
			return nil, fmt.Errorf("take a view: %w", err)
		}
	}
	s := &Set{log: opts.Log}
	if err := s.take(ctx, sources, opts); err != nil {
		return nil, errors.Join(err, s.undo(ctx))
	}
	return s, nil
}

func (s *Set) take(ctx context.Context, sources []Source, opts Options) error {
	if err := s.adopt(sources, opts.Dir); err != nil {
		return err
	}
	if err := s.makeFiles(ctx, opts); err != nil {
		return err
	}
	s.dog = newWatchdog(s.vms, s.dir, opts.Log)
	if err := s.dog.subscribe(); err != nil {
		return err
	}
	if err := s.instant(ctx, opts); err != nil {
		return err
	}
	s.dog.start()
	return nil
}

// adopt takes references to the domains and checks that they are free for a job.
func (s *Set) adopt(sources []Source, dir string) error {
	for _, src := range sources {
		if err := src.Domain.Ref(); err != nil {
			return fmt.Errorf("hold domain %q: %w", src.Name, err)
		}
		vm := &vmView{dom: src.Domain, name: src.Name, consistency: Consistency{Why: "no guest agent is connected"}}
		s.vms = append(s.vms, vm)
		for _, d := range src.Disks {
			vm.disks = append(vm.disks, diskView{SourceDisk: d})
		}
		if err := checkNoJob(vm, dir); err != nil {
			return err
		}
		if err := vm.describe(); err != nil {
			return err
		}
		if src.NoFreeze {
			vm.agent, vm.consistency.Why = false, "freezing is not wanted"
		}
	}
	return nil
}

// describe learns from the domain's XML whether an agent is there and as which
// user QEMU runs.
func (vm *vmView) describe() error {
	text, err := vm.dom.GetXMLDesc(0)
	if err != nil {
		return fmt.Errorf("read the XML of %q: %w", vm.name, err)
	}
	var desc libvirtxml.Domain
	if err := desc.Unmarshal(text); err != nil {
		return fmt.Errorf("parse the XML of %q: %w", vm.name, err)
	}
	vm.agent = agentConnected(&desc)
	vm.owner = qemuOwner(&desc)
	return nil
}

// makeFiles creates the scratch files and the folders for the sockets.
func (s *Set) makeFiles(ctx context.Context, opts Options) error {
	var err error
	if s.dir, err = makeDir(opts.Dir, "view-*"); err != nil {
		return err
	}
	if s.sockets, err = makeDir(opts.SocketDir, "v*"); err != nil {
		return err
	}
	for i, vm := range s.vms {
		if err := vm.makeFiles(ctx, s, i, opts); err != nil {
			return fmt.Errorf("prepare the view of %q: %w", vm.name, err)
		}
	}
	return nil
}

// makeDir makes a new folder that others can enter but not list.
func makeDir(parent, pattern string) (string, error) {
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return "", fmt.Errorf("make a folder for the view: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", errors.Join(fmt.Errorf("open the view's folder to QEMU: %w", err), os.Remove(dir))
	}
	return dir, nil
}

func (vm *vmView) makeFiles(ctx context.Context, s *Set, n int, opts Options) error {
	dir := filepath.Join(s.sockets, fmt.Sprint(n))
	vm.socket = filepath.Join(dir, "nbd")
	if len(vm.socket) > maxSocketPath {
		return fmt.Errorf("socket path %q is longer than %d bytes: choose a shorter directory", vm.socket, maxSocketPath)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := vm.owner.own(dir); err != nil {
		return err
	}
	for i := range vm.disks {
		d := &vm.disks[i]
		d.scratch = filepath.Join(s.dir, fmt.Sprintf("%d-%s.qcow2", n, d.Target))
		if err := createScratch(ctx, d.scratch, d.Capacity, opts); err != nil {
			return err
		}
	}
	return nil
}

// instant freezes the guests, begins the backup jobs and thaws the guests, under the guard.
func (s *Set) instant(ctx context.Context, opts Options) error {
	guard, err := startGuard(ctx, s.vms, s.dir, opts)
	if err != nil {
		return err
	}
	// The last moment to give up without having touched production.
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), guard.done())
	}
	freezeErr := eachVM(s.vms, func(vm *vmView) error {
		if vm.agent {
			freeze(vm, opts.FreezeTimeout)
		}
		return nil
	})
	if opts.hooks.afterFreeze != nil {
		opts.hooks.afterFreeze()
	}
	s.taken = time.Now()
	beginErr := eachVM(s.vms, func(vm *vmView) error {
		err := backupBegin(vm)
		vm.begun = err == nil
		return err
	})
	thawErr := s.thaw(ctx)
	return errors.Join(freezeErr, beginErr, thawErr, guard.done())
}

// thaw lets all guests go on that were asked to freeze, whatever happened.
func (s *Set) thaw(ctx context.Context) error {
	return eachVM(s.vms, func(vm *vmView) error {
		if vm.frozenAt.IsZero() {
			return nil
		}
		err := thaw(ctx, vm.dom)
		vm.frozen = time.Since(vm.frozenAt)
		if err != nil {
			return fmt.Errorf("guest %q may still be frozen: %w", vm.name, err)
		}
		s.log.Info("guest was frozen", "vm", vm.name, "frozen_ms", vm.frozen.Milliseconds(), "file_systems", vm.consistency.FileSystems)
		return nil
	})
}

// undo leaves nothing of a view that failed.
func (s *Set) undo(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	if s.dog != nil {
		s.dog.stop()
	}
	if s.dir != "" {
		if err := endJobs(ctx, s.vms, s.dir); err != nil {
			return errors.Join(err, freeDomains(s.vms)) // QEMU may still use the files
		}
	}
	var errs []error
	for _, dir := range []string{s.dir, s.sockets} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(append(errs, freeDomains(s.vms))...)
}
