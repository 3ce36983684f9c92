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
)

// SwitchEvidence says what the switch cost the clients.
type SwitchEvidence struct {
	HeldFrom   time.Time `json:"held_from"`
	Flipped    time.Time `json:"flipped"`
	HoldMS     float64   `json:"hold_ms"`
	DrainMS    float64   `json:"drain_ms"` // the slowest request in flight
	FlipUS     float64   `json:"flip_us"`
	HeldNew    int       `json:"held_connections"`
	Closed     int       `json:"closed_connections"`
	Forced     int       `json:"forced_connections"`
	LongestMS  float64   `json:"longest_wait_ms"`
	FrozenAt   time.Time `json:"view_taken"`
	FlowsEnded int       `json:"flows_ended"`
	// Of data that flows: when the requests in flight had ended, and how long the
	// last changes took from then on. All from the beginning of the hold or of the
	// last changes, in milliseconds.
	DrainedMS     float64 `json:"drained_ms,omitempty"`
	RowsMS        float64 `json:"rows_ms,omitempty"`
	StepsMS       float64 `json:"steps_ms,omitempty"`
	FilesMS       float64 `json:"files_ms,omitempty"`
	LastChangesMS float64 `json:"last_changes_ms,omitempty"`
}

// Switch brings the clients to the new version: they are held, requests in
// flight finish, the last changes of the data that flows are brought over (other
// data is converted anew from a fresh view), all is compared, and the VIP map
// flips in one transaction. If anything is late or wrong before the flip, the
// clients are released to the old version and saw a pause.
func (e *Engine) Switch(ctx context.Context) error {
	return e.inUniverse(ctx, phaseSwitch, func(ctx context.Context, u *netswitch.Universe, s *sessions) error {
		m, err := e.prepareMap(ctx, u)
		if err != nil {
			return err
		}
		if err := s.openServing(ctx); err != nil {
			return err
		}
		if e.flows() {
			return e.switchLive(ctx, u, m, s)
		}
		return e.switchHeld(ctx, u, m, s)
	})
}

// prepareMap installs the VIP map, pointing at the old side, and publishes the
// new front ends. Clients notice nothing of it.
func (e *Engine) prepareMap(ctx context.Context, u *netswitch.Universe) (*netswitch.VIPMap, error) {
	services, pubs := e.services()
	if err := u.Publish(ctx, pubs); err != nil {
		return nil, err
	}
	var m *netswitch.VIPMap
	err := e.make(ctx, journal.KindVIPMap, e.n.run, func() (err error) {
		m, err = netswitch.InstallVIPMap(ctx, e.n.run, services, e.log)
		return err
	})
	return m, err
}

// holdQueue is imago's NFQUEUE number. Who else uses it makes the hold fail to
// start, with nothing changed.
const holdQueue = 24420

// idleSilence is how long a connection that is known to be between two requests
// is silent before it is closed: a request on its way takes less, even by satellite.
const idleSilence = 500 * time.Millisecond

// hold makes the clients wait and lets the requests in flight finish.
func (e *Engine) hold(ctx context.Context, services []netswitch.Service) (*netswitch.Hold, netswitch.DrainReport, error) {
	var h *netswitch.Hold
	var drained netswitch.DrainReport
	limit := e.plan.Limits
	err := e.make(ctx, journal.KindHold, e.n.run, func() (err error) {
		h, err = netswitch.Watch(ctx, netswitch.HoldSpec{
			ID: e.n.run, Services: services, Queue: holdQueue, Deadline: limit.Hold.Duration,
			Quiet: limit.Drain.Duration / 2, Idle: idleSilence, Log: e.log,
		})
		return err
	})
	if err != nil {
		return nil, drained, err
	}
	if err := e.watchAndBegin(ctx, h); err != nil {
		return nil, drained, errors.Join(err, e.release(ctx, h))
	}
	e.see.step("clients are held")
	drainCtx, cancel := context.WithTimeoutCause(ctx, limit.Drain.Duration, fmt.Errorf("requests in flight took longer than limits.drain (%s)", limit.Drain))
	defer cancel()
	drained, err = h.Drain(drainCtx)
	if err != nil {
		return nil, drained, errors.Join(err, e.release(ctx, h))
	}
	e.see.step(fmt.Sprintf("requests in flight have finished (the slowest took %.1f s)", drained.Slowest.Seconds()))
	return h, drained, nil
}

// watchAtLeast is how long open connections are watched before the hold.
const watchAtLeast = time.Second

// watchAndBegin follows the open connections until it is known of each whether
// it carries a request, or until those that are not known have been silent for
// so long that they carry none. Nobody waits meanwhile.
func (e *Engine) watchAndBegin(ctx context.Context, h *netswitch.Hold) error {
	e.see.step("watching the clients' connections")
	began, tick := time.Now(), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		watched := time.Since(began)
		if watched >= watchAtLeast && h.Unknown() == 0 || watched >= e.plan.Limits.Drain.Duration/2 {
			return h.Begin()
		}
	}
}

// release ends a hold, whatever has happened to ctx.
func (e *Engine) release(ctx context.Context, h *netswitch.Hold) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := h.Release(ctx); err != nil {
		return err
	}
	return e.gone(ctx, journal.KindHold, e.n.run)
}

func (e *Engine) switchHeld(ctx context.Context, u *netswitch.Universe, m *netswitch.VIPMap, s *sessions) error {
	domains, err := e.productionDomains(ctx)
	if err != nil {
		return err
	}
	ev := SwitchEvidence{}
	h, drained, err := e.hold(ctx, m.Services())
	if err != nil {
		return &outcome{ErrReleased, fmt.Errorf("no switch, the clients are on the old version: %w", err)}
	}
	ev.HeldFrom, ev.DrainMS = h.Began(), millis(drained.Slowest)
	// A hold that ends under us ends the work, too.
	heldCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-h.Over():
			stop(fmt.Errorf("%w: limits.hold is %s", netswitch.ErrHoldOver, e.plan.Limits.Hold))
		case <-heldCtx.Done():
		}
	}()
	set, err := e.convertFresh(heldCtx, u, domains, s, &ev)
	if err == nil {
		err = h.Keep()
	}
	if err == nil {
		err = e.flip(ctx, m, netswitch.New, &ev, journal.Switched)
	}
	if err != nil {
		return e.backToOld(ctx, h, m, set, domains, err)
	}
	return e.afterFlip(ctx, u, h, set, domains, &ev)
}

// convertFresh clones the data sources anew, with production at rest, and runs
// the conversion and the comparisons on them.
func (e *Engine) convertFresh(ctx context.Context, u *netswitch.Universe, domains map[string]*hypervisor.Domain, s *sessions, ev *SwitchEvidence) (*snapshot.Set, error) {
	for _, vm := range e.plan.Universe.VMs {
		if vm.Role == plan.RoleSource {
			s.forget(vm.Name)
		}
	}
	if err := e.removeClones(ctx, true); err != nil {
		return nil, err
	}
	ce := &CloneEvidence{keep: s}
	set, err := e.takeView(ctx, domains, e.wantsClones(true), ce)
	if err != nil {
		return nil, err
	}
	ev.FrozenAt = ce.Taken
	if set != nil {
		err := awaitAll(ctx, func(ctx context.Context, ready *errgroup.Group) error {
			return e.startSources(ctx, u, domains, set, ready, ce)
		})
		if err != nil {
			return set, err
		}
	}
	if err := e.runSteps(ctx, s, plan.WhenSwitch, evidenceReview); err != nil {
		return set, err
	}
	if err := e.verify(ctx, s, evidenceData, true); err != nil {
		return set, err
	}
	if err := e.awaitServing(ctx, u); err != nil {
		return set, err
	}
	if set != nil && set.Err() != nil {
		return set, set.Err()
	}
	return set, e.recordAttempts(ctx, u)
}

// startSources starts the clones that are only read from.
func (e *Engine) startSources(ctx context.Context, u *netswitch.Universe, domains map[string]*hypervisor.Domain, set *snapshot.Set, ready *errgroup.Group, ce *CloneEvidence) error {
	for _, vm := range e.plan.Universe.VMs {
		if vm.Role != plan.RoleSource || vm.Clone == "" {
			continue
		}
		if err := e.startClone(ctx, u, vm, domains, set, ready, ce, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// flip moves the VIP map and, in the same breath, the run's state.
func (e *Engine) flip(ctx context.Context, m *netswitch.VIPMap, to netswitch.Side, ev *SwitchEvidence, state journal.State) error {
	began := time.Now()
	if err := m.Flip(ctx, to); err != nil {
		return err
	}
	ev.FlipUS = float64(time.Since(began).Nanoseconds()) / 1000
	ev.Flipped = time.Now()
	after, cancel := cleanup(ctx)
	defer cancel()
	return e.become(after, state, "")
}

// backToOld ends a switch that did not happen.
func (e *Engine) backToOld(ctx context.Context, h *netswitch.Hold, m *netswitch.VIPMap, set *snapshot.Set, domains map[string]*hypervisor.Domain, cause error) error {
	after, cancel := cleanup(ctx)
	defer cancel()
	side, err := m.Side(after)
	if err != nil || side != netswitch.Old {
		// Not known where the clients would go: the hold stays until its
		// deadline is no help, so tell, and let a person look.
		return errors.Join(cause, &outcome{netswitch.ErrAmbiguous, fmt.Errorf("the VIP map points at %v (%v): look with 'nft list ruleset', then 'imago rollback' or 'imago status'", side, err)}, e.release(ctx, h))
	}
	e.see.step("releasing the clients to the old version")
	errs := []error{e.release(ctx, h), e.removeClones(after, true)}
	if set != nil {
		errs = append(errs, e.endView(after, set, domains))
	}
	return &outcome{ErrReleased, fmt.Errorf("no switch, the clients are on the old version: %w", errors.Join(append([]error{cause}, errs...)...))}
}

// afterFlip lets the clients go to the new version. From the flip on nothing is
// undone; what fails here is told, and the switch stands.
func (e *Engine) afterFlip(ctx context.Context, u *netswitch.Universe, h *netswitch.Hold, set *snapshot.Set, domains map[string]*hypervisor.Domain, ev *SwitchEvidence) error {
	after, cancel := cleanup(ctx)
	defer cancel()
	services, _ := e.services()
	n, err := netswitch.DropOldFlows(after, services, netswitch.New)
	ev.FlowsEnded = n
	errs := []error{err, e.release(ctx, h)}
	e.finishSwitchEvidence(h, ev)
	e.see.step(fmt.Sprintf("clients are on the new version; they were held for %.1f s", ev.HoldMS/1000))
	if e.plan.OutboundAfterSwitch == plan.OutboundNAT {
		errs = append(errs, u.AllowOutbound(after, true))
	}
	errs = append(errs, e.removeClones(after, true))
	if set != nil {
		errs = append(errs, e.endView(after, set, domains))
	}
	errs = append(errs, e.proveIsolation(after, domains), e.j.Put(after, e.run.ID, evidenceSwitch, ev))
	if err := errors.Join(errs...); err != nil {
		e.see.warning("the switch stands, but what follows it failed: " + err.Error())
		return e.j.Put(after, e.run.ID, evidenceSwitch, ev)
	}
	return nil
}

func (e *Engine) finishSwitchEvidence(h *netswitch.Hold, ev *SwitchEvidence) {
	st := h.Stats()
	ev.HoldMS = millis(time.Since(ev.HeldFrom))
	ev.HeldNew, ev.Closed, ev.Forced = st.HeldNew, st.ClosedIdle+st.ClosedAfterAnswer, st.Forced
	ev.LongestMS = millis(st.LongestWait)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
