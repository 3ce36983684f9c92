package upgrade

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/snapshot"
	"imago.dev/imago/transfer/rows"
)

// lastChanges is what is brought over while the clients are held. The processes
// that it needs in the guests are started before, and wait: under emulation a
// process may take longer to start than to do its work.
type lastChanges struct {
	e       *Engine
	s       *sessions
	flows   *rowFlows
	logs    []*targetLog
	domains map[string]*hypervisor.Domain

	steps  []*armedStep
	files  chan filesResult // what the waiting agents return; nil without file sets
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	settled map[*rowFlow]rows.Position
	set     *snapshot.Set
	views   *fileViews
}

type filesResult struct {
	list []FilesEvidence
	err  error
}

func newLastChanges(e *Engine, s *sessions, flows *rowFlows, logs []*targetLog, domains map[string]*hypervisor.Domain) *lastChanges {
	return &lastChanges{e: e, s: s, flows: flows, logs: logs, domains: domains}
}

// ready starts what waits in the guests. letGo must follow.
func (l *lastChanges) ready(ctx context.Context) {
	ctx, l.cancel = context.WithCancelCause(ctx)
	for _, st := range l.e.plan.Convert {
		if st.When.During(plan.WhenSwitch) {
			l.steps = append(l.steps, l.e.arm(ctx, l.s, st))
		}
	}
	if len(l.e.plan.Files) == 0 {
		return
	}
	l.files = make(chan filesResult, 1)
	limits := l.e.plan.Limits
	l.wg.Go(func() {
		list, err := l.e.catchUpFiles(ctx, l.s, filesPass{frozen: l.freezes, wait: 2*limits.Hold.Duration + limits.Drain.Duration})
		l.files <- filesResult{list, err}
	})
}

// freezes tells whether a domain is meant to be frozen for views.
func (l *lastChanges) freezes(domain string) bool {
	for _, vm := range l.e.plan.Production.VMs {
		if vm.Domain == domain {
			return vm.Freeze != plan.FreezeNever
		}
	}
	return false
}

// bring settles the rows and the files side by side; when the rows are there,
// what the plan has for the switch runs, such as forgetting caches.
func (l *lastChanges) bring(ctx context.Context, ev *SwitchEvidence) error {
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if l.settled, err = l.flows.settleLast(gctx); err != nil {
			return &outcome{ErrVerify, err}
		}
		ev.RowsMS = millis(time.Since(began))
		err = l.runSteps(gctx)
		ev.StepsMS = millis(time.Since(began)) - ev.RowsMS
		return err
	})
	g.Go(func() error {
		err := l.catchUpFiles(gctx)
		ev.FilesMS = millis(time.Since(began))
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	err := l.e.noteTargets(ctx, l.logs)
	ev.LastChangesMS = millis(time.Since(began))
	return err
}

func (l *lastChanges) runSteps(ctx context.Context) error {
	var done []StepEvidence
	for _, a := range l.steps {
		began := time.Now()
		l.e.see.step(a.st.Name)
		if err := a.run(ctx); err != nil {
			return &outcome{ErrStep, fmt.Errorf("conversion: %w", err)}
		}
		done = append(done, StepEvidence{a.st.Name, began, time.Since(began).Seconds()})
	}
	return l.e.j.Put(ctx, l.e.run.ID, evidenceReview, done)
}

func (l *lastChanges) catchUpFiles(ctx context.Context) (err error) {
	if l.files == nil {
		return nil
	}
	if l.set, err = l.e.takeView(ctx, l.domains, l.e.wantsFiles, &CloneEvidence{}); err != nil {
		return err
	}
	l.views = &fileViews{e: l.e, set: l.set}
	if err := l.views.attach(ctx); err != nil {
		return err
	}
	var got filesResult
	select {
	case got = <-l.files:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if got.err == nil && l.believedFrozen() {
		// The agents took the view for a frozen one, and it is not: what a power cut
		// may leave behind is looked at once more.
		got.list, got.err = l.e.catchUpFiles(ctx, l.s, filesPass{frozen: l.views.frozen, taken: l.set.Taken()})
	}
	if got.err != nil {
		return got.err
	}
	if err := l.set.Err(); err != nil {
		return err
	}
	l.e.see.step(describeFiles(got.list))
	return nil
}

// believedFrozen tells whether a view that should be frozen is not.
func (l *lastChanges) believedFrozen() bool {
	for _, f := range l.e.plan.Files {
		if l.freezes(f.From.Domain) && !l.views.frozen(f.From.Domain) {
			return true
		}
	}
	return false
}

// letGo ends what waits, detaches and ends the last view. It may be repeated.
func (l *lastChanges) letGo(ctx context.Context) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if l.cancel != nil {
		l.cancel(errNotNeeded)
	}
	for _, a := range l.steps {
		a.giveUp()
	}
	l.steps = nil
	l.wg.Wait()
	var errs []error
	if l.views != nil {
		errs = append(errs, l.views.detach(ctx))
		l.views = nil
	}
	if l.set != nil {
		errs = append(errs, l.e.endView(ctx, l.set, l.domains))
		l.set = nil
	}
	return errors.Join(errs...)
}

var errNotNeeded = errors.New("not needed any more")
