package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
	"imago.dev/imago/transfer"
)

// RollbackEvidence says what a rollback lost and cost.
type RollbackEvidence struct {
	Lost    []LostData `json:"lost"`
	Flipped time.Time  `json:"flipped"`
	HoldMS  float64    `json:"hold_ms"`
	FlipUS  float64    `json:"flip_us"`
}

// LostData is what one comparison of the plan found new or changed since the switch.
type LostData struct {
	Name string `json:"name"`
	transfer.Diff
}

// Objects counts what would be or was lost.
func (r RollbackEvidence) Objects() (n int64) {
	for _, l := range r.Lost {
		n += l.Added.Count + l.Changed.Count + l.Removed.Count
	}
	return n
}

// LossError tells exactly what a rollback would lose.
type LossError struct{ Lost []LostData }

func (e *LossError) Error() string {
	msg := "going back would lose what was written since the switch:"
	for _, l := range e.Lost {
		if l.Empty() {
			continue
		}
		msg += fmt.Sprintf("\n  %s: %d new %q, %d changed %q, %d removed %q", l.Name,
			l.Added.Count, l.Added.Sample, l.Changed.Count, l.Changed.Sample, l.Removed.Count, l.Removed.Sample)
	}
	return msg + "\nGive --accept-loss to go back all the same; the lists are kept beside the report."
}

// Is makes errors.Is(err, ErrLoss) true.
func (e *LossError) Is(target error) bool { return target == ErrLoss }

// Rollback brings the clients back to the old version, in one transaction. It
// says beforehand what that loses, and does it only if that is nothing or
// acceptLoss is set. The universe stays, for a look or for another switch.
func (e *Engine) Rollback(ctx context.Context, acceptLoss bool) error {
	if err := e.samePlan(ctx); err != nil {
		return err
	}
	return e.phase(ctx, phaseRollback, func(ctx context.Context) error {
		if err := e.oldSideLives(); err != nil {
			return err
		}
		u, err := e.findUniverse(ctx)
		if err != nil {
			return err
		}
		defer u.Close()
		s := e.sessions(u)
		defer s.close()
		lost, err := e.lost(ctx, s)
		if err != nil && !acceptLoss {
			return fmt.Errorf("find out what going back would lose: %w; --accept-loss goes back without knowing", err)
		}
		if n := (RollbackEvidence{Lost: lost}).Objects(); n > 0 && !acceptLoss {
			return &LossError{lost}
		}
		return e.rollbackHeld(ctx, u, s)
	})
}

// oldSideLives refuses to send clients to VMs that do not run.
func (e *Engine) oldSideLives() error {
	for _, vm := range e.plan.Production.VMs {
		dom, err := e.conn.LookupDomain(vm.Domain)
		if err != nil {
			return refuse(err)
		}
		st, err := dom.State()
		if err != nil {
			return err
		}
		if !st.Running() {
			return refuse(fmt.Errorf("production VM %s is %s: start it before going back to it", vm.Domain, st))
		}
	}
	return nil
}

// lostLive asks the new version's own log and file systems what was written to
// data that flowed.
func (e *Engine) lostLive(ctx context.Context, s *sessions) ([]LostData, error) {
	var sw SwitchEvidence
	if err := e.j.Get(ctx, e.run.ID, evidenceSwitch, &sw); err != nil {
		return nil, err
	}
	out, err := e.lostRows(ctx, s)
	if err != nil {
		return nil, err
	}
	files, err := e.lostFiles(ctx, s, sw.Flipped)
	return append(out, files...), err
}

// lost compares the new side with its list from the moment of the switch.
func (e *Engine) lost(ctx context.Context, s *sessions) ([]LostData, error) {
	if e.flows() {
		return e.lostLive(ctx, s)
	}
	var out []LostData
	for _, v := range e.plan.Verify {
		then, err := transfer.OpenManifest(ctx, e.n.manifest(v.Name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, err)
		}
		source, err := e.objects(ctx, s, v.New)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, err)
		}
		opts := transfer.Options{TempDir: e.n.dir(), Samples: 20}
		now, err := transfer.WriteManifest(ctx, e.n.manifest(v.Name)+"-at-rollback", source, opts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, err)
		}
		d, err := then.Diff(ctx, now, opts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, err)
		}
		out = append(out, LostData{Name: v.Name, Diff: d})
	}
	return out, nil
}

func (e *Engine) rollbackHeld(ctx context.Context, u *netswitch.Universe, s *sessions) error {
	services, _ := e.services()
	m, err := netswitch.NewVIPMap(e.n.run, services, e.log)
	if err != nil {
		return err
	}
	h, _, err := e.hold(ctx, services)
	if err != nil {
		return fmt.Errorf("no rollback, the clients are on the new version: %w", err)
	}
	// Written down again at rest: this is what was really lost.
	ev := RollbackEvidence{}
	var lostErr error
	if ev.Lost, lostErr = e.lost(ctx, s); lostErr != nil {
		e.see.warning("what was lost is not known: " + lostErr.Error())
	}
	if err := h.Keep(); err != nil {
		return errors.Join(fmt.Errorf("no rollback, the clients are on the new version: %w", err), e.release(ctx, h))
	}
	var sw SwitchEvidence
	if err := e.flip(ctx, m, netswitch.Old, &sw, journal.RolledBack); err != nil {
		return errors.Join(err, e.release(ctx, h))
	}
	after, cancel := cleanup(ctx)
	defer cancel()
	_, err = netswitch.DropOldFlows(after, services, netswitch.Old)
	errs := []error{err, e.release(ctx, h)}
	if e.plan.OutboundAfterSwitch == plan.OutboundNAT {
		errs = append(errs, u.AllowOutbound(after, false))
	}
	ev.Flipped, ev.HoldMS, ev.FlipUS = sw.Flipped, millis(time.Since(h.Began())), sw.FlipUS
	e.see.step(fmt.Sprintf("clients are on the old version; they were held for %.1f s", ev.HoldMS/1000))
	if e.flows() && (lostErr != nil || ev.Objects() > 0) {
		errs = append(errs, e.j.Put(after, e.run.ID, evidenceDiverged, true))
	}
	errs = append(errs, e.j.Put(after, e.run.ID, evidenceRollback, ev))
	return errors.Join(errs...)
}
