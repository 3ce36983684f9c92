package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"imago.dev/imago/transfer/gtid"
	"imago.dev/imago/transfer/rows"
)

// applier writes the stream of changes. It is one goroutine, and everything that
// must not meet a change runs in it.
type applier struct {
	e      *Engine
	ctx    context.Context
	target *conn
	clone  *conn // only to compare keys, and only while something is copied
	script *script
}

// mostGroupBytes bounds the rows of a group, but for the last transaction's.
const mostGroupBytes = 16 << 20

// request is work for the applier between two groups.
type request struct {
	do   func(*applier) error
	done chan error
}

// gathered is some transactions that become one of the target.
type gathered struct {
	c    collapsed
	txns []*rows.Txn
	// touched are keys that the copy must leave out and that the state does not
	// have yet.
	touched map[*table][]string
	// swept are keys that this group's foreign keys changed and that were told to
	// the comparison already.
	swept    map[*table]map[string]struct{}
	compared map[*table]bool // what the state has
	overlap  bool
	leaves   bool // this is the end of the overlap
	objects  []*dirtyObjects
}

// apply takes transactions from the stream until it is closed.
func (e *Engine) apply(ctx context.Context, in <-chan *rows.Txn) error {
	a := &applier{e: e, ctx: ctx}
	defer a.close()
	var err error
	if a.target, err = dial(ctx, e.cfg.Target, writing(e.cfg.To)...); err != nil {
		return err
	}
	a.script = newScript(a.target, e.packet, e.mostPacket)
	now := make(chan struct{})
	close(now)
	for {
		due, err := a.drain()
		if err != nil {
			return err
		}
		e.sched.mu.Lock()
		changed := e.sched.changed
		e.sched.mu.Unlock()
		switch {
		case due:
			changed = now
		case !e.draining():
			changed = nil
		}
		select {
		case t, ok := <-in:
			if !ok {
				return errClosed
			}
			if err := a.group(t, in); err != nil {
				return err
			}
		case r := <-e.requests:
			r.done <- r.do(a)
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (a *applier) close() {
	if a.target != nil {
		a.target.close()
	}
	if a.clone != nil {
		a.clone.close()
	}
}

func (a *applier) ask() (_ *conn, err error) {
	if a.clone == nil {
		a.clone, err = dial(a.ctx, a.e.cfg.Source)
	}
	return a.clone, err
}

// group applies a transaction, with those that have already arrived behind it.
// It never waits for more, so a lone change is not held up.
func (a *applier) group(first *rows.Txn, in <-chan *rows.Txn) error {
	g := &gathered{c: collapsed{e: a.e}, touched: map[*table][]string{}, compared: map[*table]bool{},
		swept: map[*table]map[string]struct{}{}}
	for t := first; t != nil; {
		if err := g.c.add(t); err != nil {
			return err
		}
		g.txns = append(g.txns, t)
		t = nil
		if g.c.changes < a.e.cfg.BatchRows && g.c.bytes < mostGroupBytes {
			select {
			case t = <-in: // nil if it is closed, which is seen next time
			default:
			}
		}
	}
	return a.write(g)
}

// write writes a group, again if a lock was not to be had.
func (a *applier) write(g *gathered) error {
	e := a.e
	last := g.txns[len(g.txns)-1]
	active, err := a.classify(g, last)
	if err != nil {
		return err
	}
	defer e.sched.end(active)
	var w *writer
	for try := range 20 {
		w = &writer{e: e, g: g, sc: a.script, ask: a.ask, delta: map[*table]int64{}, checked: map[*table]uint64{},
			swept: map[*table]map[string]struct{}{}}
		if err = a.transaction(w, last); !passing(err) {
			break
		}
		time.Sleep(time.Duration(try*try) * time.Millisecond)
	}
	if err != nil {
		return a.explain(err)
	}
	e.committed(g, w, last)
	return nil
}

// transaction is one attempt.
func (a *applier) transaction(w *writer, last *rows.Txn) (err error) {
	e, sc := a.e, a.script
	sc.reset()
	defer func() {
		if err != nil {
			sc.reset()
			if _, undo := a.target.exec("ROLLBACK"); undo != nil && code(err) == 0 {
				err = errors.Join(err, undo)
			}
		}
	}()
	if err := e.fence(sc); err != nil {
		return err
	}
	for _, s := range w.g.c.segments {
		for _, b := range s.batches {
			if err := w.batch(b); err != nil {
				return err
			}
		}
		if err := w.events(s.events); err != nil {
			return err
		}
	}
	if w.g.leaves {
		if err := w.dangling(); err != nil {
			return err
		}
	}
	if len(e.convs) > 0 && len(w.g.c.converted) > 0 {
		if err := a.convertGroup(w); err != nil {
			return err
		}
	}
	if err := w.state(); err != nil {
		return err
	}
	old, _ := e.pos.get()
	committed := int64(0)
	if !last.Committed.IsZero() {
		committed = last.Committed.UnixNano()
	}
	err = sc.add(check{want: 1, wrong: func(uint64) error {
		return fmt.Errorf("%w: the state's position is not %q", ErrFenced, old.GTID)
	}}, func(dst []byte) []byte {
		dst = append(dst, "UPDATE imago.positions SET gtid="...)
		dst = appendBlob(dst, []byte(last.Position.GTID))
		dst = append(dst, ", log_file="...)
		dst = appendBlob(dst, []byte(last.Position.File))
		// All last images were read back by now, or will be in this very packet.
		dst = fmt.Appendf(dst, ", log_at=%d, committed=%d, overlap=%d, transactions=transactions+%d, changes=changes+%d, verified=verified+%d",
			last.Position.At, committed, bit(w.g.overlap && !w.g.leaves), len(w.g.txns), w.g.c.changes, w.g.images())
		dst = fmt.Appendf(dst, " WHERE id=%d AND gtid=", e.id)
		return appendBlob(dst, []byte(old.GTID))
	})
	if err != nil {
		return err
	}
	if err := sc.finish(); err != nil {
		return err
	}
	if _, err := a.target.exec("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// images is how many last images the group has in all places.
func (g *gathered) images() uint64 {
	n := 0
	for _, s := range g.c.segments {
		for _, b := range s.batches {
			for _, en := range b.list {
				if en.after != nil {
					n += len(b.t.dests)
				}
			}
		}
	}
	return uint64(n)
}

// committed notes what a written group did.
func (e *Engine) committed(g *gathered, w *writer, last *rows.Txn) {
	e.count.transactions.Add(uint64(len(g.txns)))
	e.count.changes.Add(uint64(g.c.changes))
	e.count.changesVerified.Add(g.images())
	e.count.groups.Add(1)
	for t, keys := range w.swept {
		t.touch(keys)
	}
	s := &e.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, n := range w.checked {
		t.copy.compared = t.copy.compared || n > 0
	}
	if g.leaves {
		s.overlap = false
	}
	e.objectsCommitted(g)
	e.pos.set(last.Position, last.Committed)
	s.applied += uint64(len(g.txns))
	s.news()
}

// classify decides for each key whether its row is in the target already, and tells
// the copy which keys to leave out. Changes of keys that are being copied now wait
// for it.
func (a *applier) classify(g *gathered, last *rows.Txn) (*group, error) {
	e := a.e
	s := &e.sched
	if err := a.waitForChildren(g); err != nil {
		return nil, err
	}
	for {
		s.mu.Lock()
		chunk, n, err := a.inFlight(g)
		if err != nil || chunk != nil {
			s.mu.Unlock()
			if err != nil {
				return nil, err
			}
			e.count.rescheduled.Add(uint64(n))
			select {
			case <-chunk.done:
				continue
			case <-a.ctx.Done():
				return nil, context.Cause(a.ctx)
			}
		}
		break
	}
	defer s.mu.Unlock()
	g.overlap = s.overlap
	if s.overlap {
		reached, err := gtid.Reached(last.Position, e.cfg.OverlapUntil)
		if err != nil {
			return nil, fmt.Errorf("compare positions: %w", err)
		}
		g.leaves = reached
	}
	for _, seg := range g.c.segments {
		for _, b := range seg.batches {
			g.compared[b.t] = b.t.copy.compared
			b.mark(g)
		}
		for _, ev := range seg.events {
			g.compared[ev.c.child] = ev.c.child.copy.compared
		}
	}
	return s.begin(), nil
}

// inFlight finds a chunk that is being copied and has one of the keys, and sets
// put of all entries if there is none.
func (a *applier) inFlight(g *gathered) (*chunk, int, error) {
	for _, seg := range g.c.segments {
		for _, b := range seg.batches {
			t := b.t
			if t.copy.copied {
				continue
			}
			places, chunks, err := t.locations(a.ask, keysOf(b.list))
			if err != nil {
				return nil, 0, err
			}
			var waits *chunk
			n := 0
			for i, p := range places {
				if p == flying {
					waits = chunks[i]
					n++
				}
				b.list[i].put = p == ahead
			}
			if waits != nil {
				return waits, n, nil
			}
		}
	}
	return nil, 0, nil
}

// mark adds the batch's keys to those that the copy and its comparison leave out.
func (b *batch) mark(g *gathered) {
	t := b.t
	if t.copy.verified {
		return
	}
	t.touchedMu.Lock()
	defer t.touchedMu.Unlock()
	for _, en := range b.list {
		if _, is := t.copy.touched[en.id]; !is && t.copy.touched != nil {
			t.copy.touched[en.id] = struct{}{}
			g.touched[t] = append(g.touched[t], en.id)
		}
	}
}

func (t *table) touch(keys map[string]struct{}) {
	t.touchedMu.Lock()
	defer t.touchedMu.Unlock()
	for k := range keys {
		if t.copy.touched != nil {
			t.copy.touched[k] = struct{}{}
		}
	}
}

// waitForChildren waits until tables that foreign keys change are copied: what a
// foreign key does to rows is known only where the rows are.
func (a *applier) waitForChildren(g *gathered) error {
	s := &a.e.sched
	seen := map[*table]bool{}
	var missing func(t *table) bool
	missing = func(t *table) bool {
		if seen[t] {
			return false
		}
		seen[t] = true
		if !t.copy.copied {
			return true
		}
		for _, k := range t.cascades {
			if missing(k.child) {
				return true
			}
		}
		return false
	}
	for {
		s.mu.Lock()
		wait := false
		if !s.overlap {
			clear(seen)
			for _, seg := range g.c.segments {
				for _, ev := range seg.events {
					wait = wait || missing(ev.c.child)
				}
			}
		}
		changed := s.changed
		s.mu.Unlock()
		if !wait {
			return nil
		}
		select {
		case <-changed:
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		}
	}
}

// explain names the key that a wrong number was about.
func (a *applier) explain(err error) error {
	m := (*missingError)(nil)
	if !errors.As(err, &m) {
		return err
	}
	d := m.dest
	there := map[string]bool{}
	q := append([]byte("SELECT "+d.list+" FROM "+d.sql+" WHERE "), appendIn(nil, d.keyNames, d.keyCols, keysOf(m.entries))...)
	_, asked := a.target.query(string(q), func(v [][]byte) error {
		var key []byte
		for n, at := range d.keyAt {
			cell, err := rows.ParseText(d.keyCols[n], v[at])
			if err != nil {
				return err
			}
			key = appendCell(key, cell)
		}
		there[string(shortened(key))] = true
		return nil
	})
	if asked != nil {
		return err
	}
	for _, en := range m.entries {
		if en.began && !there[en.id] {
			return fmt.Errorf("%w; %s is not there", err, keyText(d.keyCols, en.key))
		}
	}
	return err
}
