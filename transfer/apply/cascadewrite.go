package apply

import (
	"fmt"
	"slices"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// deepest is how far foreign keys go on from table to table; the server has the
// same limit.
const deepest = 15

// events does what foreign keys did to the children, in order.
func (w *writer) events(events []event) error {
	if len(events) == 0 {
		return nil
	}
	if err := w.sc.finish(); err != nil {
		return err
	}
	return w.cascade(events, 0)
}

func (w *writer) cascade(events []event, depth int) error {
	if depth > deepest {
		return fmt.Errorf("%w: %s: more than %d tables deep", ErrCascade, events[0].c.name, deepest)
	}
	for len(events) > 0 {
		n := 1
		for events[0].new == nil && n < len(events) && n < mostKeys && events[n].c == events[0].c && events[n].new == nil {
			n++
		}
		if err := w.answer(events[:n], depth); err != nil {
			return fmt.Errorf("repeat foreign key %q of %s: %w", events[0].c.name, events[0].c.child.src.Name, err)
		}
		events = events[n:]
	}
	return nil
}

// answer does what one foreign key did because of some removed parents, or of one
// that got another key.
func (w *writer) answer(events []event, depth int) error {
	c := events[0].c
	t, d := c.child, c.child.identity
	rule := c.onDelete
	if events[0].new != nil {
		rule = c.onUpdate
	}
	var names []string
	for _, i := range c.own {
		names = append(names, d.names[i])
	}
	var old [][]rows.Cell
	for _, ev := range events {
		old = append(old, ev.old)
	}
	where := string(appendIn(nil, names, columns(t.src, c.own), old))

	// Whole rows are read: the children's children may depend on any column.
	var found []rows.Row
	read := func(v [][]byte) error {
		row := make(rows.Row, len(t.src.Columns))
		for n, i := range d.cols {
			cell, err := rows.ParseText(d.parse[n], v[n])
			if err != nil {
				return err
			}
			row[i] = slices.Clone(cell)
		}
		found = append(found, row)
		return nil
	}
	if _, err := w.sc.c.query("SELECT "+d.list+" FROM "+d.sql+" WHERE "+where+" FOR UPDATE", read); err != nil {
		return err
	}
	there := len(found)
	if w.g.overlap {
		if err := w.unseen(t, where, &found); err != nil {
			return err
		}
	}
	next := make([]event, 0, len(found))
	for i, before := range found {
		var after rows.Row
		if rule != cascading || events[0].new != nil {
			after = slices.Clone(before)
			for n, k := range c.own {
				after[k] = nil
				if rule == cascading {
					after[k] = events[0].new[n]
				}
			}
		}
		if err := w.child(t, before, after, i < there); err != nil {
			return err
		}
		for _, k := range t.cascades {
			if ev, ok := k.event(before, after); ok {
				next = append(next, ev)
			}
		}
	}
	if err := w.sc.finish(); err != nil {
		return err
	}
	return w.cascade(next, depth+1)
}

// unseen adds the rows of the clone that the copy would bring later. Only before
// anything is copied is that all there is: a row that no change has touched so far
// is as the clone has it, or a later change of the overlap says otherwise.
func (w *writer) unseen(t *table, where string, found *[]rows.Row) error {
	clone, err := w.ask()
	if err != nil {
		return err
	}
	var buf []byte
	_, err = clone.query("SELECT "+rows.SelectList(t.src)+" FROM "+t.src.SQL()+" WHERE "+where, func(v [][]byte) error {
		row := make(rows.Row, len(v))
		for i := range v {
			cell, err := rows.ParseText(&t.src.Columns[i], v[i])
			if err != nil {
				return err
			}
			row[i] = slices.Clone(cell)
		}
		_, swept := w.swept[t][string(t.keyID(buf, row))]
		if !swept && !w.e.isTouched(t, row, &buf) {
			*found = append(*found, row)
		}
		return nil
	})
	return err
}

// dangling looks, at the end of the overlap, for rows whose parent is nowhere. A
// foreign key took that parent away, in turn because of another, before the clone
// was made: the log does not say so, and the clone no longer knows which it was.
func (w *writer) dangling() error {
	for _, parent := range w.e.tables {
		for _, c := range parent.cascades {
			if err := w.danglingOf(parent, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) danglingOf(parent *table, c *cascade) error {
	if err := w.sc.finish(); err != nil {
		return err
	}
	d := c.child.identity
	var own, all, refs, match []string
	for n, i := range c.own {
		ref := parent.src.Columns[c.parent[n]]
		own = append(own, selected(&d.src.Columns[i]))
		all = append(all, "c."+d.names[i]+" IS NOT NULL")
		refs = append(refs, rows.QuoteName(ref.Name))
		match = append(match, "p."+rows.QuoteName(ref.Name)+"=c."+d.names[i])
	}
	var lost [][]rows.Cell
	_, err := w.sc.c.query(fmt.Sprintf("SELECT DISTINCT %s FROM %s c WHERE %s AND NOT EXISTS (SELECT 1 FROM %s p WHERE %s)",
		strings.Join(own, ","), d.sql, strings.Join(all, " AND "), parent.dests[0].sql, strings.Join(match, " AND ")), func(v [][]byte) error {
		key := make([]rows.Cell, len(v))
		for i := range v {
			cell, err := rows.ParseText(&d.src.Columns[c.own[i]], v[i])
			if err != nil {
				return err
			}
			key[i] = slices.Clone(cell)
		}
		lost = append(lost, key)
		return nil
	})
	if err != nil || len(lost) == 0 {
		return err
	}
	clone, err := w.ask()
	if err != nil {
		return err
	}
	for _, key := range lost {
		there := false
		where := appendEqual(nil, refs, columns(parent.src, c.parent), key)
		_, err := clone.query("SELECT "+rows.SelectList(parent.src)+" FROM "+parent.src.SQL()+" WHERE "+string(where), func(v [][]byte) error {
			row := make(rows.Row, len(v))
			for i := range v {
				cell, err := rows.ParseText(&parent.src.Columns[i], v[i])
				if err != nil {
					return err
				}
				row[i] = cell
			}
			_, swept := w.swept[parent][string(parent.keyID(nil, row))]
			there = there || !swept && !w.e.isTouched(parent, row, new([]byte))
			return nil
		})
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("%w: foreign key %q of %s: a row with %s refers to one of %s that went while the clone was made. Take a new clone and begin anew",
				ErrCascade, c.name, c.child.src.Name, keyText(columns(c.child.src, c.own), key), parent.src.Name)
		}
	}
	return nil
}

// child changes one row of a child; there is false if it is only on the clone yet.
func (w *writer) child(t *table, before, after rows.Row, there bool) error {
	d := t.identity
	w.touchRow(t, before)
	if after != nil && !t.sameKey(before, after) {
		w.touchRow(t, after)
	}
	one := check{want: 1, wrong: d.wrong("change a child in", 1), fails: d.conflict("change a child in")}
	switch {
	case after == nil && there:
		return w.sc.add(one, func(dst []byte) []byte {
			dst = append(dst, "DELETE FROM "+d.sql+" WHERE "...)
			return appendEqual(dst, d.keyNames, d.keyCols, t.src.KeyOf(before))
		})
	case after == nil:
		return nil // the copy will leave it out
	case there:
		return w.sc.add(one, func(dst []byte) []byte {
			dst = append(dst, "UPDATE "+d.sql+" SET "...)
			var set []string
			for _, i := range d.cols {
				if !sameCell(before[i], after[i]) || d.always[i] {
					set = append(set, d.names[i]+"="+string(rows.AppendLiteral(nil, &d.src.Columns[i], after[i])))
				}
			}
			dst = append(append(dst, strings.Join(set, ",")...), " WHERE "...)
			return appendEqual(dst, d.keyNames, d.keyCols, t.src.KeyOf(before))
		})
	}
	return w.sc.add(one, func(dst []byte) []byte { return d.appendRow(append(dst, d.insert...), after, false) })
}

// touchRow notes a key that the log does not name. The comparison must know it
// before this transaction is committed; the copy, in the overlap, must not before
// it is, since another attempt would take the row for one that the log changed.
func (w *writer) touchRow(t *table, r rows.Row) {
	id := string(t.keyID(nil, r))
	add := func(m map[*table]map[string]struct{}) {
		if m[t] == nil {
			m[t] = map[string]struct{}{}
		}
		m[t][id] = struct{}{}
	}
	t.touchedMu.RLock()
	_, is := t.copy.touched[id]
	over := t.copy.touched == nil
	t.touchedMu.RUnlock()
	if _, ours := w.g.swept[t][id]; over || is && !ours {
		return
	}
	add(w.swept)
	if !w.g.overlap {
		add(w.g.swept)
		t.touch(map[string]struct{}{id: {}})
	}
}
