package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"imago.dev/imago/transfer/rows"
)

// Engine transfers one data set. Open makes it, Run works until it is told to
// stop; all else may be called meanwhile from anywhere.
type Engine struct {
	cfg    Config
	log    *slog.Logger
	shadow string // the database of exact copies
	packet int    // bytes of statements that are sent at once
	// mostPacket is the server's max_allowed_packet.
	mostPacket int

	source, target *rows.Schema
	tables         []*table
	byName         map[rows.Name]*table
	isShadow       map[string]bool
	convs          []*conversion

	id     int    // of the set in the state
	epoch  string // of the fence
	making bool
	begun  string // the clone's position when the copy began

	sched    scheduler
	rate     throttle
	count    counters
	pos      position
	requests chan request
	ran      atomic.Bool
	failed   atomic.Pointer[error]
}

// counters are what Progress shows.
type counters struct {
	rowsCopied, bytesCopied, rowsVerified     atomic.Uint64
	transactions, changes, changesVerified    atomic.Uint64
	groups, rescheduled, converted, converify atomic.Uint64
	copyRate, changeRate                      meter
}

// position is where the applied stream is.
type position struct {
	mu        sync.Mutex
	at        rows.Position
	committed time.Time
}

func (p *position) get() (rows.Position, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at, p.committed
}

func (p *position) set(at rows.Position, committed time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = at
	if !committed.IsZero() {
		p.committed = committed
	}
}

// Position is where the stream must go on.
func (e *Engine) Position() rows.Position {
	at, _ := e.pos.get()
	return at
}

// errClosed ends the work when the stream is closed.
var errClosed = errors.New("the stream is closed")

// Run copies, applies and verifies until in is closed, ctx ends or something
// fails. It may be called once, and returns nil when in was closed. All that it
// started has ended when it returns.
func (e *Engine) Run(ctx context.Context, in <-chan *rows.Txn) error {
	if e.ran.Swap(true) {
		return errors.New("Run was called before")
	}
	defer e.closeConversions()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer close(e.sched.ended)
	if !e.idle() {
		if err := e.readSizes(ctx); err != nil {
			return fmt.Errorf("data set %q: %w", e.cfg.Set, err)
		}
	}

	var wait sync.WaitGroup
	start := func(what string, f func(context.Context) error) {
		wait.Go(func() {
			if err := f(ctx); err != nil {
				if ctx.Err() == nil || errors.Is(err, errClosed) {
					cancel(fmt.Errorf("%s: %w", what, err))
				}
			}
		})
	}
	start("apply changes", func(ctx context.Context) error { return e.apply(ctx, in) })
	for range e.cfg.Workers {
		start("copy", e.work)
	}
	if len(e.convs) > 0 {
		start("convert", e.convertAll)
	}
	<-ctx.Done()
	e.sched.stop()
	wait.Wait()
	err := context.Cause(ctx)
	if errors.Is(err, errClosed) {
		return nil
	}
	err = fmt.Errorf("data set %q: %w", e.cfg.Set, err)
	e.failed.Store(&err)
	return err
}

// Applied waits until at least n transactions of the stream of this Run are in the
// target, and tells how many are.
func (e *Engine) Applied(ctx context.Context, n uint64) (uint64, error) {
	for {
		e.sched.mu.Lock()
		applied, changed := e.sched.applied, e.sched.changed
		e.sched.mu.Unlock()
		if applied >= n {
			return applied, nil
		}
		select {
		case <-changed:
		case <-e.sched.ended:
			return applied, e.ended()
		case <-ctx.Done():
			return applied, context.Cause(ctx)
		}
	}
}

// Progress is how far the transfer is. It is cheap.
func (e *Engine) Progress() Progress {
	c := &e.count
	p := Progress{
		RowsCopied: c.rowsCopied.Load(), BytesCopied: c.bytesCopied.Load(),
		Transactions: c.transactions.Load(), Changes: c.changes.Load(), Groups: c.groups.Load(),
		Rescheduled: c.rescheduled.Load(), Converted: c.converted.Load(),
		Verified:      c.rowsVerified.Load() + c.changesVerified.Load() + c.converify.Load(),
		RowsPerSecond: c.copyRate.rate(c.rowsCopied.Load()), ChangesPerSecond: c.changeRate.rate(c.changes.Load()),
	}
	p.Position, p.Committed = e.pos.get()
	if err := e.failed.Load(); err != nil {
		p.Error = (*err).Error()
	}
	e.sched.progress(e, &p)
	return p
}

// meter tells the rate of a number that only grows.
type meter struct {
	mu   sync.Mutex
	at   time.Time
	n    uint64
	last float64
}

func (m *meter) rate(n uint64) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch passed := now.Sub(m.at); {
	case m.at.IsZero():
	case passed < 500*time.Millisecond:
		return m.last
	default:
		m.last = float64(n-m.n) / passed.Seconds()
	}
	m.at, m.n = now, n
	return m.last
}
