package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
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
	return e.liveHeld(ctx, u, m, newLastChanges(e, s, flows, logs, domains))
}

// liveHeld holds the clients, brings over the rest, and flips.
func (e *Engine) liveHeld(ctx context.Context, u *netswitch.Universe, m *netswitch.VIPMap, last *lastChanges) error {
	ev := SwitchEvidence{}
	last.ready(ctx)
	h, drained, err := e.hold(ctx, m.Services())
	if err != nil {
		err = errors.Join(err, last.letGo(ctx))
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
