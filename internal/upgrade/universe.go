package upgrade

import (
	"context"
	"fmt"
	"os"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/netswitch"
)

func (e *Engine) networkSpec() hypervisor.NetworkSpec {
	return hypervisor.NetworkSpec{Name: e.n.network(), UUID: e.n.uuid("network"), Bridge: e.n.bridge()}
}

func (e *Engine) universeSpec() netswitch.UniverseSpec {
	return netswitch.UniverseSpec{
		Name: e.n.netns(), ID: e.n.run, Bridge: e.n.bridge(), Gateways: e.plan.Production.Gateways,
		Transit: e.plan.Universe.Transit, Log: e.log,
	}
}

// openUniverse makes the directory, the network and the sealed gateway.
func (e *Engine) openUniverse(ctx context.Context) (*netswitch.Universe, error) {
	for _, dir := range []string{e.n.dir(), e.n.sockets()} {
		err := e.make(ctx, journal.KindDirectory, dir, func() error { return makeDir(dir) })
		if err != nil {
			return nil, err
		}
	}
	if err := makeDir(e.n.scratchDir()); err != nil {
		return nil, err
	}
	spec := e.networkSpec()
	err := e.make(ctx, journal.KindNetwork, spec.Name, func() error {
		if err := e.conn.DefineNetwork(ctx, spec); err != nil {
			return err
		}
		return e.conn.StartNetwork(ctx, spec.Name, spec.UUID)
	})
	if err != nil {
		return nil, err
	}
	var u *netswitch.Universe
	return u, e.make(ctx, journal.KindNetNS, e.n.netns(), func() error {
		u, err = netswitch.OpenUniverse(ctx, e.universeSpec())
		return err
	})
}

// makeDir makes a folder that QEMU, which may run as another user, can enter.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	return nil
}

// findUniverse takes up the gateway that an earlier phase made.
func (e *Engine) findUniverse(ctx context.Context) (*netswitch.Universe, error) {
	u, err := netswitch.FindUniverse(ctx, e.universeSpec())
	if err != nil {
		return nil, fmt.Errorf("find the universe of run %s: %w; if the host was started anew, 'imago abort' and begin again", e.n.run, err)
	}
	return u, nil
}

// inUniverse runs a phase that works in the universe made by an earlier one,
// with logins to its VMs that end with the phase.
func (e *Engine) inUniverse(ctx context.Context, c course, act func(context.Context, *netswitch.Universe, *sessions) error) error {
	if err := e.samePlan(ctx); err != nil {
		return err
	}
	return e.phase(ctx, c, func(ctx context.Context) error {
		u, err := e.findUniverse(ctx)
		if err != nil {
			return err
		}
		defer u.Close()
		s := e.sessions(u)
		defer s.close()
		return act(ctx, u, s)
	})
}

// services is the VIP map of the plan. Each service is published at a port of
// the gateway's transit address, counted up so that no two meet.
func (e *Engine) services() ([]netswitch.Service, []netswitch.Publication) {
	const firstPort = 20000
	var services []netswitch.Service
	var pubs []netswitch.Publication
	for i, s := range e.plan.Services {
		port := uint16(firstPort + i)
		app := netswitch.Opaque
		if s.Protocol == "http" {
			app = netswitch.HTTP
		}
		services = append(services, netswitch.Service{
			Name: s.Name, VIP: s.VIP, Proto: netswitch.TCP, Old: s.Old,
			New: addrPort(e.universeSpec().Addr(), port), App: app,
		})
		pubs = append(pubs, netswitch.Publication{TransitPort: port, To: addrPort(e.vm(s.New.VM).Address, uint16(s.New.Port)), Proto: netswitch.TCP})
	}
	return services, pubs
}
