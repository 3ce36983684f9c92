package apply

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"strconv"

	"imago.dev/imago/transfer/rows"
)

// sum tells rows apart without keeping them.
type sum [2]uint64

// seeds make sums comparable; both sides have the same.
type seeds [2]maphash.Seed

func newSeeds() seeds { return seeds{maphash.MakeSeed(), maphash.MakeSeed()} }

func (s *seeds) sum(b []byte) sum { return sum{maphash.Bytes(s[0], b), maphash.Bytes(s[1], b)} }

// side is the rows of a chunk as one server has them: keys and sums, in the order
// in which they were read.
type side struct {
	seeds seeds
	keys  []byte
	recs  []rec
	buf   []byte
}

type rec struct {
	from, upto int // of the encoded key in keys
	sum        sum
}

func (s *side) reset() { s.keys, s.recs = s.keys[:0], s.recs[:0] }

func (s *side) key(i int) []byte { return s.keys[s.recs[i].from:s.recs[i].upto] }

// add takes a row as it was selected with a dest's list, its values described by
// parse.
func (s *side) add(d *dest, parse []*rows.Column, v [][]byte) error {
	s.buf = s.buf[:0]
	r := rec{from: len(s.keys)}
	for i := range d.forms {
		cell, err := rows.ParseText(parse[i], v[i])
		if err != nil {
			return err
		}
		s.buf = d.forms[i].append(s.buf, cell, parse[i])
	}
	for n, at := range d.keyAt {
		cell, err := rows.ParseText(d.keyCols[n], v[at])
		if err != nil {
			return err
		}
		s.keys = appendCell(s.keys, cell)
	}
	r.upto, r.sum = len(s.keys), s.seeds.sum(s.buf)
	s.recs = append(s.recs, r)
	return nil
}

// compare sets a chunk of the clone against the target, in all places that its
// rows went to.
func (w *worker) compare(ctx context.Context, c *chunk) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	t := c.t
	var compared uint64
	for _, d := range t.dests {
		n, err := w.compareDest(t, d, c)
		if err != nil {
			return fmt.Errorf("compare table %s with the clone: %w", t.src.Name, err)
		}
		compared = n
	}
	sc := w.script
	sc.reset()
	err := w.e.fence(sc)
	if err == nil {
		err = sc.sql(check{want: 1, wrong: stateWrong}, fmt.Sprintf("UPDATE imago.chunks SET verified=1, compared=%d WHERE id=%d AND tbl=%d AND n=%d", compared, w.e.id, t.id, c.n))
	}
	if err == nil && compared > 0 && !w.e.wasCompared(t) {
		err = sc.sql(check{want: anyNumber}, fmt.Sprintf("UPDATE imago.tables SET compared=1 WHERE id=%d AND tbl=%d", w.e.id, t.id))
	}
	if err == nil {
		err = sc.sql(check{want: anyNumber}, "COMMIT")
	}
	if err == nil {
		err = sc.finish()
	}
	if err != nil {
		return fmt.Errorf("note that a part of %s is compared: %w", t.src.Name, err)
	}
	w.e.rate.take(c.rows, uint64(float64(c.rows)*t.rowBytes))
	w.e.count.rowsVerified.Add(compared)
	s := &w.e.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	t.copy.comparing--
	t.copy.compared = t.copy.compared || compared > 0
	s.news()
	return nil
}

func (e *Engine) wasCompared(t *table) bool {
	e.sched.mu.Lock()
	defer e.sched.mu.Unlock()
	return t.copy.compared
}

func (w *worker) compareDest(t *table, d *dest, c *chunk) (uint64, error) {
	w.a.reset()
	w.b.reset()
	srcCols := columns(t.src, d.cols)
	where := appendSpan(nil, t.names[:t.orderable], t.cols, c.span)
	q := "SELECT " + d.source + " FROM " + t.from() + " WHERE " + string(where)
	if _, err := w.clone.query(q, func(v [][]byte) error { return w.a.add(d, srcCols, v) }); err != nil {
		return 0, err
	}
	read := func(condition []byte) error {
		q := "SELECT " + d.list + " FROM " + d.sql + " WHERE " + string(condition)
		_, err := w.target.query(q, func(v [][]byte) error { return w.b.add(d, d.parse, v) })
		return err
	}
	if d.sameOrder {
		if err := read(where); err != nil {
			return 0, err
		}
	} else {
		// A range is another one there, so each key is looked up.
		const batch = 500
		for from := 0; from < len(w.a.recs); from += batch {
			var keys [][]rows.Cell
			for i := from; i < min(from+batch, len(w.a.recs)); i++ {
				k, err := decodeKey(w.a.key(i))
				if err != nil {
					return 0, err
				}
				keys = append(keys, k)
			}
			if err := read(appendIn(nil, d.keyNames, d.keyCols, keys)); err != nil {
				return 0, err
			}
		}
	}
	return w.judge(t, d)
}

// judge finds the differences between both sides that the stream does not explain.
func (w *worker) judge(t *table, d *dest) (uint64, error) {
	a, b := &w.a, &w.b
	same := len(a.recs) == len(b.recs)
	for i := 0; same && i < len(a.recs); i++ {
		same = a.recs[i].sum == b.recs[i].sum && bytes.Equal(a.key(i), b.key(i))
	}
	if same {
		return uint64(len(a.recs)), nil
	}
	there := make(map[string]sum, len(b.recs))
	for i := range b.recs {
		there[string(b.key(i))] = b.recs[i].sum
	}
	var compared uint64
	var wrong []string
	for i := range a.recs {
		k := a.key(i)
		got, ok := there[string(k)]
		delete(there, string(k))
		switch {
		case ok && got == a.recs[i].sum:
			compared++
		case w.e.keyTouched(t, k):
			// The stream changed it and compared its last image itself.
		case ok:
			wrong = append(wrong, w.describe(d, "differs", k))
		default:
			wrong = append(wrong, w.describe(d, "is missing", k))
		}
	}
	if !(t.added && d == t.identity) {
		for k := range there {
			if !w.e.keyTouched(t, []byte(k)) {
				wrong = append(wrong, w.describe(d, "is not on the clone", []byte(k)))
			}
		}
	}
	if len(wrong) > 0 {
		return 0, differences(d.sql, wrong)
	}
	return compared, nil
}

func (w *worker) describe(d *dest, what string, k []byte) string {
	key, err := decodeKey(k)
	if err != nil {
		return err.Error()
	}
	return "the row with " + keyText(d.keyCols, key) + " " + what
}

// keyTouched tells whether the stream changed an encoded key.
func (e *Engine) keyTouched(t *table, key []byte) bool {
	t.touchedMu.RLock()
	defer t.touchedMu.RUnlock()
	_, is := t.copy.touched[string(shortened(key))]
	return is
}

// conclude ends the verification of a table: from here on the clone is not needed
// for it.
func (w *worker) conclude(ctx context.Context, t *table) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.countRows(t); err != nil {
		return err
	}
	sc := w.script
	sc.reset()
	err := w.e.fence(sc)
	if err == nil {
		err = sc.sql(check{want: anyNumber}, fmt.Sprintf("UPDATE imago.tables SET verified=1 WHERE id=%d AND tbl=%d", w.e.id, t.id))
	}
	if err == nil {
		err = sc.sql(check{want: anyNumber}, "COMMIT")
	}
	if err == nil {
		err = sc.finish()
	}
	if err != nil {
		return fmt.Errorf("note that %s is verified: %w", t.src.Name, err)
	}
	s := &w.e.sched
	s.mu.Lock()
	t.copy.verified = true
	t.copy.comparing--
	w.e.summary()
	s.news()
	s.mu.Unlock()
	t.touchedMu.Lock()
	t.copy.touched = nil
	t.touchedMu.Unlock()
	// Their time is over; nobody reads them for a verified table.
	for {
		n, err := w.target.exec(fmt.Sprintf("DELETE FROM imago.touched WHERE id=%d AND tbl=%d LIMIT 5000", w.e.id, t.id))
		if err != nil && !passing(err) {
			return fmt.Errorf("remove the touched keys of %s: %w", t.src.Name, err)
		}
		if err == nil && n == 0 {
			break
		}
	}
	w.e.log.Info("table verified", "table", t.src.Table)
	return nil
}

// countRows finds rows that nobody asked for, where a range of keys is not the
// same on both sides: the number of rows must be what was copied and applied.
func (w *worker) countRows(t *table) error {
	d := t.identity
	if d == nil || d.sameOrder || t.added {
		return nil
	}
	var want, got uint64
	read := func(to *uint64) func([][]byte) error {
		return func(v [][]byte) (err error) {
			*to, err = strconv.ParseUint(string(v[0]), 10, 64)
			return err
		}
	}
	for _, step := range []struct {
		sql  string
		each func([][]byte) error
	}{
		{"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", nil},
		{"START TRANSACTION WITH CONSISTENT SNAPSHOT", nil},
		{fmt.Sprintf("SELECT CAST(t.delta + (SELECT COALESCE(SUM(c.rows_copied),0) FROM imago.chunks c WHERE c.id=t.id AND c.tbl=t.tbl) AS UNSIGNED) FROM imago.tables t WHERE t.id=%d AND t.tbl=%d",
			w.e.id, t.id), read(&want)},
		{"SELECT COUNT(*) FROM " + d.sql, read(&got)},
		{"COMMIT", nil},
	} {
		if _, err := w.target.query(step.sql, step.each); err != nil {
			return fmt.Errorf("count the rows of %s: %w", d.sql, err)
		}
	}
	if got != want {
		return fmt.Errorf("%w: %s has %d rows, %d were copied and applied", ErrDifferent, d.sql, got, want)
	}
	return nil
}
