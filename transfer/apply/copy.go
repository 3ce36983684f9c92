package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"imago.dev/imago/transfer/rows"
)

// mostChunkBytes bounds what is copied in one transaction, by estimate.
const mostChunkBytes = 8 << 20

// worker copies and compares chunks.
type worker struct {
	e      *Engine
	clone  *conn
	target *conn
	script *script
	insert [][]byte // by dest of the table at hand: the statement in the making
	keyBuf []byte
	a, b   side
}

// work does what there is to do until everything is verified.
func (e *Engine) work(ctx context.Context) error {
	same := newSeeds()
	w := &worker{e: e, a: side{seeds: same}, b: side{seeds: same}}
	defer w.close()
	for {
		if e.idle() {
			return nil
		}
		if err := e.rate.wait(ctx); err != nil {
			return err
		}
		did, err := w.one(ctx)
		if err != nil {
			return err
		}
		if did {
			continue
		}
		e.sched.mu.Lock()
		changed := e.sched.changed
		e.sched.mu.Unlock()
		// News between the look and here are caught by looking again soon.
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// idle tells whether nothing will ever be left to do for a worker.
func (e *Engine) idle() bool {
	e.sched.mu.Lock()
	defer e.sched.mu.Unlock()
	return e.sched.allVerified || e.sched.stopped
}

func (w *worker) close() {
	if w.clone != nil {
		w.clone.close()
	}
	if w.target != nil {
		w.target.close()
	}
}

func (w *worker) connect(ctx context.Context) (err error) {
	if w.clone == nil {
		if w.clone, err = dial(ctx, w.e.cfg.Source); err != nil {
			return err
		}
	}
	if w.target == nil {
		if w.target, err = dial(ctx, w.e.cfg.Target, writing(w.e.cfg.To)...); err != nil {
			return err
		}
		w.script = newScript(w.target, w.e.packet, w.e.mostPacket)
	}
	return nil
}

// one does one piece of work; false means that there is none now.
func (w *worker) one(ctx context.Context) (bool, error) {
	e := w.e
	s := &e.sched
	s.mu.Lock()
	if s.overlap || s.stopped {
		s.mu.Unlock()
		return false, nil
	}
	// One chunk in sixteen is compared at once, so that what goes wrong everywhere
	// is seen early; the rest when nothing is left to copy.
	if c := e.toCompare(func(c *chunk) bool { return c.n%16 == 0 }); c != nil {
		s.mu.Unlock()
		return true, w.compare(ctx, c)
	}
	for _, t := range e.tables {
		if len(t.copy.todo) > 0 {
			s.mu.Unlock()
			return true, w.copyNext(ctx, t)
		}
	}
	if c := e.toCompare(func(*chunk) bool { return true }); c != nil {
		s.mu.Unlock()
		return true, w.compare(ctx, c)
	}
	for _, t := range e.tables {
		if c := &t.copy; c.copied && !c.verified && len(c.unverified) == 0 && c.comparing == 0 {
			c.comparing++
			s.mu.Unlock()
			return true, w.conclude(ctx, t)
		}
	}
	s.mu.Unlock()
	return false, nil
}

// toCompare takes a chunk that is copied. s.mu is held.
func (e *Engine) toCompare(wanted func(*chunk) bool) *chunk {
	for _, t := range e.tables {
		if i := slices.IndexFunc(t.copy.unverified, wanted); i >= 0 {
			c := t.copy.unverified[i]
			t.copy.unverified = slices.Delete(t.copy.unverified, i, i+1)
			t.copy.comparing++
			return c
		}
	}
	return nil
}

// copyNext copies the next chunk of a table.
func (w *worker) copyNext(ctx context.Context, t *table) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	c, active, err := w.plan(t)
	if err != nil || c == nil {
		return err
	}
	// Changes that are being written now may be of keys in this chunk, which it
	// will leave out: it must not be copied unless they are.
	if active != nil {
		select {
		case <-active.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var bytes uint64
	for try := range 10 {
		if c.rows, bytes, err = w.copy(t, c); !passing(err) {
			break
		}
		time.Sleep(time.Duration(try) * 10 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("copy table %s: %w", t.src.Name, err)
	}
	w.e.rate.take(c.rows, bytes)
	w.e.count.rowsCopied.Add(c.rows)
	w.e.count.bytesCopied.Add(bytes)
	w.e.copied(t, c)
	return nil
}

// copied notes that a chunk is in the target.
func (e *Engine) copied(t *table, c *chunk) {
	s := &e.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &t.copy
	st.flying = slices.DeleteFunc(st.flying, func(o *chunk) bool { return o == c })
	st.add(c.span)
	st.chunks++
	st.unverified = append(st.unverified, c)
	if len(st.todo) == 0 && len(st.flying) == 0 {
		st.copied = true
		e.log.Info("table copied", "table", t.src.Table, "chunks", st.chunks)
		e.summary()
	}
	close(c.done)
	s.news()
}

// plan takes the next chunk of a table, with the changes that are being written
// at this moment. It is nil if another worker took the last.
func (w *worker) plan(t *table) (*chunk, *group, error) {
	s, st := &w.e.sched, &t.copy
	st.planning.Lock()
	defer st.planning.Unlock()
	s.mu.Lock()
	if len(st.todo) == 0 {
		s.mu.Unlock()
		return nil, nil, nil
	}
	first := st.todo[0]
	s.mu.Unlock()

	most := w.e.cfg.ChunkRows
	if t.rowBytes > 0 {
		most = max(16, min(most, int(mostChunkBytes/t.rowBytes)))
	}
	hi, err := w.bound(t, first, w.e.rate.piece(most, t.rowBytes))
	if err != nil {
		return nil, nil, fmt.Errorf("find the next rows to copy of %s: %w", t.src.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &chunk{t: t, n: st.next, span: span{first.lo, hi}, done: make(chan struct{})}
	st.next++
	if hi == nil || first.hi != nil && sameKey(hi, first.hi) {
		c.span.hi = first.hi
		st.todo = st.todo[1:]
	} else {
		st.todo[0].lo = hi
	}
	st.flying = append(st.flying, c)
	return c, s.active, nil
}

// from is the table on the clone, read by its key.
func (t *table) from() string {
	if t.primary {
		return t.src.SQL() + " FORCE INDEX (PRIMARY)"
	}
	return t.src.SQL()
}

// bound is the key of about the n-th row of a span, nil if it has fewer.
func (w *worker) bound(t *table, s span, n int) (hi []rows.Cell, err error) {
	if t.orderable == 0 {
		return nil, nil
	}
	names := t.names[:t.orderable]
	var list []string
	for _, c := range t.cols[:t.orderable] {
		list = append(list, selected(c))
	}
	q := append([]byte("SELECT "), strings.Join(list, ",")...)
	q = append(append(append(q, " FROM "...), t.from()...), " WHERE "...)
	q = appendSpan(q, names, t.cols, s)
	q = append(append(q, " ORDER BY "...), strings.Join(names, ",")...)
	// The index is read from the last bound on, n entries of it.
	q = append(strconv.AppendInt(append(q, " LIMIT "...), int64(n-1), 10), ",1"...)
	_, err = w.clone.query(string(q), func(v [][]byte) error {
		hi = make([]rows.Cell, len(v))
		for i := range v {
			cell, err := rows.ParseText(t.cols[i], v[i])
			if err != nil {
				return err
			}
			hi[i] = slices.Clone(cell)
		}
		return nil
	})
	return hi, err
}

// copy reads a chunk from the clone and writes it in one transaction, with the
// note that it is done.
func (w *worker) copy(t *table, c *chunk) (copied, bytes uint64, err error) {
	e := w.e
	sc := w.script
	sc.reset()
	defer func() {
		if err != nil {
			w.rollback()
		}
	}()
	if err := e.fence(sc); err != nil {
		return 0, 0, err
	}
	q := append([]byte("SELECT "), rows.SelectList(t.src)...)
	q = append(append(append(q, " FROM "...), t.from()...), " WHERE "...)
	q = appendSpan(q, t.names[:t.orderable], t.cols, c.span)

	for len(w.insert) < len(t.dests) {
		w.insert = append(w.insert, nil)
	}
	for i, d := range t.dests {
		w.insert[i] = append(w.insert[i][:0], d.insert...)
	}
	var inserted int64 // in the statements in the making
	row := make(rows.Row, len(t.src.Columns))
	flush := func() error {
		if inserted == 0 {
			return nil
		}
		for i, d := range t.dests {
			err := sc.add(check{want: inserted, wrong: d.wrong("insert", inserted), fails: d.conflict("copy")}, func(dst []byte) []byte {
				return append(dst, w.insert[i]...)
			})
			if err != nil {
				return err
			}
			w.insert[i] = append(w.insert[i][:0], d.insert...)
		}
		inserted = 0
		return sc.flush()
	}
	_, err = w.clone.query(string(q), func(v [][]byte) error {
		size := 0
		for i := range v {
			cell, err := rows.ParseText(&t.src.Columns[i], v[i])
			if err != nil {
				return err
			}
			row[i] = cell
			size += len(v[i])
		}
		if e.isTouched(t, row, &w.keyBuf) {
			return nil
		}
		full := false
		for i, d := range t.dests {
			began := len(w.insert[i])
			w.insert[i] = d.appendRow(w.insert[i], row, inserted > 0)
			full = full || len(w.insert[i]) >= e.packet
			if i == 0 && inserted > 0 && len(w.insert[0]) >= 2*e.packet {
				// So large a row goes alone; what was before it goes first.
				w.insert[0] = w.insert[0][:began]
				if err := flush(); err != nil {
					return err
				}
				w.insert[0] = d.appendRow(w.insert[0], row, false)
			}
		}
		inserted++
		copied++
		bytes += uint64(size)
		if full {
			return flush()
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	if err := flush(); err != nil {
		return 0, 0, err
	}
	err = sc.sql(check{want: 1, wrong: stateWrong}, fmt.Sprintf("INSERT INTO imago.chunks (id, tbl, n, lo, hi, rows_copied, bytes_copied, verified, compared) VALUES (%d,%d,%d,%s,%s,%d,%d,0,0)",
		e.id, t.id, c.n, blob(encodeBound(c.span.lo)), blob(encodeBound(c.span.hi)), copied, bytes))
	if err != nil {
		return 0, 0, err
	}
	if err := sc.finish(); err != nil {
		return 0, 0, err
	}
	if _, err := w.target.exec("COMMIT"); err != nil {
		return 0, 0, fmt.Errorf("commit: %w", err)
	}
	return copied, bytes, nil
}

func (w *worker) rollback() {
	w.script.reset()
	if _, err := w.target.exec("ROLLBACK"); err != nil {
		w.target.close()
		w.target = nil
	}
}

func stateWrong(got uint64) error {
	return fmt.Errorf("the state is not what it was: a statement affected %d of its rows", got)
}

// fence begins a transaction that ends before another process takes over.
func (e *Engine) fence(sc *script) error {
	if err := sc.sql(check{want: anyNumber}, "BEGIN"); err != nil {
		return err
	}
	return sc.sql(check{want: 1, wrong: func(uint64) error { return ErrFenced }, each: func(v [][]byte) error {
		if string(v[0]) != e.epoch {
			return ErrFenced
		}
		return nil
	}}, "SELECT epoch FROM imago.fences WHERE id="+strconv.Itoa(e.id)+" LOCK IN SHARE MODE")
}

// isTouched tells whether the stream has already written this row's key.
func (e *Engine) isTouched(t *table, row rows.Row, buf *[]byte) bool {
	t.touchedMu.RLock()
	defer t.touchedMu.RUnlock()
	if len(t.copy.touched) == 0 {
		return false
	}
	id := t.keyID(*buf, row)
	*buf = id[:0]
	_, is := t.copy.touched[string(id)]
	return is
}

// appendRow appends "(1,'a')" with the columns that are written.
func (d *dest) appendRow(dst []byte, row rows.Row, more bool) []byte {
	if more {
		dst = append(dst, ',')
	}
	for n, i := range d.cols {
		if n == 0 {
			dst = append(dst, '(')
		} else {
			dst = append(dst, ',')
		}
		dst = rows.AppendLiteral(dst, &d.src.Columns[i], row[i])
	}
	return append(dst, ')')
}

// wrong and conflict put in words what the target answered.
func (d *dest) wrong(what string, want int64) func(uint64) error {
	return func(got uint64) error {
		return fmt.Errorf("%w: %s %s: %d rows instead of %d", ErrConflict, what, d.sql, got, want)
	}
}

func (d *dest) conflict(what string) func(error) error {
	return func(err error) error {
		switch code(err) {
		case 0, mysql.ER_LOCK_DEADLOCK, mysql.ER_LOCK_WAIT_TIMEOUT:
			return err
		case mysql.ER_DUP_ENTRY, mysql.ER_DUP_KEY, mysql.ER_DUP_ENTRY_WITH_KEY_NAME:
			return fmt.Errorf("%w: %s %s: %w", ErrConflict, what, d.sql, err)
		}
		return fmt.Errorf("%s %s: %w", what, d.sql, err)
	}
}

// readSizes asks the clone how large rows are and which index the key is.
func (e *Engine) readSizes(ctx context.Context) error {
	clone, err := dial(ctx, e.cfg.Source)
	if err != nil {
		return err
	}
	defer clone.close()
	name := func(v []byte) *table { return e.byName[rows.Name{Database: e.cfg.From, Table: string(v)}] }
	_, err = clone.query("SELECT TABLE_NAME, AVG_ROW_LENGTH FROM information_schema.TABLES WHERE TABLE_SCHEMA="+rows.Literal(e.cfg.From), func(v [][]byte) error {
		if t := name(v[0]); t != nil {
			e.sched.mu.Lock() // Progress may look
			defer e.sched.mu.Unlock()
			t.rowBytes, _ = strconv.ParseFloat(string(v[1]), 64)
		}
		return nil
	})
	if err == nil {
		_, err = clone.query("SELECT DISTINCT TABLE_NAME FROM information_schema.STATISTICS WHERE INDEX_NAME='PRIMARY' AND TABLE_SCHEMA="+rows.Literal(e.cfg.From), func(v [][]byte) error {
			if t := name(v[0]); t != nil {
				t.primary = true
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("ask the clone for its tables' sizes: %w", err)
	}
	return nil
}

// errDifferences keeps a list of differences short.
func differences(what string, list []string) error {
	const most = 5
	more := ""
	if len(list) > most {
		more = fmt.Sprintf("; and %d more", len(list)-most)
		list = list[:most]
	}
	return errors.Join(fmt.Errorf("%w: %s: %s%s", ErrDifferent, what, strings.Join(list, "; "), more))
}
