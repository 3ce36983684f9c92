package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
	"imago.dev/imago/snapshot"
)

// removeClones removes the clones of production VMs with their disks; with
// sourcesOnly only those that are just read from.
func (e *Engine) removeClones(ctx context.Context, sourcesOnly bool) error {
	var errs []error
	for _, vm := range e.plan.Universe.VMs {
		if vm.Clone == "" || sourcesOnly && vm.Role != plan.RoleSource {
			continue
		}
		errs = append(errs, e.removeVM(ctx, vm.Name))
	}
	return errors.Join(errs...)
}

// removeVM removes one VM of the universe and its overlays.
func (e *Engine) removeVM(ctx context.Context, name string) error {
	domain := e.n.domain(name)
	if err := e.remove(ctx, journal.KindDomain, domain, func() error { return e.removeDomain(ctx, domain) }); err != nil {
		return err
	}
	files, err := filepath.Glob(e.n.overlay(name, "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		// "db-*.qcow2" also finds the disks of a VM named "db-old".
		if e.overlayOwner(f) != name {
			continue
		}
		if err := os.Remove(f); err != nil {
			return fmt.Errorf("remove the disk of %s: %w", name, err)
		}
	}
	return nil
}

// overlayOwner is the VM with the longest name that fits the file's name.
func (e *Engine) overlayOwner(path string) string {
	owner := ""
	for _, vm := range e.plan.Universe.VMs {
		if strings.HasPrefix(filepath.Base(path), vm.Name+"-") && len(vm.Name) > len(owner) {
			owner = vm.Name
		}
	}
	return owner
}

func (e *Engine) removeDomain(ctx context.Context, name string) error {
	dom, err := e.conn.LookupDomain(name)
	if errors.Is(err, hypervisor.ErrNoDomain) {
		return nil
	}
	if err != nil {
		return err
	}
	return dom.Remove(ctx)
}

// removeEverything removes all that the journal knows of the run, the latest
// first, whether it is known to be there or was only intended.
func (e *Engine) removeEverything(ctx context.Context) error {
	resources, err := e.j.Standing(ctx, e.run.ID)
	if err != nil {
		return err
	}
	// Domains read from the views of backup jobs, so all of them go first.
	var errs []error
	for _, domains := range []bool{true, false} {
		for _, r := range resources {
			if (r.Kind == journal.KindDomain) != domains {
				continue
			}
			err := e.removeResource(ctx, r.Kind, r.Name)
			if err == nil {
				err = e.j.Gone(ctx, r.ID)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("remove %s %s: %w", r.Kind, r.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// removeResource removes one thing of ours by its name. It is no error if it
// is not there.
func (e *Engine) removeResource(ctx context.Context, kind journal.Kind, name string) error {
	switch kind {
	case journal.KindDomain:
		return e.removeDomain(ctx, name)
	case journal.KindBackupJob:
		return e.endBackup(ctx, name)
	case journal.KindHold, journal.KindVIPMap, journal.KindNetNS:
		return netswitch.RemoveAll(ctx, e.universeSpec())
	case journal.KindNetwork:
		return e.conn.RemoveNetwork(ctx, name, e.n.uuid("network"))
	case journal.KindDirectory:
		return e.removeDir(name)
	}
	return fmt.Errorf("unknown kind of resource: it was written by a newer imago")
}

// endBackup ends our backup job on a production domain after a crash.
func (e *Engine) endBackup(ctx context.Context, domain string) error {
	dom, err := e.conn.LookupDomain(domain)
	if errors.Is(err, hypervisor.ErrNoDomain) {
		return nil
	}
	if err != nil {
		return err
	}
	err = snapshot.EndJob(ctx, dom.Raw(), e.n.scratchDir())
	if errors.Is(err, snapshot.ErrForeignJob) {
		return nil // ours is gone, and what runs is somebody else's
	}
	return err
}

// removeDir removes a directory of the run. The guests' consoles are kept beside
// the report: they are what one looks at after a failure.
func (e *Engine) removeDir(dir string) error {
	consoles, err := filepath.Glob(filepath.Join(dir, "*.console.log"))
	if err != nil {
		return err
	}
	for _, c := range consoles {
		if err := makeDir(e.n.reportDir()); err != nil {
			return err
		}
		if err := os.Rename(c, filepath.Join(e.n.reportDir(), filepath.Base(c))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("keep a guest's console: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	// The parent is ours, too; it goes with its last run.
	if err := os.Remove(filepath.Dir(dir)); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
