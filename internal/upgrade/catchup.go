package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"imago.dev/imago/internal/journal"
	"imago.dev/imago/netswitch"
)

// CatchUp brings what production changed meanwhile into the new version; with
// follow it goes on until ctx ends. The switch does the same by itself, so this
// only spares it time, and production's log its length.
func (e *Engine) CatchUp(ctx context.Context, follow bool) error {
	return e.withFlows(ctx, course{name: "catchup"}, func(ctx context.Context, flows *rowFlows) (err error) {
		domains, err := e.productionDomains(ctx)
		if err != nil {
			return err
		}
		gov, err := e.govern(ctx, domains, flows)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, gov.close()) }()
		if err := flows.catchUp(ctx); err != nil {
			return err
		}
		if err := flows.record(ctx, nil); err != nil || !follow {
			return err
		}
		e.see.step("following production; Ctrl-C ends it, and nothing is lost by that")
		return errors.Join(flows.follow(ctx), flows.record(context.WithoutCancel(ctx), nil))
	})
}

// withFlows runs act with all data sets under way, in a state in which there are
// any.
func (e *Engine) withFlows(ctx context.Context, c course, act func(context.Context, *rowFlows) error) error {
	if len(e.plan.Data) == 0 {
		return refuse(fmt.Errorf("plan %s has no data sets (data:), so no rows flow", e.plan.Name))
	}
	switch e.run.State {
	case journal.Cloned, journal.Converted, journal.Tested:
	default:
		return &outcome{ErrOrder, fmt.Errorf("%s is not possible now: the upgrade is %s; rows flow from 'imago convert' to 'imago switch'", c.name, e.run.State)}
	}
	return e.inUniverse(ctx, c, func(ctx context.Context, u *netswitch.Universe, s *sessions) (err error) {
		flows, err := e.openRowFlows(ctx, u, s)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, flows.close()) }()
		return act(ctx, flows)
	})
}

// follow goes on until ctx ends or a data set fails.
func (r *rowFlows) follow(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for _, f := range r.flows {
			if err := f.failed(); err != nil {
				return err
			}
			p, _ := f.agent.Progress()
			r.e.see.progress(fmt.Sprintf("%s is %.1f s behind", f.set.Name, f.lag().Seconds()), "changes", p.Changes, p.Changes)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
