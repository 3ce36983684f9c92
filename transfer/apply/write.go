package apply

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"imago.dev/imago/transfer/rows"
)

// mostKeys is how many keys a statement names at most.
const mostKeys = 500

// writer writes collapsed changes into the target and reads back what is there. It
// is one attempt to write a group.
type writer struct {
	e       *Engine
	g       *gathered
	sc      *script
	ask     func() (*conn, error)
	delta   map[*table]int64
	checked map[*table]uint64 // images read back
	// swept are keys that a foreign key changed while nothing was copied.
	swept map[*table]map[string]struct{}
}

// batch writes one table's changes to all its places.
func (w *writer) batch(b *batch) error {
	for _, d := range b.t.dests {
		if err := w.dest(b, d); err != nil {
			return err
		}
	}
	return nil
}

// dest writes removals first, so that unique values are free, then changes that
// stay in their place, then new rows; and reads all of them back.
func (w *writer) dest(b *batch, d *dest) error {
	var put, remove, change, add []*entry
	for _, en := range b.list {
		switch {
		case en.put:
			put = append(put, en)
			if en.after != nil {
				add = append(add, en)
			}
		case en.began && en.after == nil:
			remove = append(remove, en)
		case !en.began && en.after != nil:
			add = append(add, en)
		case en.began && d.replaces(en):
			remove, add = append(remove, en), append(add, en)
		case en.began:
			change = append(change, en)
		}
	}
	counted := d == b.t.identity && !d.sameOrder
	for part := range slices.Chunk(put, mostKeys) {
		ch := check{want: anyNumber}
		if counted {
			// How many there were is seen only here.
			ch.got = func(n uint64) { w.delta[b.t] -= int64(n) }
		}
		if err := w.remove(d, part, ch); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(remove, mostKeys) {
		n := int64(len(part))
		if err := w.remove(d, part, check{want: n, wrong: w.missing(b, d, "delete", part, n)}); err != nil {
			return err
		}
	}
	if err := w.updates(b, d, change); err != nil {
		return err
	}
	if err := w.insert(d, add); err != nil {
		return err
	}
	if counted {
		w.delta[b.t] += int64(len(add)) - int64(len(remove))
	}
	return w.readBack(b, d)
}

// replaces tells whether an update is written as a removal and a new row: when it
// changes a unique value, which another row of the same transaction may get.
func (d *dest) replaces(en *entry) bool {
	for _, i := range d.cols {
		if d.unique[i] && !sameCell(en.before[i], en.after[i]) {
			return true
		}
	}
	return false
}

func sameCell(a, b rows.Cell) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func (w *writer) remove(d *dest, part []*entry, ch check) error {
	ch.fails = d.conflict("delete from")
	return w.sc.add(ch, func(dst []byte) []byte {
		dst = append(append(append(dst, "DELETE FROM "...), d.sql...), " WHERE "...)
		return appendIn(dst, d.keyNames, d.keyCols, keysOf(part))
	})
}

func keysOf(part []*entry) [][]rows.Cell {
	keys := make([][]rows.Cell, len(part))
	for i, en := range part {
		keys[i] = en.key
	}
	return keys
}

// mostTogether is how many updates one statement has at most: it looks for each
// row's values one after the other.
const mostTogether = 100

// updates writes changes that stay in their place. Those of the same columns
// share a statement.
func (w *writer) updates(b *batch, d *dest, change []*entry) error {
	alike := map[string][]*entry{}
	var order []string
	set := make([]byte, len(d.cols))
	for _, en := range change {
		changed := false
		for n, i := range d.cols {
			set[n] = '-'
			if same := sameCell(en.before[i], en.after[i]); !same || d.always[i] {
				set[n] = '+'
				changed = changed || !same
			}
		}
		if !changed {
			continue // reading back finds whether it is there
		}
		if _, ok := alike[string(set)]; !ok {
			order = append(order, string(set))
		}
		alike[string(set)] = append(alike[string(set)], en)
	}
	for _, set := range order {
		for rest := alike[set]; len(rest) > 0; {
			bytes := sizeOf(rest[0].after)
			k := 1
			for k < min(len(rest), mostTogether) && bytes < w.sc.limit/2 {
				bytes += sizeOf(rest[k].after)
				k++
			}
			if bytes >= w.sc.limit/2 && k > 1 {
				k-- // the one that is too much goes with the next
			}
			part := rest[:k]
			rest = rest[k:]
			n := int64(k)
			err := w.sc.add(check{want: n, wrong: w.missing(b, d, "update", part, n), fails: d.conflict("update")}, func(dst []byte) []byte {
				return d.appendUpdate(dst, set, part)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// appendUpdate appends "UPDATE t SET a=CASE id WHEN 1 THEN 2 … END WHERE id IN (1,…)".
func (d *dest) appendUpdate(dst []byte, set string, part []*entry) []byte {
	dst = append(append(append(dst, "UPDATE "...), d.sql...), " SET "...)
	more := false
	for n, i := range d.cols {
		if set[n] != '+' {
			continue
		}
		if more {
			dst = append(dst, ',')
		}
		more = true
		dst = append(append(dst, d.names[i]...), '=')
		c := &d.src.Columns[i]
		if len(part) == 1 {
			dst = rows.AppendLiteral(dst, c, part[0].after[i])
			continue
		}
		dst = append(dst, "CASE"...)
		if len(d.keyNames) == 1 {
			dst = append(append(dst, ' '), d.keyNames[0]...)
		}
		for _, en := range part {
			dst = append(dst, " WHEN "...)
			if len(d.keyNames) == 1 {
				dst = rows.AppendLiteral(dst, d.keyCols[0], en.key[0])
			} else {
				dst = appendEqual(dst, d.keyNames, d.keyCols, en.key)
			}
			dst = append(dst, " THEN "...)
			dst = rows.AppendLiteral(dst, c, en.after[i])
		}
		dst = append(dst, " END"...)
	}
	dst = append(dst, " WHERE "...)
	if len(part) == 1 {
		return appendEqual(dst, d.keyNames, d.keyCols, part[0].key)
	}
	return appendIn(dst, d.keyNames, d.keyCols, keysOf(part))
}

func (w *writer) insert(d *dest, add []*entry) error {
	for len(add) > 0 {
		n := 0
		var began int
		err := w.sc.add(check{want: anyNumber, fails: d.conflict("insert into")}, func(dst []byte) []byte {
			began = len(dst)
			dst = append(dst, d.insert...)
			for n < len(add) && (n == 0 || len(dst)-began+sizeOf(add[n].after) < w.sc.limit/2) {
				dst = d.appendRow(dst, add[n].after, n > 0)
				n++
			}
			return dst
		})
		if err != nil {
			return err
		}
		add = add[n:]
	}
	return nil
}

// missing says that a removal or an update did not find its rows, naming the first
// candidate.
func (w *writer) missing(b *batch, d *dest, what string, part []*entry, want int64) func(uint64) error {
	return func(got uint64) error {
		keys := keyText(d.keyCols, part[0].key)
		if len(part) > 1 {
			keys += " … " + keyText(d.keyCols, part[len(part)-1].key)
		}
		return &missingError{dest: d, entries: part, err: fmt.Errorf("%w: %s %s: %d of %d rows are there: %s", ErrConflict, what, d.sql, got, want, keys)}
	}
}

// missingError lets the key that is missing be found after the rollback.
type missingError struct {
	dest    *dest
	entries []*entry
	err     error
}

func (e *missingError) Error() string { return e.err.Error() }
func (e *missingError) Unwrap() error { return e.err }

// readBack compares each changed row, as the target now has it, with its last image.
func (w *writer) readBack(b *batch, d *dest) error {
	images, err := w.images(b, d)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(b.list, mostKeys) {
		found := 0
		want := 0
		for _, en := range part {
			if en.after != nil {
				want++
			}
		}
		var buf, key []byte
		lo, hi, dense := d.dense(part)
		err := w.sc.add(check{want: anyNumber, each: func(v [][]byte) error {
			buf, key = buf[:0], key[:0]
			for n, at := range d.keyAt {
				cell, err := rows.ParseText(d.keyCols[n], v[at])
				if err != nil {
					return err
				}
				key = appendCell(key, cell)
			}
			en := b.entries[string(shortened(key))]
			if en == nil && dense {
				return nil
			}
			if en == nil || en.after == nil {
				k, _ := decodeKey(key)
				return fmt.Errorf("%w: %s has a row with %s, which production has not", ErrDifferent, d.sql, keyText(d.keyCols, k))
			}
			for i := range d.forms {
				cell, err := rows.ParseText(d.parse[i], v[i])
				if err != nil {
					return err
				}
				if err := d.check(en, i, cell, images, &buf); err != nil {
					return err
				}
			}
			found++
			return nil
		}, after: func() error {
			if found != want {
				return &missingError{dest: d, entries: part, err: fmt.Errorf("%w: of %d rows written to %s, %d are there", ErrDifferent, want, d.sql, found)}
			}
			w.checked[b.t] += uint64(found)
			return nil
		}}, func(dst []byte) []byte {
			dst = append(append(append(append(append(dst, "SELECT "...), d.list...), " FROM "...), d.sql...), " WHERE "...)
			if dense {
				return fmt.Appendf(dst, "%s BETWEEN %d AND %d", d.keyNames[0], lo, hi)
			}
			return appendIn(dst, d.keyNames, d.keyCols, keysOf(part))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dense tells whether keys are numbers that lie close together, as those of new
// rows do: one range is found faster than each of them.
func (d *dest) dense(part []*entry) (lo, hi int64, ok bool) {
	if len(d.keyCols) != 1 || d.keyCols[0].Kind != rows.Int && d.keyCols[0].Kind != rows.Uint {
		return 0, 0, false
	}
	for i, en := range part {
		n, err := strconv.ParseInt(string(en.key[0]), 10, 64)
		if err != nil {
			return 0, 0, false
		}
		if i == 0 {
			lo, hi = n, n
		}
		lo, hi = min(lo, n), max(hi, n)
	}
	width := hi - lo + 1
	return lo, hi, width > 0 && width <= int64(len(part))*3/2
}

// check compares one value that was read back.
func (d *dest) check(en *entry, i int, got rows.Cell, images map[string]string, buf *[]byte) error {
	col := d.cols[i]
	want := en.after[col]
	switch d.forms[i] {
	case asIs:
		if sameCell(want, got) {
			return nil
		}
	case unicode:
		if want == nil || got == nil {
			if want == nil && got == nil {
				return nil
			}
			break
		}
		text, ok := images[imageName(&d.src.Columns[col], want)]
		if !ok {
			text = string(want)
		}
		if text == string(got) {
			return nil
		}
	default:
		*buf = d.forms[i].append((*buf)[:0], want, &d.src.Columns[col])
		n := len(*buf)
		*buf = d.forms[i].append(*buf, got, d.parse[i])
		if bytes.Equal((*buf)[:n], (*buf)[n:]) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s, the row with %s: column %q is %.100q, on production it is %.100q", ErrDifferent, d.sql,
		keyText(d.keyCols, en.key), d.src.Columns[col].Name, got, want)
}

func imageName(c *rows.Column, v rows.Cell) string { return c.Charset + "\x00" + string(v) }

// images are the values of last images in utf8mb4, as the server turns them, where
// the table is in another character set.
func (w *writer) images(b *batch, d *dest) (map[string]string, error) {
	if !d.converts {
		return nil, nil
	}
	out := map[string]string{}
	var asked []string
	var lits [][]byte
	for _, en := range b.list {
		if en.after == nil {
			continue
		}
		for i, col := range d.cols {
			v, c := en.after[col], &d.src.Columns[col]
			if d.forms[i] != unicode || v == nil || plain(c.Charset, v) {
				continue
			}
			name := imageName(c, v)
			if _, ok := out[name]; ok {
				continue
			}
			out[name] = ""
			asked = append(asked, name)
			lits = append(lits, rows.AppendLiteral(nil, c, v))
		}
	}
	for len(asked) > 0 {
		n := min(len(asked), 200)
		names := asked[:n]
		err := w.sc.add(check{want: 1, wrong: stateWrong, each: func(v [][]byte) error {
			for i := range v {
				out[names[i]] = string(v[i])
			}
			return nil
		}}, func(dst []byte) []byte {
			dst = append(dst, "SELECT "...)
			for i, l := range lits[:n] {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(append(append(dst, "CONVERT("...), l...), " USING utf8mb4)"...)
			}
			return dst
		})
		if err != nil {
			return nil, err
		}
		asked, lits = asked[n:], lits[n:]
	}
	return out, nil
}

// plain tells whether a text has the same bytes in utf8mb4.
func plain(charset string, v rows.Cell) bool {
	switch charset {
	case "latin1", "latin2", "latin5", "latin7", "cp1250", "cp1251", "cp1256", "cp1257", "koi8r", "koi8u", "greek", "hebrew", "cp850", "cp852", "cp866":
	default:
		return false
	}
	return !slices.ContainsFunc(v, func(b byte) bool { return b >= 0x80 })
}

// state writes what the transaction did to the state of tables.
func (w *writer) state() error {
	e := w.e
	for _, t := range e.tables {
		keys := w.g.touched[t]
		for k := range w.swept[t] {
			keys = append(keys[:len(keys):len(keys)], k)
		}
		for part := range slices.Chunk(keys, 2000) {
			if err := w.touch(t, part); err != nil {
				return err
			}
		}
		set := ""
		if w.delta[t] != 0 {
			set = fmt.Sprintf(", delta=delta+(%d)", w.delta[t])
		}
		if set == "" && (w.checked[t] == 0 || w.g.compared[t]) {
			continue
		}
		err := w.sc.sql(check{want: 1, wrong: stateWrong}, fmt.Sprintf("UPDATE imago.tables SET compared=%d%s WHERE id=%d AND tbl=%d",
			bit(w.checked[t] > 0 || w.g.compared[t]), set, e.id, t.id))
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) touch(t *table, keys []string) error {
	return w.sc.add(check{want: int64(len(keys)), wrong: stateWrong}, func(dst []byte) []byte {
		dst = append(dst, "INSERT INTO imago.touched (id, tbl, k) VALUES "...)
		for i, k := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendInt(append(dst, '('), int64(w.e.id), 10)
			dst = strconv.AppendInt(append(dst, ','), int64(t.id), 10)
			dst = append(appendBlob(append(dst, ','), []byte(k)), ')')
		}
		return dst
	})
}
