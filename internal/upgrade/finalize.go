package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
)

// shutdownLimit is how long an old VM has to shut down by itself.
const shutdownLimit = 3 * time.Minute

// Finalize promotes the universe: the old VMs are shut down (and kept, off), the
// new VMs' network cards move to the production network, and the VIP map points
// at them there. There is no way back afterwards but by hand. What was cut short
// may be given again.
func (e *Engine) Finalize(ctx context.Context) error {
	if err := e.samePlan(ctx); err != nil {
		return err
	}
	return e.phase(ctx, phaseFinalize, func(ctx context.Context) error {
		// Before clients are held: the old VMs serve nobody, their shutdown takes
		// long, and the new VMs may have the same addresses.
		if err := e.retire(ctx); err != nil {
			return err
		}
		services, _ := e.services()
		h, _, err := e.hold(ctx, services)
		if err != nil {
			return fmt.Errorf("the old VMs are off, the new ones were not moved: %w", err)
		}
		if err := errors.Join(e.promote(ctx, services), e.release(ctx, h)); err != nil {
			return err
		}
		return e.removeUniverse(ctx)
	})
}

// promote moves the new VMs and the VIP map, while clients wait.
func (e *Engine) promote(ctx context.Context, services []netswitch.Service) error {
	for _, vm := range e.plan.Universe.VMs {
		if vm.Role == plan.RoleSource {
			continue
		}
		if err := e.moveNICs(ctx, vm); err != nil {
			return err
		}
	}
	return e.mapToBridge(ctx, services)
}

// retire shuts the old VMs down. Their definitions and disks stay.
func (e *Engine) retire(ctx context.Context) error {
	for _, vm := range e.plan.Production.VMs {
		dom, err := e.conn.LookupDomain(vm.Domain)
		if err != nil {
			return err
		}
		e.see.step("shutting down " + vm.Domain + "; it is kept for " + e.plan.Keep.OldVMs.String())
		if err := dom.Shutdown(ctx, shutdownLimit); err != nil {
			return fmt.Errorf("shut down %s: %w", vm.Domain, err)
		}
	}
	return nil
}

func (e *Engine) moveNICs(ctx context.Context, vm plan.VM) error {
	dom, err := e.conn.LookupDomain(e.n.domain(vm.Name))
	if err != nil {
		return err
	}
	nics, err := dom.NICs(ctx)
	if err != nil {
		return err
	}
	to := hypervisor.NICTarget{Network: e.plan.Production.Network, Bridge: e.plan.Production.Bridge}
	for _, n := range nics {
		if err := dom.MoveNIC(ctx, n.MAC, to); err != nil {
			return fmt.Errorf("move %s to the production network: %w", vm.Name, err)
		}
	}
	e.see.step(vm.Name + " is on the production network")
	if err := dom.AnnounceSelf(ctx); err != nil {
		// Neighbours ask for the address again by themselves, later.
		e.see.warning(fmt.Sprintf("%s could not announce itself: %v", vm.Name, err))
	}
	return netswitch.ForgetNeighbour(ctx, vm.Address)
}

// mapToBridge points the VIP map at the new VMs where they are now.
func (e *Engine) mapToBridge(ctx context.Context, services []netswitch.Service) error {
	direct := e.promoted(services)
	m, err := netswitch.NewVIPMap(e.n.run, direct, e.log)
	if err != nil {
		return err
	}
	if err := m.Flip(ctx, netswitch.New); err != nil {
		return err
	}
	for _, s := range direct {
		e.see.step(fmt.Sprintf("%s leads to %s through imago's nftables table; change the host's own rules to that, too, before it starts anew", s.VIP, s.New))
	}
	_, err = netswitch.DropOldFlows(ctx, direct, netswitch.New)
	return err
}

// promoted are the services as they are after finalize: old is the way through
// the universe's gateway, new the VM itself.
func (e *Engine) promoted(services []netswitch.Service) []netswitch.Service {
	direct := make([]netswitch.Service, len(services))
	for i, s := range services {
		direct[i] = s
		direct[i].Old = s.New
		direct[i].New = addrPort(e.vm(e.plan.Services[i].New.VM).Address, uint16(e.plan.Services[i].New.Port))
	}
	return direct
}

// removeUniverse removes what the new VMs need no more: the gateway, the sealed
// network, sockets and scratch space.
func (e *Engine) removeUniverse(ctx context.Context) error {
	netns, network, sockets := e.n.netns(), e.n.network(), e.n.sockets()
	return errors.Join(
		e.remove(ctx, journal.KindNetNS, netns, func() error { return netswitch.RemoveUniverse(ctx, e.universeSpec()) }),
		e.remove(ctx, journal.KindNetwork, network, func() error { return e.conn.RemoveNetwork(ctx, network, e.n.uuid("network")) }),
		e.remove(ctx, journal.KindDirectory, sockets, func() error { return e.removeDir(sockets) }),
		os.RemoveAll(e.n.scratchDir()),
	)
}
