package upgrade

import (
	"context"
	"fmt"
	"time"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
)

// Convert runs the plan's conversion steps in the universe, for the first time.
// The switch runs them again with fresh data.
func (e *Engine) Convert(ctx context.Context) error {
	return e.inUniverse(ctx, phaseConvert, func(ctx context.Context, _ *netswitch.Universe, s *sessions) error {
		return e.runSteps(ctx, s, plan.WhenPrepare, evidenceConvert)
	})
}

// StepEvidence says how long a conversion step took.
type StepEvidence struct {
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
}

// runSteps runs the steps that are meant for the occasion, in order.
func (e *Engine) runSteps(ctx context.Context, s *sessions, when plan.When, evidence string) error {
	var done []StepEvidence
	for _, st := range e.plan.Convert {
		if !st.When.During(when) {
			continue
		}
		began := time.Now()
		e.see.step(st.Name)
		if err := e.runStep(ctx, s, st); err != nil {
			return &outcome{ErrStep, fmt.Errorf("conversion: %w", err)}
		}
		done = append(done, StepEvidence{st.Name, began, time.Since(began).Seconds()})
		e.log.Info("step done", "step", st.Name, "seconds", time.Since(began).Seconds())
	}
	return e.j.Put(ctx, e.run.ID, evidence, done)
}

func (e *Engine) runStep(ctx context.Context, s *sessions, st plan.Step) error {
	ctx, cancel := context.WithTimeoutCause(ctx, st.Timeout.Duration+stepGrace, fmt.Errorf("step %q took longer than %s", st.Name, st.Timeout))
	defer cancel()
	switch {
	case st.Copy != nil:
		return e.stepCopy(ctx, s, st)
	case st.Tree != nil:
		return e.stepTree(ctx, s, st)
	}
	to, err := s.to(ctx, st.On)
	if err != nil {
		return err
	}
	_, err = to.Run(ctx, guestagent.Step{Name: st.Name, Script: st.Run, Env: st.Env, Dir: st.Dir, Timeout: st.Timeout.Duration},
		func(o guestagent.Output) {
			e.see.send(Event{Kind: EventOutput, Name: st.On, Text: guestagent.Clean(o.Text)})
		})
	return err
}

// stepGrace is left for the guest to end a step by its own time limit.
const stepGrace = 30 * time.Second

func (e *Engine) stepCopy(ctx context.Context, s *sessions, st plan.Step) error {
	from, err := s.to(ctx, st.Copy.From.VM)
	if err != nil {
		return err
	}
	to, err := s.to(ctx, st.Copy.To.VM)
	if err != nil {
		return err
	}
	return guestagent.CopyBetween(ctx, from, st.Copy.From.Path, to, st.Copy.To.Path,
		guestagent.FileOptions{KeepMode: true, KeepTime: true, MakeParents: true},
		func(p guestagent.Progress) { e.see.progress(st.Name, "B", uint64(p.Done), uint64(p.Total)) })
}

func (e *Engine) stepTree(ctx context.Context, s *sessions, st plan.Step) error {
	from, err := s.to(ctx, st.Tree.From.VM)
	if err != nil {
		return err
	}
	to, err := s.to(ctx, st.Tree.To.VM)
	if err != nil {
		return err
	}
	res, err := guestagent.SyncTree(ctx, from, st.Tree.From.Path, to, st.Tree.To.Path,
		guestagent.SyncOptions{Delete: st.Tree.Delete, Owner: st.Tree.Owner},
		func(p guestagent.SyncProgress) {
			e.see.progress(st.Name, "files", uint64(p.Files), uint64(p.FilesTotal))
		})
	if err == nil {
		e.see.step(fmt.Sprintf("%s: %d files, %d copied, %d equal already, %d removed", st.Name, res.Files, res.Copied, res.Skipped, res.Deleted))
	}
	return err
}
