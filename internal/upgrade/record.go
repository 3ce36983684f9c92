package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"imago.dev/imago/internal/journal"
)

// make writes a resource down, makes it, and writes that it is there.
func (e *Engine) make(ctx context.Context, kind journal.Kind, name string, act func() error) error {
	id, err := e.intend(ctx, kind, name)
	if err != nil {
		return err
	}
	if err := act(); err != nil {
		return err // stays written down: whoever cleans up looks whether it is there
	}
	return e.j.Made(ctx, id)
}

func (e *Engine) intend(ctx context.Context, kind journal.Kind, name string) (int64, error) {
	return e.j.Intend(ctx, e.run.ID, journal.Resource{Kind: kind, Name: name})
}

// remove takes a resource away and writes that it is gone.
func (e *Engine) remove(ctx context.Context, kind journal.Kind, name string, act func() error) error {
	if err := act(); err != nil {
		return err
	}
	return e.gone(ctx, kind, name)
}

// gone writes down that a resource was removed, or was seen not to be there.
func (e *Engine) gone(ctx context.Context, kind journal.Kind, name string) error {
	standing, err := e.j.Standing(ctx, e.run.ID)
	if err != nil {
		return err
	}
	for _, r := range standing {
		if r.Kind == kind && r.Name == name {
			if err := e.j.Gone(ctx, r.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// course says through which states a phase leads the run.
type course struct {
	name   string
	during journal.State // while it runs; 0 for a phase that only reads
	done   journal.State // when it ended well
	back   journal.State // when it failed and its work was undone
}

// The phases of an upgrade. A verb of the command is one of them.
var (
	phaseCheck    = course{"check", 0, journal.Checked, 0}
	phaseClone    = course{"clone", journal.Cloning, journal.Cloned, journal.Checked}
	phaseConvert  = course{"convert", journal.Converting, journal.Converted, journal.Cloned}
	phaseTest     = course{"test", journal.Testing, journal.Tested, journal.Converted}
	phaseSwitch   = course{"switch", journal.Switching, journal.Switched, journal.Tested}
	phaseRollback = course{"rollback", journal.RollingBack, journal.RolledBack, journal.Switched}
	phaseFinalize = course{"finalize", journal.Finalizing, journal.Finalized, journal.Switched}
	phaseAbort    = course{"abort", journal.Aborting, journal.Aborted, 0}
)

// phase runs one phase of the run and writes down how it went.
func (e *Engine) phase(ctx context.Context, c course, act func(context.Context) error) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	if c.during != 0 {
		if err := e.enter(ctx, c); err != nil {
			return err
		}
	}
	began := time.Now()
	e.see.send(Event{Kind: EventPhase, Name: c.name})
	span, err := e.j.StartPhase(ctx, e.run.ID, c.name)
	if err != nil {
		return err
	}
	actErr := act(ctx)
	after, cancel := cleanup(ctx)
	defer cancel()
	ev := Event{Kind: EventDone, Name: c.name, Seconds: time.Since(began).Seconds()}
	outcome, detail := journal.Done, ""
	if actErr != nil {
		outcome, detail = journal.FailedPhase, actErr.Error()
		ev.Kind, ev.Text = EventFailed, detail
	}
	err = errors.Join(actErr, span.End(after, outcome, detail), e.leave(after, c, actErr))
	e.see.send(ev)
	return err
}

// enter moves the run into a phase, if its state allows that.
func (e *Engine) enter(ctx context.Context, c course) error {
	err := e.become(ctx, c.during, "")
	if errors.Is(err, journal.ErrTransition) {
		return &outcome{ErrOrder, fmt.Errorf("%s is not possible now: the upgrade is %s; 'imago status' shows what it can do next", c.name, e.run.State)}
	}
	return err
}

// leave moves the run out of a phase. A phase may have moved it itself: the
// switch counts from the moment of the flip.
func (e *Engine) leave(ctx context.Context, c course, actErr error) error {
	to, reason := c.done, ""
	if actErr != nil {
		to, reason = c.back, actErr.Error()
		if errors.Is(actErr, ErrUnknownSide) {
			to = journal.Failed
		}
	}
	if to == 0 || e.run.State == to || c.during == 0 && !e.run.State.CanBecome(to) || c.during != 0 && e.run.State != c.during {
		return nil
	}
	return e.become(ctx, to, reason)
}

// become moves the run to a state.
func (e *Engine) become(ctx context.Context, to journal.State, reason string) error {
	if err := e.j.Transition(ctx, e.run.ID, to, reason); err != nil {
		return err
	}
	e.run.State = to
	return nil
}
