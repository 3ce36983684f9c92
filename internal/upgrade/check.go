package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/images"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
)

// Check looks at everything that the upgrade will need and changes nothing.
// It returns all reasons against it at once, as [Problems].
func (e *Engine) Check(ctx context.Context) error {
	if err := e.samePlan(ctx); err != nil {
		return err
	}
	return e.phase(ctx, phaseCheck, func(ctx context.Context) error {
		err := e.check(ctx)
		e.checked = err == nil
		return err
	})
}

// check is Check without the record of a phase.
func (e *Engine) check(ctx context.Context) error {
	var problems Problems
	note := func(what string, err error) {
		if err != nil {
			problems = append(problems, Problem{what, err})
		}
	}
	domains := e.checkProduction(ctx, note)
	e.checkClones(ctx, domains, note)
	e.checkFiles(ctx, domains, note)
	e.checkData(ctx, note)
	e.checkImages(ctx, note)
	for _, s := range e.plan.Services {
		note("service "+s.Name, netswitch.CheckVIP(ctx, s.VIP.Addr()))
	}
	note("host", checkForwarding())
	note("universe.transit", e.checkTransit(ctx))
	e.checkRoom(ctx, domains, note)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("check: %w", context.Cause(ctx))
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// checkProduction looks the production VMs up. Only those found are returned.
func (e *Engine) checkProduction(ctx context.Context, note func(string, error)) map[string]*hypervisor.Domain {
	found := map[string]*hypervisor.Domain{}
	for _, vm := range e.plan.Production.VMs {
		dom, err := e.conn.LookupDomain(vm.Domain)
		if err != nil {
			note("production VM "+vm.Domain, fmt.Errorf("%w: 'virsh -c %s list --all' shows the domains there are", err, e.plan.Connect))
			continue
		}
		found[vm.Domain] = dom
		st, err := dom.State()
		switch {
		case err != nil:
			note("production VM "+vm.Domain, err)
		case !st.Running():
			note("production VM "+vm.Domain, fmt.Errorf("it is %s: an upgrade clones running VMs; start it, or take it out of the plan", st))
		case vm.Freeze == plan.FreezeRequired:
			note("production VM "+vm.Domain+": freeze: required", dom.AgentResponds(ctx))
		}
	}
	return found
}

// checkClones tries the rewriting of each clone's XML, and looks for the disks
// that are attached elsewhere.
func (e *Engine) checkClones(ctx context.Context, domains map[string]*hypervisor.Domain, note func(string, error)) {
	for _, vm := range e.plan.Universe.VMs {
		if dom := domains[vm.Clone]; vm.Clone != "" && dom != nil {
			_, err := e.cloneXML(ctx, dom, vm, nil)
			note("clone of "+vm.Clone, err)
		}
		for _, at := range vm.Attach {
			if dom := domains[at.From]; dom != nil {
				_, err := diskOf(ctx, dom, at.Disk)
				note(fmt.Sprintf("disk %s of %s for %s", at.Disk, at.From, vm.Name), err)
			}
		}
	}
}

// checkFiles looks for the disks of the file sets.
func (e *Engine) checkFiles(ctx context.Context, domains map[string]*hypervisor.Domain, note func(string, error)) {
	for _, f := range e.plan.Files {
		if dom := domains[f.From.Domain]; dom != nil {
			_, err := diskOf(ctx, dom, f.From.Disk)
			note("files "+f.Name, err)
		}
	}
}

// diskOf finds a disk that a view can be taken of.
func diskOf(ctx context.Context, dom *hypervisor.Domain, target string) (hypervisor.Disk, error) {
	disks, err := dom.Disks(ctx)
	if err != nil {
		return hypervisor.Disk{}, err
	}
	var have []string
	for _, d := range disks {
		if d.Target != target {
			have = append(have, d.Target)
			continue
		}
		if d.Path == "" {
			return d, fmt.Errorf("disk %s of %s is not an image file, and only those can be viewed", target, dom.Name())
		}
		return d, nil
	}
	return hypervisor.Disk{}, fmt.Errorf("domain %s has no disk %q: it has %s", dom.Name(), target, strings.Join(have, ", "))
}

func (e *Engine) checkImages(ctx context.Context, note func(string, error)) {
	for _, vm := range e.plan.Universe.VMs {
		if vm.Image == nil {
			continue
		}
		note("image of "+vm.Name, checkImage(ctx, vm.Image))
	}
}

func checkImage(ctx context.Context, img *plan.Image) error {
	for _, path := range []string{img.Kernel, img.Initrd} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	got, err := images.FileSHA256(ctx, img.Disk)
	if err != nil {
		return err
	}
	if !strings.EqualFold(got, img.SHA256) {
		return fmt.Errorf("%s has sha256 %s, and the plan wants %s: the image is not the one that was planned with", img.Disk, got, img.SHA256)
	}
	return nil
}

func checkForwarding() error {
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(raw)) != "1" {
		return fmt.Errorf("%w: clients' packets cannot reach VMs through this host; set it with sysctl -w net.ipv4.ip_forward=1", netswitch.ErrForwardingOff)
	}
	return nil
}

// checkTransit refuses a link network that the host uses for something else.
func (e *Engine) checkTransit(ctx context.Context) error {
	if e.live() && e.run.State > journal.Cloning {
		return nil // the universe stands, and it is ours that uses the network
	}
	return netswitch.CheckTransit(ctx, e.plan.Universe.Transit)
}

// checkRoom refuses what does not fit into memory or on disk, before anything
// is made: a full scratch file would stop production.
func (e *Engine) checkRoom(ctx context.Context, domains map[string]*hypervisor.Domain, note func(string, error)) {
	sources, err := e.sources(ctx, domains, e.wantsClones(false).or(e.wantsFiles))
	if err != nil {
		return // said before, by checkClones
	}
	var scratch, memory uint64
	for _, s := range sources {
		for _, d := range s.Disks {
			scratch += d.Capacity
		}
	}
	for _, vm := range e.plan.Universe.VMs {
		mib, err := e.memoryMiB(ctx, vm, domains[vm.Clone])
		if err != nil {
			note("memory of "+vm.Name, err)
		}
		memory += uint64(mib) << 20
	}
	dir := existing(e.plan.StateDir)
	room, err := hypervisor.HostCapacity(dir)
	if err != nil {
		note("host", err)
		return
	}
	// The clones' own writes come on top; a tenth of the disks is a floor, not a bound.
	if need := scratch + scratch/10 + 256<<20; room.DiskFree < need {
		note("disk space", &SpaceError{Dir: dir, Need: need, Free: room.DiskFree})
	}
	if memory > room.MemoryAvailable {
		note("memory", fmt.Errorf("the universe's VMs need %s, and the host has %s available: give them less in the plan, or stop something", BytesText(memory), BytesText(room.MemoryAvailable)))
	}
}

// SpaceError says that the state directory's file system is too small.
type SpaceError struct {
	Dir        string
	Need, Free uint64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s has %s free, and scratch files and overlays need %s: free some space, or set state_dir to a larger file system", e.Dir, BytesText(e.Free), BytesText(e.Need))
}

// existing is the nearest folder on the way to dir that is there already.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || dir == "/" {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}
