package upgrade

import (
	"context"
	"sync"

	"imago.dev/imago/transfer/binlog"
	"imago.dev/imago/transfer/rows"
)

// rowGate stands between a change stream and its target: it can stop the stream
// between two transactions, so that the target stands still at a position that is
// known, and let it go on up to another.
type rowGate struct {
	mu      sync.Mutex
	stopped bool
	upTo    *rows.Position // with stopped: what may still pass
	sent    rows.Position
	change  chan struct{} // closed at each change of the above
}

func newRowGate(at rows.Position) *rowGate {
	return &rowGate{sent: at, change: make(chan struct{})}
}

func (g *rowGate) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
	close(g.change)
	g.change = make(chan struct{})
}

// stop lets nothing more pass and returns what the last one was.
func (g *rowGate) stop() (at rows.Position) {
	g.set(func() { g.stopped, g.upTo, at = true, nil, g.sent })
	return at
}

// until lets pass what stands before a position, and stops there.
func (g *rowGate) until(at rows.Position) {
	g.set(func() { g.stopped, g.upTo = true, &at })
}

func (g *rowGate) open() { g.set(func() { g.stopped, g.upTo = false, nil }) }

func (g *rowGate) state() (may func(rows.Position) (bool, error), sent rows.Position, change <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	stopped, upTo := g.stopped, g.upTo
	return func(p rows.Position) (bool, error) {
		switch {
		case !stopped:
			return true, nil
		case upTo == nil:
			return false, nil
		}
		return binlog.Reached(*upTo, p)
	}, g.sent, g.change
}

// pass waits until a transaction that leads to a position may go to the target.
func (g *rowGate) pass(ctx context.Context, to rows.Position) error {
	for {
		may, _, change := g.state()
		ok, err := may(to)
		if ok || err != nil {
			return err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// passed notes that a transaction went to the target.
func (g *rowGate) passed(to rows.Position) { g.set(func() { g.sent = to }) }

// await waits until all that stands before a position went to the target.
func (g *rowGate) await(ctx context.Context, at rows.Position) error {
	for {
		_, sent, change := g.state()
		ok, err := binlog.Reached(sent, at)
		if ok || err != nil {
			return err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
