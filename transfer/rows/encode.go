package rows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// encoding is the first byte of an encoded transaction.
const encoding = 1

// A cell is written as its length plus cellBytes and its bytes, or as one of the
// two numbers below.
const (
	cellNull  = 0
	cellSame  = 1 // as in the row before the update
	cellBytes = 2
)

// maxColumns is the most that any server allows in a table.
const maxColumns = 4096

// AppendTxn appends a transaction's encoding.
func AppendTxn(dst []byte, t *Txn) []byte {
	dst = append(dst, encoding)
	dst = appendString(dst, t.ID)
	dst = appendString(dst, t.Position.GTID)
	dst = appendString(dst, t.Position.File)
	dst = binary.AppendUvarint(dst, t.Position.At)
	var committed int64
	if !t.Committed.IsZero() {
		committed = t.Committed.UnixNano()
	}
	dst = binary.AppendVarint(dst, committed)
	var flags byte
	if t.ForeignKeyChecksOff {
		flags |= 1
	}
	dst = append(dst, flags)

	var names []Name
	index := make(map[Name]int)
	for i := range t.Changes {
		name := t.Changes[i].Table
		if _, known := index[name]; !known {
			index[name] = len(names)
			names = append(names, name)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(names)))
	for _, n := range names {
		dst = appendString(dst, n.Database)
		dst = appendString(dst, n.Table)
	}
	dst = binary.AppendUvarint(dst, uint64(len(t.Changes)))
	for i := range t.Changes {
		ch := &t.Changes[i]
		dst = append(dst, byte(ch.Op))
		dst = binary.AppendUvarint(dst, uint64(index[ch.Table]))
		if ch.Op != Insert {
			dst = appendRow(dst, ch.Before, nil)
		}
		if ch.Op != Delete {
			dst = appendRow(dst, ch.After, ch.Before)
		}
	}
	return dst
}

func appendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendRow(dst []byte, row, before Row) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(row)))
	for i, v := range row {
		switch {
		case v == nil:
			dst = binary.AppendUvarint(dst, cellNull)
		case i < len(before) && before[i] != nil && slices.Equal(before[i], v):
			dst = binary.AppendUvarint(dst, cellSame)
		default:
			dst = binary.AppendUvarint(dst, uint64(len(v))+cellBytes)
			dst = append(dst, v...)
		}
	}
	return dst
}

var errShort = errors.New("it ends too early")

// DecodeTxn reads what AppendTxn wrote. The cells share memory with b. It takes
// memory in proportion to len(b), whatever b says.
func DecodeTxn(b []byte) (*Txn, error) {
	d := decoder{rest: b}
	t := d.txn()
	if d.err == nil && len(d.rest) > 0 {
		d.err = fmt.Errorf("%d bytes are left over", len(d.rest))
	}
	if d.err != nil {
		return nil, fmt.Errorf("decode a transaction: %w", d.err)
	}
	return t, nil
}

// decoder reads from rest until the first error.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) txn() *Txn {
	if v := d.byte(); d.err == nil && v != encoding {
		d.err = fmt.Errorf("unknown encoding %d", v)
	}
	t := &Txn{ID: string(d.bytes())}
	t.Position.GTID = string(d.bytes())
	t.Position.File = string(d.bytes())
	t.Position.At = d.uvarint()
	if committed := d.varint(); committed != 0 {
		t.Committed = time.Unix(0, committed)
	}
	flags := d.byte()
	if flags > 1 {
		d.fail(fmt.Errorf("unknown flags %#x", flags))
	}
	t.ForeignKeyChecksOff = flags&1 != 0

	names := make([]Name, d.count(2))
	for i := range names {
		names[i].Database = string(d.bytes())
		names[i].Table = string(d.bytes())
	}
	// The smallest change is an operation, a table and an empty row.
	n := d.count(3)
	if n > 0 {
		t.Changes = make([]Change, 0, min(n, 1024))
	}
	for range n {
		ch := d.change(names)
		if d.err != nil {
			return nil
		}
		t.Changes = append(t.Changes, ch)
	}
	return t
}

func (d *decoder) change(names []Name) Change {
	ch := Change{Op: Op(d.byte())}
	if d.err == nil && (ch.Op < Insert || ch.Op > Delete) {
		d.fail(fmt.Errorf("unknown operation %d", ch.Op))
	}
	table := d.uvarint()
	if d.err == nil && table >= uint64(len(names)) {
		d.fail(fmt.Errorf("no table %d", table))
	}
	if d.err != nil {
		return ch
	}
	ch.Table = names[table]
	if ch.Op != Insert {
		ch.Before = d.row(nil)
	}
	if ch.Op != Delete {
		ch.After = d.row(ch.Before)
	}
	return ch
}

func (d *decoder) row(before Row) Row {
	n := d.count(1)
	if n > maxColumns {
		d.fail(fmt.Errorf("a row of %d columns", n))
	}
	if d.err != nil {
		return nil
	}
	row := make(Row, n)
	for i := range row {
		switch code := d.uvarint(); code {
		case cellNull:
		case cellSame:
			if i >= len(before) || before[i] == nil {
				d.fail(errors.New("a cell is the same as none"))
				return nil
			}
			row[i] = before[i]
		default:
			row[i] = d.take(code - cellBytes)
		}
	}
	return row
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// count reads a number of things that take at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/size) {
		d.fail(errShort)
		return 0
	}
	return int(n)
}

func (d *decoder) byte() byte {
	b := d.take(1)
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func (d *decoder) bytes() []byte { return d.take(d.uvarint()) }

func (d *decoder) take(n uint64) []byte {
	if d.err != nil {
		return nil
	}
	if n > math.MaxInt32 || n > uint64(len(d.rest)) {
		d.fail(errShort)
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}
