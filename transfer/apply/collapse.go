package apply

import (
	"bytes"
	"fmt"
	"slices"

	"imago.dev/imago/transfer/rows"
)

// entry is what some transactions together did to one key: what was there before
// and what is there after.
type entry struct {
	key    []rows.Cell
	id     string
	began  bool     // the row was there before
	before rows.Row // its first image, if it was
	after  rows.Row // nil: it is gone
	// put: the table's copy has not come to this key yet, so whether the row is
	// there is not known, and the last image is put in its place.
	put bool
}

// batch is the entries of one table.
type batch struct {
	t       *table
	entries map[string]*entry
	list    []*entry
}

// segment is changes that may be written in any order of tables, and then what
// foreign keys did because of them.
type segment struct {
	batches []*batch
	byTable map[*table]*batch
	events  []event
	last    *table // of the last change, if it has events
}

// event is a change of a parent that a foreign key answers to.
type event struct {
	c        *cascade
	old, new []rows.Cell // new is nil if the parent is gone
}

// collapsed is the changes of some transactions.
type collapsed struct {
	e        *Engine
	segments []*segment
	changes  int
	bytes    int // of the rows
	keyBuf   []byte
	// all are the changes of tables that conversions read, in order.
	converted []*rows.Change
}

func (c *collapsed) add(txn *rows.Txn) error {
	for i := range txn.Changes {
		ch := &txn.Changes[i]
		t := c.e.byName[ch.Table]
		if t == nil {
			return fmt.Errorf("transaction %s changes table %s, which is not transferred", txn.ID, ch.Table)
		}
		if err := c.change(t, ch, txn.ForeignKeyChecksOff); err != nil {
			return fmt.Errorf("transaction %s: %w", txn.ID, err)
		}
		if len(t.convs) > 0 {
			c.converted = append(c.converted, ch)
		}
		c.changes++
		c.bytes += sizeOf(ch.Before) + sizeOf(ch.After)
	}
	return nil
}

func sizeOf(r rows.Row) int {
	n := 0
	for _, v := range r {
		n += len(v)
	}
	return n
}

// segment is where the next change of a table goes. What foreign keys did must
// come before later changes, but for those of a statement that goes on to remove
// rows of the same parent.
func (c *collapsed) segment(t *table, ch *rows.Change) *segment {
	if n := len(c.segments); n > 0 {
		s := c.segments[n-1]
		if len(s.events) == 0 || s.last == t && ch.Op == rows.Delete {
			return s
		}
	}
	s := &segment{byTable: map[*table]*batch{}}
	c.segments = append(c.segments, s)
	return s
}

func (c *collapsed) change(t *table, ch *rows.Change, unchecked bool) error {
	n := len(t.src.Columns)
	if ch.Op != rows.Insert && len(ch.Before) != n || ch.Op != rows.Delete && len(ch.After) != n {
		return fmt.Errorf("a row of table %s has not %d columns, as the table had: its definition changed", t.src.Name, n)
	}
	s := c.segment(t, ch)
	b := s.byTable[t]
	if b == nil {
		b = &batch{t: t, entries: map[string]*entry{}}
		s.byTable[t] = b
		s.batches = append(s.batches, b)
	}
	var err error
	switch ch.Op {
	case rows.Insert:
		err = c.insert(b, ch.After)
	case rows.Delete:
		err = c.delete(b, ch.Before)
	case rows.Update:
		if t.sameKey(ch.Before, ch.After) {
			err = c.update(b, ch.Before, ch.After)
		} else if err = c.delete(b, ch.Before); err == nil {
			err = c.insert(b, ch.After)
		}
	default:
		err = fmt.Errorf("unknown operation %d", ch.Op)
	}
	if err != nil || unchecked || len(t.cascades) == 0 {
		return err
	}
	for _, k := range t.cascades {
		if ev, ok := k.event(ch.Before, ch.After); ok {
			s.events = append(s.events, ev)
			s.last = t
		}
	}
	return nil
}

func (t *table) sameKey(a, b rows.Row) bool {
	for _, k := range t.src.Key {
		if !bytes.Equal(a[k], b[k]) {
			return false
		}
	}
	return true
}

// find is the entry of a row's key, or nil; id is valid until the next call.
func (c *collapsed) find(b *batch, r rows.Row) (*entry, []byte) {
	c.keyBuf = b.t.keyID(c.keyBuf, r)
	return b.entries[string(c.keyBuf)], c.keyBuf
}

func (b *batch) begin(id []byte, r rows.Row) *entry {
	e := &entry{key: b.t.src.KeyOf(r), id: string(id)}
	b.entries[e.id] = e
	b.list = append(b.list, e)
	return e
}

func (c *collapsed) insert(b *batch, after rows.Row) error {
	e, id := c.find(b, after)
	if e == nil {
		e = b.begin(id, after)
	} else if e.after != nil {
		return b.odd("is inserted while it is there", e)
	}
	e.after = after
	return nil
}

func (c *collapsed) delete(b *batch, before rows.Row) error {
	e, id := c.find(b, before)
	if e == nil {
		e = b.begin(id, before)
		e.began, e.before = true, before
	} else if e.after == nil {
		return b.odd("is deleted while it is not there", e)
	}
	e.after = nil
	return nil
}

func (c *collapsed) update(b *batch, before, after rows.Row) error {
	e, id := c.find(b, before)
	if e == nil {
		e = b.begin(id, before)
		e.began, e.before = true, before
	} else if e.after == nil {
		return b.odd("is updated while it is not there", e)
	}
	e.after = after
	return nil
}

func (b *batch) odd(what string, e *entry) error {
	return fmt.Errorf("%w: the row of %s with %s %s", ErrConflict, b.t.src.Name, keyText(b.t.cols, e.key), what)
}

// event tells what a change of the parent does to the child.
func (k *cascade) event(before, after rows.Row) (event, bool) {
	if before == nil {
		return event{}, false
	}
	ev := event{c: k, old: pick(before, k.parent)}
	if slices.ContainsFunc(ev.old, func(v rows.Cell) bool { return v == nil }) {
		return event{}, false
	}
	if after == nil {
		return ev, acts(k.onDelete)
	}
	ev.new = pick(after, k.parent)
	return ev, acts(k.onUpdate) && !sameKey(ev.old, ev.new)
}

func pick(r rows.Row, list []int) []rows.Cell {
	out := make([]rows.Cell, len(list))
	for i, c := range list {
		out[i] = r[c]
	}
	return out
}
