package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/binlog"
	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/link"
	"imago.dev/imago/transfer/rows"
)

// rowFlow is one data set under way: production's log is read here, on the
// host, and what it says goes to the agent beside the new database, which has
// copied, or still copies, the first rows from the clone.
type rowFlow struct {
	e      *Engine
	set    plan.DataSet
	source *binlog.Source
	pipe   *guestagent.Pipe
	agent  *link.Client
	gate   *rowGate

	stop context.CancelCauseFunc
	wg   sync.WaitGroup
	once sync.Once
	done chan struct{} // closed when the stream has ended
	err  error         // why
}

// openRowFlow goes on with a data set from where its state in the new database
// says, or begins it. The caller must close it.
func (e *Engine) openRowFlow(ctx context.Context, u *netswitch.Universe, s *sessions, set plan.DataSet) (*rowFlow, error) {
	f := &rowFlow{e: e, set: set, done: make(chan struct{})}
	if err := f.open(ctx, u, s); err != nil {
		return nil, errors.Join(fmt.Errorf("data set %s: %w", set.Name, err), f.close())
	}
	return f, nil
}

func (f *rowFlow) open(ctx context.Context, u *netswitch.Universe, s *sessions) error {
	logins, err := f.e.sourceLogin(f.set)
	if err != nil {
		return err
	}
	if f.source, err = binlog.Open(ctx, logins); err != nil {
		return err
	}
	start, err := f.e.rowStart(ctx, u, f.set, f.source)
	if err != nil {
		return err
	}
	schema, err := productionSchema(ctx, logins)
	if err != nil {
		return err
	}
	session, err := s.to(ctx, f.set.Target.VM)
	if err != nil {
		return err
	}
	// The flow outlives the call that opens it, so its context is its own.
	run, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	f.stop = stop
	if f.pipe, err = session.PipeAgent(run, "transfer"); err != nil {
		return err
	}
	if f.agent, err = link.Dial(ctx, f.pipe, f.e.applyConfig(f.set, logins, start), f.e.log); err != nil {
		return errors.Join(err, f.pipe.Err())
	}
	f.gate = newRowGate(f.agent.Position())
	f.wg.Go(func() {
		defer close(f.done)
		f.err = f.source.Stream(run, f.agent.Position(), schema, func(t *rows.Txn) error { return f.send(run, t) })
	})
	return nil
}

func (f *rowFlow) send(ctx context.Context, t *rows.Txn) error {
	if err := f.gate.pass(ctx, t.Position); err != nil {
		return err
	}
	if err := f.agent.Send(ctx, t); err != nil {
		return err
	}
	f.gate.passed(t.Position)
	return nil
}

// close ends the flow; its state stays in the new database.
func (f *rowFlow) close() error {
	var errs []error
	f.once.Do(func() {
		if f.stop != nil {
			f.stop(errFlowClosed)
		}
		f.wg.Wait()
		if f.agent != nil {
			errs = append(errs, f.agent.Close())
		}
		if f.pipe != nil {
			errs = append(errs, f.pipe.Close())
		}
		if f.source != nil {
			errs = append(errs, f.source.Close())
		}
	})
	return ignoreClosed(errors.Join(errs...))
}

var errFlowClosed = errors.New("the flow of rows was closed")

func ignoreClosed(err error) error {
	if errors.Is(err, errFlowClosed) {
		return nil
	}
	return err
}

// failed says why the flow ended by itself; nil while it goes on.
func (f *rowFlow) failed() error {
	select {
	case <-f.done:
		return f.why(errors.Join(f.err, f.agent.Err()))
	case <-f.agent.Done():
		return f.why(f.agent.Err())
	default:
		return nil
	}
}

func (f *rowFlow) why(err error) error {
	if err == nil {
		err = errors.New("it ended without saying why")
	}
	return fmt.Errorf("data set %s: %w", f.set.Name, err)
}

// watched runs act and ends it when the flow itself ends.
func (f *rowFlow) watched(ctx context.Context, act func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	over := make(chan struct{})
	defer close(over)
	wg.Go(func() {
		select {
		case <-f.done:
		case <-f.agent.Done():
		case <-over:
			return
		}
		stop(f.failed())
	})
	err := act(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// catchUp waits until all first rows are copied and compared and the changes are
// applied up to about now.
func (f *rowFlow) catchUp(ctx context.Context) error {
	return f.watched(ctx, func(ctx context.Context) error {
		target, err := f.source.Position(ctx)
		if err != nil {
			return err
		}
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			p, at := f.agent.Progress()
			f.show(p)
			if time.Since(at) < 2*time.Second && p.CopyDone && p.Unverified == 0 {
				reached, err := binlog.Reached(p.Position, target)
				if err != nil {
					return err
				}
				if reached {
					return f.rejections(ctx, p)
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// rejections refuses to count a data set as caught up from which rows were set
// aside.
func (f *rowFlow) rejections(ctx context.Context, p apply.Progress) error {
	if p.Rejected == 0 {
		return nil
	}
	list, err := f.agent.Rejected(ctx)
	if err != nil {
		return err
	}
	return &outcome{ErrVerify, &RejectedError{Set: f.set.Name, Count: p.Rejected, Rows: list}}
}

// RejectedError says that conversions rejected rows, which were set aside.
type RejectedError struct {
	Set   string
	Count uint64
	Rows  []apply.Rejected // some of them
}

func (e *RejectedError) Error() string {
	msg := fmt.Sprintf("data set %s: %d objects were rejected by their conversion and set aside; the switch waits until they are settled:", e.Set, e.Count)
	for i, r := range e.Rows {
		if i == 10 {
			msg += fmt.Sprintf("\n  and %d more", len(e.Rows)-i)
			break
		}
		msg += "\n  " + guestagent.Clean(fmt.Sprintf("%s %s: %s", r.Conversion, r.Key, r.Reason))
	}
	return msg + "\nRepair the rows in production, and they are converted again by themselves; 'imago convert retry' converts all of them again, after a repair of what converts them"
}

func (f *rowFlow) show(p apply.Progress) {
	if p.RowsTotal > 0 && !p.CopyDone {
		f.e.see.progress("copying the rows of "+f.set.Name, "rows", p.RowsCopied, max(p.RowsTotal, p.RowsCopied))
	}
}

// settle waits until everything up to a position is applied, converted and
// compared.
func (f *rowFlow) settle(ctx context.Context, at rows.Position, counters map[string]uint64) (v apply.Verified, err error) {
	err = f.watched(ctx, func(ctx context.Context) error {
		if err := f.gate.await(ctx, at); err != nil {
			return err
		}
		v, err = f.agent.Settle(ctx, at, counters)
		return err
	})
	if errors.Is(err, apply.ErrRejected) {
		p, _ := f.agent.Progress()
		return v, errors.Join(err, f.rejections(ctx, p))
	}
	return v, err
}

// settleLast is settle at production's last transaction, which must stay the
// last: someone who goes on writing while clients are held is waited for, and the
// order is to see that nobody writes, then to read the position.
func (f *rowFlow) settleLast(ctx context.Context) (at rows.Position, v apply.Verified, err error) {
	if err := f.quiet(ctx); err != nil {
		return at, v, err
	}
	if at, err = f.source.Position(ctx); err != nil {
		return at, v, err
	}
	for {
		counters, err := f.source.Counters(ctx)
		if err != nil {
			return at, v, err
		}
		if v, err = f.settle(ctx, at, counters); err != nil {
			return at, v, err
		}
		now, err := f.source.Position(ctx)
		if err != nil {
			return at, v, err
		}
		if same, err := samePosition(now, at); same || err != nil {
			return at, v, err
		}
		f.e.see.step("production still writes: going on to its last transaction")
		at = now
	}
}

// quiet waits for the transactions in progress.
func (f *rowFlow) quiet(ctx context.Context) error {
	for {
		open, err := f.source.OpenTransactions(ctx)
		if err != nil || len(open) == 0 {
			return err
		}
		f.e.see.step(fmt.Sprintf("waiting for %d open transactions of production: %v", len(open), open))
		select {
		// InnoDB shows the same list again to who asks within a tenth of a second.
		case <-time.After(150 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("transactions of production stay open (%v): %w", open, context.Cause(ctx))
		}
	}
}

func samePosition(a, b rows.Position) (bool, error) {
	there, err := binlog.Reached(a, b)
	if err != nil || !there {
		return false, err
	}
	return binlog.Reached(b, a)
}

// applyConfig is what the agent is told of a data set.
func (e *Engine) applyConfig(set plan.DataSet, login binlog.Config, start RowStart) apply.Config {
	c := apply.Config{
		Set: set.Name, Run: e.n.run, From: set.Source.Database, To: set.Target.Database, Skip: set.Skip,
		Source: apply.Server{Network: "tcp", Address: set.Source.Address.String(), User: login.User, Password: login.Password},
		Target: apply.Server{Network: "unix", Address: set.Target.Socket, User: set.Target.User, Password: set.Target.Password},
		Start:  start.Start, OverlapUntil: start.OverlapUntil,
	}
	for _, p := range set.Conversions {
		conv := convert.Conversion{Name: p.Name, Into: p.Into, Key: p.Key, Select: p.Select, Program: p.Program, Add: p.Add}
		for _, from := range p.From {
			conv.From = append(conv.From, convert.From{Table: from.Table, Key: from.Key, Via: from.Via, Plus: int64(from.Plus)})
		}
		c.Conversions = append(c.Conversions, conv)
	}
	return c
}

// hostDial reaches production from this host.
func hostDial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	return d.DialContext(ctx, network, addr)
}

// lag is how far the new database is behind production, by the source's clock:
// nothing when the last transaction that was read is applied.
func (f *rowFlow) lag() time.Duration {
	p, _ := f.agent.Progress()
	_, sent, _ := f.gate.state()
	if same, err := samePosition(sent, p.Position); err == nil && same || p.Committed.IsZero() {
		return 0
	}
	return max(time.Since(p.Committed), 0)
}
