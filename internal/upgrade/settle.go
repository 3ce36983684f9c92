package upgrade

import (
	"context"
	"errors"
	"fmt"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/netswitch"
)

// ErrUnknownSide says that nobody knows which version the clients reach.
var ErrUnknownSide = errors.New("it is not known which version the clients reach")

// settle ends what a crashed process left under way, by looking at the world
// and not at what was intended. Afterwards the run is in a state that a verb
// may start from.
func (e *Engine) settle(ctx context.Context) error {
	if !e.live() {
		return nil
	}
	n, err := e.j.CutShort(ctx, e.run.ID)
	if err != nil {
		return err
	}
	if n > 0 {
		e.see.warning(fmt.Sprintf("an earlier imago ended in the middle of its work (the upgrade is %s)", e.run.State))
	}
	const why = "an earlier process ended in the middle"
	switch e.run.State {
	case journal.Cloning:
		e.see.step("removing what it had made of the universe")
		if err := e.removeEverything(ctx); err != nil {
			return err
		}
		return e.become(ctx, journal.Checked, why)
	case journal.Converting:
		return e.become(ctx, journal.Cloned, why)
	case journal.Testing:
		return e.become(ctx, journal.Converted, why)
	case journal.Switching:
		return e.settleSwitch(ctx, journal.Switched, journal.Tested, why)
	case journal.RollingBack:
		return e.settleSwitch(ctx, journal.Switched, journal.RolledBack, why)
	case journal.Finalizing:
		return e.become(ctx, journal.Switched, why)
	}
	return nil
}

// settleSwitch reads from the kernel which side the clients reach, and removes
// what a switch or rollback needs only while it runs.
func (e *Engine) settleSwitch(ctx context.Context, ifNew, ifOld journal.State, why string) error {
	side, err := e.side(ctx, e.n)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownSide, err)
	}
	if side == netswitch.Mixed {
		err := fmt.Errorf("%w: the VIP map points at neither version alone; look with 'nft list table ip imago_vip_%s', then 'imago rollback' leads all clients to the old one", ErrUnknownSide, e.n.run)
		return errors.Join(err, e.become(ctx, journal.Failed, err.Error()))
	}
	if err := e.removeHoldings(ctx); err != nil {
		return err
	}
	if side == netswitch.New {
		e.see.step("the clients are on the new version")
		return e.become(ctx, ifNew, why)
	}
	e.see.step("the clients are on the old version")
	return e.become(ctx, ifOld, why)
}

// removeHoldings removes the hold, the data sources and the views.
func (e *Engine) removeHoldings(ctx context.Context) error {
	errs := []error{netswitch.RemoveHold(ctx, e.n.run), e.removeClones(ctx, true), e.detachLeft(ctx)}
	for _, vm := range e.plan.Production.VMs {
		errs = append(errs, e.remove(ctx, journal.KindBackupJob, vm.Domain, func() error { return e.endBackup(ctx, vm.Domain) }))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return e.gone(ctx, journal.KindHold, e.n.run)
}

// detachLeft takes away the views that a crashed process left attached: they read
// from backup jobs that are about to end.
func (e *Engine) detachLeft(ctx context.Context) error {
	var errs []error
	for _, f := range e.plan.Files {
		p := placeOf(f)
		dom, err := e.conn.LookupDomain(e.n.domain(p.vm))
		if errors.Is(err, hypervisor.ErrNoDomain) {
			continue
		}
		if err == nil {
			err = dom.DetachDisk(ctx, p.serial())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
