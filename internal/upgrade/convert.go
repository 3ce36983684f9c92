package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
)

// Convert runs the plan's conversion steps in the universe, for the first time.
// Data that flows is copied, converted, compared and caught up then; other data
// the switch converts again, from a fresh view.
func (e *Engine) Convert(ctx context.Context) error {
	return e.inUniverse(ctx, phaseConvert, func(ctx context.Context, u *netswitch.Universe, s *sessions) error {
		if !e.flows() {
			return e.runSteps(ctx, s, plan.WhenPrepare, evidenceConvert)
		}
		// Steps that make empty tables must not run again over those that rows flow
		// into by now.
		done, err := e.get(ctx, evidenceConvert, new([]StepEvidence))
		if err != nil {
			return err
		}
		if done {
			e.see.step("the steps were done before; the data goes on")
		} else if err := e.runSteps(ctx, s, plan.WhenPrepare, evidenceConvert); err != nil {
			return err
		}
		return e.firstPass(ctx, u, s)
	})
}

// firstPass brings all data that flows over for the first time.
func (e *Engine) firstPass(ctx context.Context, u *netswitch.Universe, s *sessions) (err error) {
	domains, err := e.productionDomains(ctx)
	if err != nil {
		return err
	}
	flows, err := e.openRowFlows(ctx, u, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, flows.close()) }()
	gov, err := e.govern(ctx, domains, flows)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gov.close()) }()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return flows.catchUp(gctx) })
	g.Go(func() error { return e.filesOnce(gctx, s, domains, gov) })
	if err := g.Wait(); err != nil {
		return err
	}
	return flows.record(ctx, nil)
}

// filesOnce makes the file sets equal to a fresh view of production.
func (e *Engine) filesOnce(ctx context.Context, s *sessions, domains map[string]*hypervisor.Domain, gov *governor) error {
	if len(e.plan.Files) == 0 {
		return nil
	}
	set, err := e.takeView(ctx, domains, e.wantsFiles, &CloneEvidence{})
	if err != nil {
		return err
	}
	err = e.filesFromView(ctx, s, set, false, gov.files)
	end, cancel := cleanup(ctx)
	defer cancel()
	return errors.Join(err, e.endView(end, set, domains))
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
