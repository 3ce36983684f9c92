package upgrade

import (
	"context"
	"fmt"

	"imago.dev/imago/internal/journal"
	"imago.dev/imago/netswitch"
)

// Abort gives the upgrade up: everything that imago made is found by name and
// removed, and production is compared with how it was. It works from every
// state before the switch, after a rollback, and after a crash at any moment;
// it may be repeated.
func (e *Engine) Abort(ctx context.Context) error {
	if !e.live() {
		e.see.step("no upgrade of this plan is under way: nothing to do")
		return nil
	}
	if err := e.nobodyOnNew(ctx); err != nil {
		return err
	}
	return e.phase(ctx, phaseAbort, func(ctx context.Context) error {
		if u, err := e.findUniverse(ctx); err == nil {
			if e.run.State.BeforeSwitch() || e.run.State == journal.Aborting {
				_ = e.recordAttempts(ctx, u) // for the report only
			}
			_ = u.Close()
		}
		if err := e.removeEverything(ctx); err != nil {
			return err
		}
		e.see.step("everything that imago made is removed")
		return e.proveUntouched(ctx)
	})
}

// nobodyOnNew refuses to pull the new version away from under its clients: after
// a failure the state alone does not say where they are.
func (e *Engine) nobodyOnNew(ctx context.Context) error {
	if e.run.State != journal.Failed {
		return nil
	}
	side, err := e.side(ctx, e.n)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownSide, err)
	}
	if side == netswitch.New || side == netswitch.Mixed {
		return refuse(fmt.Errorf("the clients reach the %s version: 'imago rollback' leads them back first", side))
	}
	return nil
}
