package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/netswitch"
	"imago.dev/imago/transfer/rows"
)

// TransferEvidence says what became of one data set.
type TransferEvidence struct {
	Name        string        `json:"name"`
	Seconds     float64       `json:"seconds"` // until all was copied, compared and caught up
	Rows        uint64        `json:"rows"`    // of the first pass
	Bytes       uint64        `json:"bytes"`
	Changes     uint64        `json:"changes"`     // applied from the log
	Rescheduled uint64        `json:"rescheduled"` // objects that went again, since they changed
	Converted   uint64        `json:"converted"`
	Verified    uint64        `json:"verified"`
	Rejected    uint64        `json:"rejected"`
	Position    rows.Position `json:"position"`
	Late        bool          `json:"late"` // production went on writing after the flip
}

// rowFlows are all data sets of the plan, under way side by side.
type rowFlows struct {
	e     *Engine
	flows []*rowFlow
	begun time.Time
}

// openRowFlows begins or goes on with all data sets. The caller must close them.
func (e *Engine) openRowFlows(ctx context.Context, u *netswitch.Universe, s *sessions) (*rowFlows, error) {
	all := &rowFlows{e: e, begun: time.Now()}
	for _, set := range e.plan.Data {
		f, err := e.openRowFlow(ctx, u, s, set)
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		all.flows = append(all.flows, f)
		e.see.step(fmt.Sprintf("rows of %s flow from %s on", set.Name, f.agent.Position().GTID))
	}
	return all, nil
}

func (r *rowFlows) close() error {
	var errs []error
	for _, f := range r.flows {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

// each runs act for every flow, side by side.
func (r *rowFlows) each(ctx context.Context, act func(context.Context, *rowFlow) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range r.flows {
		g.Go(func() error { return act(ctx, f) })
	}
	return g.Wait()
}

// catchUp waits until every data set is copied, compared and caught up.
func (r *rowFlows) catchUp(ctx context.Context) error {
	return r.each(ctx, func(ctx context.Context, f *rowFlow) error {
		began := time.Now()
		if err := f.catchUp(ctx); err != nil {
			return err
		}
		p, _ := f.agent.Progress()
		r.e.see.step(fmt.Sprintf("%s: %d rows copied, %d changes applied, %d objects went again, %d verified (%.1f s)",
			f.set.Name, p.RowsCopied, p.Changes, p.Rescheduled, p.Verified, time.Since(began).Seconds()))
		return nil
	})
}

// stop makes every data set stand still.
func (r *rowFlows) stop() {
	for _, f := range r.flows {
		f.gate.stop()
	}
}

// open lets all go on.
func (r *rowFlows) open() {
	for _, f := range r.flows {
		f.gate.open()
	}
}

// settleLast settles all data sets at production's last transactions and returns
// where those are.
func (r *rowFlows) settleLast(ctx context.Context) (map[*rowFlow]rows.Position, error) {
	at := make([]rows.Position, len(r.flows))
	g, gctx := errgroup.WithContext(ctx)
	for i, f := range r.flows {
		g.Go(func() (err error) {
			at[i], _, err = f.settleLast(gctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	last := map[*rowFlow]rows.Position{}
	for i, f := range r.flows {
		last[f] = at[i]
	}
	return last, nil
}

// lateWriters looks whether production wrote after the position that the new
// version was settled at. Nothing can be done about it then, but to tell.
func (r *rowFlows) lateWriters(ctx context.Context, settled map[*rowFlow]rows.Position) (late map[*rowFlow]bool, err error) {
	late = map[*rowFlow]bool{}
	for _, f := range r.flows {
		now, err := f.source.Position(ctx)
		if err != nil {
			return late, err
		}
		same, err := samePosition(now, settled[f])
		if err != nil {
			return late, err
		}
		if !same {
			late[f] = true
			r.e.see.warning(fmt.Sprintf("data set %s: somebody wrote to production after the switch (settled at %s, now %s): find who (SHOW PROCESSLIST, cron) and bring it over by hand; clients do not reach it any more",
				f.set.Name, settled[f].GTID, now.GTID))
		}
	}
	return late, nil
}

// record writes down how the data sets stand.
func (r *rowFlows) record(ctx context.Context, late map[*rowFlow]bool) error {
	var list []TransferEvidence
	for _, f := range r.flows {
		p, _ := f.agent.Progress()
		list = append(list, TransferEvidence{
			Name: f.set.Name, Seconds: time.Since(r.begun).Seconds(), Rows: p.RowsCopied, Bytes: p.BytesCopied, Changes: p.Changes,
			Rescheduled: p.Rescheduled, Converted: p.Converted, Verified: p.Verified, Rejected: p.Rejected, Position: p.Position, Late: late[f],
		})
	}
	return r.e.j.Put(ctx, r.e.run.ID, evidenceTransfer, list)
}
