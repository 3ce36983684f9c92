package upgrade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"imago.dev/imago/internal/control"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/transfer/apply"
)

// Tune changes the limits of the copies of the plan's run, or pauses or resumes
// them: at once where an imago is at work, and for all that follow. Production is
// not asked anything. It returns what holds from now on and whether somebody
// heard it at once.
func Tune(ctx context.Context, p *plan.Plan, log *slog.Logger, change func(*Tuning)) (t Tuning, live bool, err error) {
	nothing := refuse(fmt.Errorf("plan %s has no upgrade under way: there is nothing to tune", p.Name))
	look, err := journal.OpenReadOnly(ctx, journalDir(p))
	if errors.Is(err, journal.ErrNone) {
		return t, false, nothing // and none is made
	}
	if err == nil {
		err = look.Close()
	}
	if err != nil {
		return t, false, err
	}
	j, err := journal.Open(ctx, journalDir(p))
	if err != nil {
		return t, false, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	e := &Engine{plan: p, log: log, j: j, see: newObserver(nil)}
	if err := e.findRun(ctx); err != nil {
		return t, false, err
	}
	if !e.live() {
		return t, false, nothing
	}
	if _, err := e.get(ctx, evidenceTuning, &t); err != nil {
		return t, false, err
	}
	change(&t)
	if err := j.Put(ctx, e.run.ID, evidenceTuning, t); err != nil {
		return t, false, err
	}
	err = control.Ask(ctx, e.n.control(), "tune", t, nil)
	if errors.Is(err, control.ErrNobody) {
		return t, false, nil
	}
	return t, err == nil, err
}

// askLive asks the imago at work on the plan's run how it is going; nil is
// returned when none is.
func askLive(ctx context.Context, n names) (*Live, error) {
	var l Live
	err := control.Ask(ctx, n.control(), "live", nil, &l)
	if errors.Is(err, control.ErrNobody) {
		return nil, nil
	}
	return &l, err
}

// Rejected lists the objects that conversions set aside, by data set. With retry
// they are converted again first.
func (e *Engine) Rejected(ctx context.Context, retry bool) (map[string][]apply.Rejected, error) {
	all := map[string][]apply.Rejected{}
	err := e.withFlows(ctx, course{name: "rejected"}, func(ctx context.Context, flows *rowFlows) error {
		for _, f := range flows.flows {
			if retry {
				if err := f.agent.Retry(ctx); err != nil {
					return err
				}
			}
			list, err := f.agent.Rejected(ctx)
			if err != nil {
				return err
			}
			all[f.set.Name] = list
		}
		return nil
	})
	return all, err
}
