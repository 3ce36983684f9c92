package upgrade

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
	"imago.dev/imago/snapshot"
)

// flows tells whether the plan's data flows while production runs, instead of
// being converted anew while the clients are held.
func (e *Engine) flows() bool { return len(e.plan.Data) > 0 || len(e.plan.Files) > 0 }

// audit compares the new version with production at one instant, by the plan's
// own comparisons, while nobody waits: a fresh view of production is taken, the
// files catch up from it, the sources are cloned from it afresh, the rows are
// brought to exactly the position which that clone recovered, and only then is
// compared. It is independent of the log: what the log never said would show.
func (e *Engine) audit(ctx context.Context, u *netswitch.Universe, s *sessions, flows *rowFlows, gov *governor, domains map[string]*hypervisor.Domain) (err error) {
	flows.stop()
	defer flows.open()
	for _, vm := range e.plan.Universe.VMs {
		if vm.Role == plan.RoleSource {
			s.forget(vm.Name)
		}
	}
	if err := e.removeClones(ctx, true); err != nil {
		return err
	}
	ce := &CloneEvidence{keep: s}
	set, err := e.takeView(ctx, domains, e.wantsClones(true).or(e.wantsFiles), ce)
	if err != nil {
		return err
	}
	if set != nil {
		defer func() { err = errors.Join(err, e.endAudit(ctx, s, set, domains)) }()
	}
	return e.auditView(ctx, u, s, flows, gov, set, domains, ce)
}

func (e *Engine) auditView(ctx context.Context, u *netswitch.Universe, s *sessions, flows *rowFlows, gov *governor, set *snapshot.Set, domains map[string]*hypervisor.Domain, ce *CloneEvidence) error {
	err := awaitAll(ctx, func(ctx context.Context, ready *errgroup.Group) error {
		if set == nil {
			return nil
		}
		if err := e.startSources(ctx, u, domains, set, ready, ce); err != nil {
			return err
		}
		return e.filesFromView(ctx, s, set, true, gov.files)
	})
	if err != nil {
		return err
	}
	if err := flows.each(ctx, func(ctx context.Context, f *rowFlow) error { return e.bringTo(ctx, u, f) }); err != nil {
		return err
	}
	return e.verify(ctx, s, evidenceData, false)
}

// bringTo brings a data set to exactly the position of its fresh clone.
func (e *Engine) bringTo(ctx context.Context, u *netswitch.Universe, f *rowFlow) error {
	at, durable, err := e.clonePosition(ctx, u, f.set)
	if err != nil {
		return err
	}
	if !durable {
		e.see.warning("data set " + f.set.Name + ": the clone may be a little older than its log says, so the comparison may find differences that are none")
	}
	f.gate.until(at)
	_, err = f.settle(ctx, at, nil)
	if err != nil {
		return fmt.Errorf("bring data set %s to the position of the clone (%s): %w", f.set.Name, at.GTID, err)
	}
	return nil
}

// filesFromView makes all file sets equal to a view, and lets it go.
func (e *Engine) filesFromView(ctx context.Context, s *sessions, set *snapshot.Set, full bool, rate *guestagent.Rate) error {
	if len(e.plan.Files) == 0 {
		return nil
	}
	views := &fileViews{e: e, set: set}
	list, err := views.together(ctx, s, full, rate)
	if err = errors.Join(err, views.detach(ctx)); err != nil {
		return err
	}
	e.see.step(describeFiles(list))
	return e.j.Put(ctx, e.run.ID, evidenceFiles, list)
}

func (e *Engine) endAudit(ctx context.Context, s *sessions, set *snapshot.Set, domains map[string]*hypervisor.Domain) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	for _, vm := range e.plan.Universe.VMs {
		if vm.Role == plan.RoleSource {
			s.forget(vm.Name)
		}
	}
	return errors.Join(e.removeClones(ctx, true), e.endView(ctx, set, domains))
}
