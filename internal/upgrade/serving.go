package upgrade

import (
	"context"
	"fmt"
	"time"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
)

// servingLimit is how long the new version may take to answer after the last
// step that started it.
const servingLimit = time.Minute

// awaitServing waits until the new version answers where clients will be led. A
// step that started it, as systemctl does, may have returned before it listens,
// and the first clients would be refused.
func (e *Engine) awaitServing(ctx context.Context, u *netswitch.Universe) error {
	for _, s := range e.plan.Services {
		vm := e.vm(s.New.VM)
		dom, err := e.conn.LookupDomain(e.n.domain(vm.Name))
		if err != nil {
			return err
		}
		var list []hypervisor.Condition
		for _, r := range serving(vm, s) {
			c := e.condition(u, vm, r, nil)
			c.Liveness = dom.Alive
			list = append(list, c)
		}
		if err := hypervisor.WaitReady(ctx, vm.Name, list, nil); err != nil {
			return &outcome{ErrStep, fmt.Errorf("the new version does not serve %s: %w", s.Name, err)}
		}
	}
	return nil
}

// serving are the conditions for clients: the service's own port and what the
// plan asks of the VM from outside.
func serving(vm plan.VM, s plan.Service) []plan.Readiness {
	list := []plan.Readiness{{TCP: s.New.Port, Timeout: plan.Duration{Duration: servingLimit},
		Hint: "the plan's steps must leave the new version running"}}
	for _, r := range vm.Ready {
		if r.TCP != 0 && r.TCP != s.New.Port || r.HTTP != nil {
			list = append(list, r)
		}
	}
	return list
}
