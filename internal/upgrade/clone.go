package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"libvirt.org/go/libvirtxml"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
	"imago.dev/imago/snapshot"
)

func addrPort(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }

// vm finds a VM of the universe; the plan was checked, so it is there.
func (e *Engine) vm(name string) plan.VM {
	for _, v := range e.plan.Universe.VMs {
		if v.Name == name {
			return v
		}
	}
	return plan.VM{}
}

// CloneEvidence says what was cloned and how long it took.
type CloneEvidence struct {
	Seconds float64       `json:"seconds"` // until all VMs of the universe were ready
	Taken   time.Time     `json:"taken"`   // the instant of the views
	PerVM   []CloneVM     `json:"per_vm"`
	Frozen  []FrozenGuest `json:"frozen"`
	Pulled  uint64        `json:"pulled_bytes"`
	mu      sync.Mutex
	keep    *sessions // takes the logins over, if it is not nil
}

// CloneVM is one VM of the universe.
type CloneVM struct {
	Name         string  `json:"name"`
	From         string  `json:"from"`
	StartSeconds float64 `json:"start_seconds"` // until QEMU ran
	ReadySeconds float64 `json:"ready_seconds"` // until the guest was ready
}

// FrozenGuest is a production guest whose file systems stood still for the instant.
type FrozenGuest struct {
	Domain      string  `json:"domain"`
	Millis      float64 `json:"ms"`
	Consistency string  `json:"consistency"`
}

// Clone makes the universe: its sealed network, the VMs from new images and
// the clones of the production VMs, all from one instant. When it returns the
// clones need production no more.
func (e *Engine) Clone(ctx context.Context) error {
	if err := e.samePlan(ctx); err != nil {
		return err
	}
	return e.phase(ctx, phaseClone, func(ctx context.Context) error {
		if !e.checked {
			if err := e.check(ctx); err != nil {
				return err
			}
		}
		err := e.clone(ctx)
		if err == nil {
			return nil
		}
		// Nothing half-made: the universe goes, production is as it was.
		undo, cancel := cleanup(ctx)
		defer cancel()
		e.see.step("removing what was made of the universe")
		return errors.Join(err, e.removeEverything(undo), e.proveUntouched(undo))
	})
}

func (e *Engine) clone(ctx context.Context) error {
	began := time.Now()
	domains, err := e.productionDomains(ctx)
	if err != nil {
		return err
	}
	if err := e.fingerprint(ctx, evidenceBefore, domains); err != nil {
		return err
	}
	u, err := e.openUniverse(ctx)
	if err != nil {
		return err
	}
	defer u.Close()
	e.see.step("the universe's network is up and sealed")
	ev := &CloneEvidence{}
	err = awaitAll(ctx, func(ctx context.Context, ready *errgroup.Group) error {
		if err := e.startImages(ctx, u, ready, ev, began); err != nil {
			return err
		}
		return e.cloneFromView(ctx, u, domains, ready, ev, began)
	})
	if err != nil {
		return err
	}
	ev.Seconds = time.Since(began).Seconds()
	e.see.step(fmt.Sprintf("all VMs of the universe were ready after %.1f s", ev.Seconds))
	if err := e.j.Put(ctx, e.run.ID, evidenceClone, ev); err != nil {
		return err
	}
	return e.proveIsolation(ctx, domains)
}

// awaitAll runs start, which puts waiters into a group, and waits for them. The
// first failure of either ends the others.
func awaitAll(ctx context.Context, start func(context.Context, *errgroup.Group) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ready, ctx := errgroup.WithContext(ctx)
	err := start(ctx, ready)
	if err != nil {
		stop(err)
		_ = ready.Wait() // says the same, less well
		return err
	}
	return ready.Wait()
}

// productionDomains looks all production VMs up.
func (e *Engine) productionDomains(ctx context.Context) (map[string]*hypervisor.Domain, error) {
	found := map[string]*hypervisor.Domain{}
	for _, vm := range e.plan.Production.VMs {
		dom, err := e.conn.LookupDomain(vm.Domain)
		if err != nil {
			return nil, err
		}
		found[vm.Domain] = dom
	}
	return found, nil
}

// startImages starts the VMs from new images; they boot while production's
// disks are viewed.
func (e *Engine) startImages(ctx context.Context, u *netswitch.Universe, ready *errgroup.Group, ev *CloneEvidence, began time.Time) error {
	for _, vm := range e.plan.Universe.VMs {
		if vm.Image == nil {
			continue
		}
		header, err := hypervisor.ReadImageHeader(vm.Image.Disk, string(vm.Image.Format))
		if err != nil {
			return fmt.Errorf("image of %s: %w", vm.Name, err)
		}
		if err := snapshot.CreateOverlayOnFile(ctx, e.n.overlay(vm.Name, "vda"), vm.Image.Disk, string(vm.Image.Format), header.VirtualSize); err != nil {
			return fmt.Errorf("disk of %s: %w", vm.Name, err)
		}
		doc, err := e.imageXML(vm)
		if err != nil {
			return err
		}
		if err := e.startVM(ctx, u, vm, doc, "image "+vm.Image.Disk, ready, ev, began); err != nil {
			return err
		}
	}
	return nil
}

// startVM defines and starts one VM of the universe and waits for it in ready.
func (e *Engine) startVM(ctx context.Context, u *netswitch.Universe, vm plan.VM, doc *libvirtxml.Domain, from string, ready *errgroup.Group, ev *CloneEvidence, began time.Time) error {
	name := e.n.domain(vm.Name)
	var dom *hypervisor.Domain
	err := e.make(ctx, journal.KindDomain, name, func() (err error) {
		if dom, err = e.conn.Define(ctx, doc); err != nil {
			return err
		}
		return dom.Start(ctx)
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", vm.Name, err)
	}
	started := time.Since(began).Seconds()
	e.see.step(vm.Name + " boots (" + from + ")")
	ready.Go(func() error {
		if err := e.awaitReady(ctx, u, vm, dom, ev.keep); err != nil {
			return err
		}
		ev.mu.Lock()
		defer ev.mu.Unlock()
		ev.PerVM = append(ev.PerVM, CloneVM{Name: vm.Name, From: from, StartSeconds: started, ReadySeconds: time.Since(began).Seconds()})
		e.see.step(fmt.Sprintf("%s is ready", vm.Name))
		return nil
	})
	return nil
}

// cloneFromView takes the view, starts the clones on it, copies the rest in the
// background and ends the view, so that production is as it was.
func (e *Engine) cloneFromView(ctx context.Context, u *netswitch.Universe, domains map[string]*hypervisor.Domain, ready *errgroup.Group, ev *CloneEvidence, began time.Time) error {
	if err := e.notePositions(ctx); err != nil {
		return err
	}
	set, err := e.takeView(ctx, domains, e.wantsClones(false), ev)
	if err != nil || set == nil {
		return err
	}
	err = e.startClones(ctx, u, domains, set, ready, ev, began)
	if err == nil {
		err = e.pullGoverned(ctx, domains, set, ev)
	}
	end, cancel := cleanup(ctx)
	defer cancel()
	if err != nil {
		// The clones go first: QEMU reads from the view.
		err = errors.Join(err, e.removeClones(end, false))
	}
	return errors.Join(err, e.endView(end, set, domains))
}

// takeView writes the jobs down and takes the view of one instant.
func (e *Engine) takeView(ctx context.Context, domains map[string]*hypervisor.Domain, want wanted, ev *CloneEvidence) (*snapshot.Set, error) {
	sources, err := e.sources(ctx, domains, want)
	if err != nil || len(sources) == 0 {
		return nil, err
	}
	for _, s := range sources {
		if _, err := e.intend(ctx, journal.KindBackupJob, s.Name); err != nil {
			return nil, err
		}
	}
	set, err := snapshot.Take(ctx, sources, snapshot.Options{
		Dir: e.n.scratchDir(), SocketDir: e.n.sockets(), FreezeTimeout: e.plan.Limits.Freeze.Duration,
		GuardCommand: []string{e.opts.Executable, "guard-thaw"}, URI: e.plan.Connect, Log: e.log,
	})
	if err != nil {
		return nil, err
	}
	ev.Taken, ev.Frozen = set.Taken(), nil
	for _, r := range set.Report() {
		f := FrozenGuest{Domain: r.Name, Millis: float64(r.Frozen.Microseconds()) / 1000, Consistency: "file systems frozen"}
		if !r.Consistency.FileSystems {
			f.Consistency = "as after a power cut: " + r.Consistency.Why
		}
		ev.Frozen = append(ev.Frozen, f)
		e.see.step(fmt.Sprintf("view of %s taken (%s, frozen for %.0f ms)", f.Domain, f.Consistency, f.Millis))
	}
	return set, e.freezeWanted(ctx, set, ev.Frozen)
}

// freezeWanted ends a view that is less than the plan asks for.
func (e *Engine) freezeWanted(ctx context.Context, set *snapshot.Set, frozen []FrozenGuest) error {
	for _, vm := range e.plan.Production.VMs {
		for _, f := range frozen {
			if f.Domain == vm.Domain && vm.Freeze == plan.FreezeRequired && f.Consistency != "file systems frozen" {
				end, cancel := cleanup(ctx)
				defer cancel()
				return errors.Join(fmt.Errorf("the plan requires that %s freezes its file systems, and it did not (%s)", f.Domain, f.Consistency), set.End(end))
			}
		}
	}
	return nil
}

// endView ends the backup jobs, so that production is as before.
func (e *Engine) endView(ctx context.Context, set *snapshot.Set, domains map[string]*hypervisor.Domain) error {
	if err := set.End(ctx); err != nil {
		return err
	}
	for name := range domains {
		if err := e.gone(ctx, journal.KindBackupJob, name); err != nil {
			return err
		}
	}
	return nil
}

// startClones starts every clone of the plan on the view.
func (e *Engine) startClones(ctx context.Context, u *netswitch.Universe, domains map[string]*hypervisor.Domain, set *snapshot.Set, ready *errgroup.Group, ev *CloneEvidence, began time.Time) error {
	for _, vm := range e.plan.Universe.VMs {
		if vm.Clone == "" {
			continue
		}
		if err := e.startClone(ctx, u, vm, domains, set, ready, ev, began); err != nil {
			return err
		}
	}
	return nil
}

// startClone makes the disks of one clone and starts it on them.
func (e *Engine) startClone(ctx context.Context, u *netswitch.Universe, vm plan.VM, domains map[string]*hypervisor.Domain, set *snapshot.Set, ready *errgroup.Group, ev *CloneEvidence, began time.Time) error {
	if err := e.makeOverlays(ctx, domains[vm.Clone], vm, set); err != nil {
		return fmt.Errorf("disks of %s: %w", vm.Name, err)
	}
	if err := e.copyNVRAM(ctx, domains[vm.Clone], vm); err != nil {
		return err
	}
	doc, err := e.cloneXML(ctx, domains[vm.Clone], vm, set)
	if err != nil {
		return err
	}
	return e.startVM(ctx, u, vm, doc, "clone of "+vm.Clone, ready, ev, began)
}

func (e *Engine) makeOverlays(ctx context.Context, src *hypervisor.Domain, vm plan.VM, set *snapshot.Set) error {
	disks, err := src.Disks(ctx)
	if err != nil {
		return err
	}
	for _, d := range writable(disks) {
		if err := e.makeOverlay(ctx, set, vm.Clone, d.Target, e.n.overlay(vm.Name, d.Target)); err != nil {
			return err
		}
	}
	for _, at := range vm.Attach {
		if err := e.makeOverlay(ctx, set, at.From, at.Disk, e.n.overlay(vm.Name, at.From+"-"+at.Disk)); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) makeOverlay(ctx context.Context, set *snapshot.Set, domain, target, path string) error {
	view, err := set.View(domain, target)
	if err != nil {
		return err
	}
	return snapshot.CreateOverlay(ctx, path, view)
}

// pullGoverned copies at a rate that production does not feel.
func (e *Engine) pullGoverned(ctx context.Context, domains map[string]*hypervisor.Domain, set *snapshot.Set, ev *CloneEvidence) error {
	gov, err := e.govern(ctx, domains, nil)
	if err != nil {
		return err
	}
	err = e.pullClones(ctx, set, gov.pull, ev)
	return errors.Join(err, gov.close())
}

// pullClones copies what the clones' overlays still read from production.
func (e *Engine) pullClones(ctx context.Context, set *snapshot.Set, rate *snapshot.Rate, ev *CloneEvidence) error {
	for _, vm := range e.plan.Universe.VMs {
		if vm.Clone == "" {
			continue
		}
		dom, err := e.conn.LookupDomain(e.n.domain(vm.Name))
		if err != nil {
			return err
		}
		disks, err := dom.Disks(ctx)
		if err != nil {
			return err
		}
		var targets []string
		for _, d := range writable(disks) {
			targets = append(targets, d.Target)
		}
		var total uint64
		err = snapshot.Pull(ctx, dom.Raw(), targets, rate, func(done, all uint64) {
			total = all
			e.see.progress("copying the disks of "+vm.Name, "B", done, all)
		})
		if err != nil {
			return fmt.Errorf("copy the disks of %s: %w", vm.Name, errors.Join(err, set.Err()))
		}
		ev.Pulled += total
	}
	return nil
}
