package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
	"imago.dev/imago/snapshot"
	"imago.dev/imago/transfer/rows"
)

// switchLive is the switch of a system whose data flows: everything that takes
// long is done before anybody waits. The hold only brings over what changed in
// the last moments.
func (e *Engine) switchLive(ctx context.Context, u *netswitch.Universe, m *netswitch.VIPMap, s *sessions) (err error) {
	diverged, err := e.get(ctx, evidenceDiverged, new(bool))
	if err != nil {
		return err
	}
	if diverged {
		return refuse(errors.New("clients wrote to the new version before the rollback, so production's changes do not fit it any more: 'imago abort', then begin again"))
	}
	domains, err := e.productionDomains(ctx)
	if err != nil {
		return err
	}
	serving, err := e.servingDomains()
	if err != nil {
		return err
	}
	if err := e.rewind(ctx, s, serving); err != nil {
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
	if err := flows.catchUp(ctx); err != nil {
		return err
	}
	if err := e.audit(ctx, u, s, flows, gov, domains); err != nil {
		return err
	}
	if err := flows.catchUp(ctx); err != nil {
		return err
	}
	if err := e.awaitServing(ctx, u); err != nil {
		return err
	}
	if err := flows.record(ctx, nil); err != nil {
		return err
	}
	logs, closeLogs := e.openTargetLogs(ctx, s)
	defer func() { err = errors.Join(err, closeLogs()) }()
	gov.release()
	return e.liveHeld(ctx, u, m, &lastChanges{e: e, s: s, flows: flows, logs: logs, domains: domains})
}

// liveHeld holds the clients, brings over the rest, and flips.
func (e *Engine) liveHeld(ctx context.Context, u *netswitch.Universe, m *netswitch.VIPMap, last *lastChanges) error {
	ev := SwitchEvidence{}
	h, drained, err := e.hold(ctx, m.Services())
	if err != nil {
		return &outcome{ErrReleased, fmt.Errorf("no switch, the clients are on the old version: %w", err)}
	}
	ev.HeldFrom, ev.DrainMS = h.Began(), millis(drained.Slowest)
	ev.DrainedMS = millis(time.Since(h.Began()))
	heldCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-h.Over():
			stop(fmt.Errorf("%w: limits.hold is %s", netswitch.ErrHoldOver, e.plan.Limits.Hold))
		case <-heldCtx.Done():
		}
	}()
	err = last.bring(heldCtx, &ev)
	if err == nil {
		err = h.Keep()
	}
	if err == nil {
		err = e.flip(ctx, m, netswitch.New, &ev, journal.Switched)
	}
	if err != nil {
		return errors.Join(e.backToOld(ctx, h, m, nil, last.domains, err), last.letGo(ctx))
	}
	return e.afterLiveFlip(ctx, u, h, last, &ev)
}

// afterLiveFlip lets the clients go first: all else can wait.
func (e *Engine) afterLiveFlip(ctx context.Context, u *netswitch.Universe, h *netswitch.Hold, last *lastChanges, ev *SwitchEvidence) error {
	after, cancel := cleanup(ctx)
	defer cancel()
	services, _ := e.services()
	n, err := netswitch.DropOldFlows(after, services, netswitch.New)
	ev.FlowsEnded = n
	errs := []error{err, e.release(ctx, h)}
	e.finishSwitchEvidence(h, ev)
	e.see.step(fmt.Sprintf("clients are on the new version; they were held for %.0f ms, of which requests in flight took %.0f ms", ev.HoldMS, ev.DrainedMS))
	if e.plan.OutboundAfterSwitch == plan.OutboundNAT {
		errs = append(errs, u.AllowOutbound(after, true))
	}
	late, err := last.flows.lateWriters(after, last.settled)
	errs = append(errs, err, last.letGo(after), last.flows.record(after, late), e.recordAttempts(after, u),
		e.proveIsolation(after, last.domains), e.j.Put(after, e.run.ID, evidenceSwitch, ev))
	if err := errors.Join(errs...); err != nil {
		e.see.warning("the switch stands, but what follows it failed: " + err.Error())
		return e.j.Put(after, e.run.ID, evidenceSwitch, ev)
	}
	return nil
}

// lastChanges is what is brought over while the clients are held.
type lastChanges struct {
	e       *Engine
	s       *sessions
	flows   *rowFlows
	logs    []*targetLog
	domains map[string]*hypervisor.Domain

	settled map[*rowFlow]rows.Position
	set     *snapshot.Set
	views   *fileViews
}

// bring settles the rows and the files side by side, then runs what the plan has
// for the switch, such as forgetting caches.
func (l *lastChanges) bring(ctx context.Context, ev *SwitchEvidence) error {
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if l.settled, err = l.flows.settleLast(gctx); err != nil {
			return &outcome{ErrVerify, err}
		}
		ev.RowsMS = millis(time.Since(began))
		return l.e.runSteps(gctx, l.s, plan.WhenSwitch, evidenceReview)
	})
	g.Go(func() error {
		err := l.files(gctx)
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

func (l *lastChanges) files(ctx context.Context) error {
	if len(l.e.plan.Files) == 0 {
		return nil
	}
	ce := &CloneEvidence{}
	var err error
	if l.set, err = l.e.takeView(ctx, l.domains, l.e.wantsFiles, ce); err != nil {
		return err
	}
	l.views = &fileViews{e: l.e, set: l.set}
	list, err := l.views.together(ctx, l.s, false, nil)
	if err != nil {
		return err
	}
	if err := l.set.Err(); err != nil {
		return err
	}
	l.e.see.step(describeFiles(list))
	return nil
}

// letGo detaches and ends the last view.
func (l *lastChanges) letGo(ctx context.Context) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	var errs []error
	if l.views != nil {
		errs = append(errs, l.views.detach(ctx))
	}
	if l.set != nil {
		errs = append(errs, l.e.endView(ctx, l.set, l.domains))
	}
	return errors.Join(errs...)
}
