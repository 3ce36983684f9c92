package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

// Set is one frozen instant of all disks of all VMs of a system. [Set.End] must
// be called; until then every source domain runs a backup job.
type Set struct {
	log     *slog.Logger
	taken   time.Time
	dir     string // scratch files of this set, inside Options.Dir
	sockets string // sockets of this set, inside Options.SocketDir
	vms     []*vmView
	dog     *watchdog

	endMu sync.Mutex
	ended bool
}

// vmView is the part of a set that belongs to one VM.
type vmView struct {
	dom         *libvirt.Domain
	name        string
	socket      string
	disks       []diskView
	agent       bool // a guest agent is there to freeze the file systems
	owner       *owner
	begun       bool
	frozenAt    time.Time
	frozen      time.Duration
	consistency Consistency
}

type diskView struct {
	SourceDisk
	scratch string
}

// Consistency says what the view of a VM is worth.
type Consistency struct {
	// FileSystems is true if the guest froze its file systems for the instant;
	// else the disks are as after a power cut.
	FileSystems bool
	Why         string // why not
}

// VMReport is what [Take] did to one VM.
type VMReport struct {
	Name        string
	Frozen      time.Duration // how long the guest's file systems stood still, at most
	Consistency Consistency
}

// View is the frozen content of one disk, served read-only over NBD.
type View struct {
	VM       string
	Target   string
	Socket   string // unix socket of the NBD server
	Export   string
	Capacity uint64 // bytes
}

// URI is the view's address for QEMU and NBD tools.
func (v View) URI() string {
	u := url.URL{Scheme: "nbd+unix", Path: "/" + v.Export, RawQuery: url.Values{"socket": {v.Socket}}.Encode()}
	return u.String()
}

// ErrNoView says that the set has no such VM or disk.
var ErrNoView = errors.New("no such view")

// View finds the view of one disk.
func (s *Set) View(vm, target string) (View, error) {
	for _, v := range s.vms {
		if v.name != vm {
			continue
		}
		for _, d := range v.disks {
			if d.Target == target {
				return View{VM: vm, Target: target, Socket: v.socket, Export: target, Capacity: d.Capacity}, nil
			}
		}
	}
	return View{}, fmt.Errorf("disk %q of VM %q: %w", target, vm, ErrNoView)
}

// Taken is the instant the views show: after the last VM froze, before the first thawed.
func (s *Set) Taken() time.Time { return s.taken }

// Report says for each VM how long it was frozen and how consistent its view is.
func (s *Set) Report() []VMReport {
	list := make([]VMReport, 0, len(s.vms))
	for _, v := range s.vms {
		list = append(list, VMReport{Name: v.name, Frozen: v.frozen, Consistency: v.consistency})
	}
	return list
}

// Lost delivers one [Loss] for each VM whose view broke. It is never closed.
func (s *Set) Lost() <-chan Loss { return s.dog.lost }

// Err joins the losses so far; nil while all views are whole.
func (s *Set) Err() error { return s.dog.err() }

// End ends all backup jobs of the set and removes its scratch files and
// sockets. Whoever still reads a view gets errors from then on. It may be
// called again after an error, and does nothing once it succeeded.
func (s *Set) End(ctx context.Context) error {
	s.endMu.Lock()
	defer s.endMu.Unlock()
	if s.ended {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	s.dog.stop()
	if err := endJobs(ctx, s.vms, s.dir); err != nil {
		return err // QEMU may still use the files
	}
	if err := errors.Join(os.RemoveAll(s.dir), os.RemoveAll(s.sockets)); err != nil {
		return fmt.Errorf("remove the view's files: %w", err)
	}
	s.ended = true
	return freeDomains(s.vms)
}

func endJobs(ctx context.Context, vms []*vmView, dir string) error {
	return eachVM(vms, func(vm *vmView) error {
		err := EndJob(ctx, vm.dom, dir)
		if err == nil || errors.Is(err, ErrForeignJob) {
			return nil // ours is gone, and somebody else's runs already
		}
		return fmt.Errorf("end the view of %q: %w", vm.name, err)
	})
}

func freeDomains(vms []*vmView) error {
	var errs []error
	for _, vm := range vms {
		errs = append(errs, vm.dom.Free())
	}
	return errors.Join(errs...)
}

// eachVM runs do for all VMs at once and waits for all of them.
func eachVM(vms []*vmView, do func(*vmView) error) error {
	errs := make([]error, len(vms))
	var wg sync.WaitGroup
	for i, vm := range vms {
		wg.Go(func() { errs[i] = do(vm) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
