package upgrade

import (
	"context"

	"imago.dev/imago/internal/journal"
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
