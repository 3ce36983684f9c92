package binlog

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"imago.dev/imago/transfer/rows"
)

// tableReader reads the row images of one table as the log describes it.
type tableReader struct {
	table   *rows.Table
	types   []byte
	meta    []uint16
	columns []valueReader
}

// same tells whether the log still describes the table as it did.
func (t *tableReader) same(m *tableMap) bool {
	if !bytes.Equal(t.types, m.types) || len(t.meta) != len(m.meta) {
		return false
	}
	for i, meta := range m.meta {
		if t.meta[i] != meta {
			return false
		}
	}
	return true
}

// newTableReader holds the log's description against the schema; a difference
// means that the table is not what it was when the schema was read.
func newTableReader(t *rows.Table, m *tableMap) (*tableReader, error) {
	if t.Unfit != "" {
		return nil, fmt.Errorf("table %s cannot be transferred: %s", t.Name, t.Unfit)
	}
	if len(m.types) != len(t.Columns)+t.Hidden {
		return nil, fmt.Errorf("%w: table %s has %d columns in the log and %d in the schema", ErrDDL, t.Name, len(m.types), len(t.Columns))
	}
	r := &tableReader{table: t, types: bytes.Clone(m.types), meta: append([]uint16(nil), m.meta...)}
	for i := range t.Columns {
		c := &t.Columns[i]
		read, err := columnReader(c, m.types[i], m.meta[i])
		if err != nil {
			return nil, fmt.Errorf("%w: column %q of table %s, %s in the schema, is another in the log: %w", ErrDDL, c.Name, t.Name, c.Type, err)
		}
		r.columns = append(r.columns, read)
	}
	for _, typ := range m.types[len(t.Columns):] {
		if typ != mysql.MYSQL_TYPE_LONGLONG {
			return nil, fmt.Errorf("%w: table %s has a hidden column of type %d in the log", ErrDDL, t.Name, typ)
		}
		r.columns = append(r.columns, integer(8, true))
	}
	return r, nil
}

// columnReader chooses how the values of a column are read.
func columnReader(c *rows.Column, typ byte, meta uint16) (valueReader, error) {
	other := func() (valueReader, error) { return nil, fmt.Errorf("type %d, meta %#x", typ, meta) }
	if typ == mysql.MYSQL_TYPE_STRING {
		return stringReader(c, meta)
	}
	if c.Generated && c.Kind == rows.Unsupported {
		return other()
	}
	want := func(kinds ...rows.Kind) bool {
		for _, k := range kinds {
			if c.Kind == k {
				return true
			}
		}
		return false
	}
	switch typ {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG:
		if !want(rows.Int, rows.Uint) || integerSize(c.Type) != integerSizes[typ] {
			return other()
		}
		return integer(integerSizes[typ], c.Kind == rows.Uint), nil
	case mysql.MYSQL_TYPE_FLOAT:
		if !want(rows.Float) {
			return other()
		}
		return fixed(4, float32Value), nil
	case mysql.MYSQL_TYPE_DOUBLE:
		if !want(rows.Double) {
			return other()
		}
		return fixed(8, float64Value), nil
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		precision, scale := int(meta>>8), int(meta&255)
		if !want(rows.Decimal) || scale != c.Digits {
			return other()
		}
		return decimalReader(precision, scale)
	case mysql.MYSQL_TYPE_BIT:
		size := (int(meta>>8)*8 + int(meta&255) + 7) / 8
		if !want(rows.Bit) || size < 1 || size > 8 {
			return other()
		}
		return fixed(size, bitValue), nil
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		if !want(rows.Date) {
			return other()
		}
		return fixed(3, dateValue), nil
	case mysql.MYSQL_TYPE_YEAR:
		if !want(rows.Year) {
			return other()
		}
		return fixed(1, yearValue), nil
	case mysql.MYSQL_TYPE_TIME2, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_TIMESTAMP2:
		kind := map[byte]rows.Kind{mysql.MYSQL_TYPE_TIME2: rows.Time, mysql.MYSQL_TYPE_DATETIME2: rows.DateTime, mysql.MYSQL_TYPE_TIMESTAMP2: rows.Timestamp}[typ]
		if !want(kind) || int(meta) != c.Digits {
			return other()
		}
		return temporalReader(kind, c.Digits)
	case mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_TIMESTAMP:
		if c.Digits != 0 {
			return other()
		}
		switch {
		case typ == mysql.MYSQL_TYPE_TIME && want(rows.Time):
			return fixed(3, oldTime), nil
		case typ == mysql.MYSQL_TYPE_DATETIME && want(rows.DateTime):
			return fixed(8, oldDateTime), nil
		case typ == mysql.MYSQL_TYPE_TIMESTAMP && want(rows.Timestamp):
			return fixed(4, oldTimestamp), nil
		}
		return other()
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING:
		if !want(rows.Text, rows.Bytes) {
			return other()
		}
		return prefixed(lengthBytes(int(meta))), nil
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_GEOMETRY:
		if !want(rows.Text, rows.Bytes, rows.Geometry) || meta < 1 || meta > 4 {
			return other()
		}
		return prefixed(int(meta)), nil
	}
	return other()
}

// lengthBytes is the size of the length before a string of at most so many bytes.
func lengthBytes(most int) int {
	if most > 255 {
		return 2
	}
	return 1
}

var integerSizes = map[byte]int{
	mysql.MYSQL_TYPE_TINY: 1, mysql.MYSQL_TYPE_SHORT: 2, mysql.MYSQL_TYPE_INT24: 3,
	mysql.MYSQL_TYPE_LONG: 4, mysql.MYSQL_TYPE_LONGLONG: 8,
}

func integerSize(columnType string) int {
	word := strings.ToLower(columnType)
	if i := strings.IndexAny(word, "( "); i >= 0 {
		word = word[:i]
	}
	return map[string]int{"tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "bigint": 8}[word]
}

// stringReader reads what the log calls a string: CHAR, BINARY, ENUM, SET and
// MariaDB's addresses and UUID.
func stringReader(c *rows.Column, meta uint16) (valueReader, error) {
	realType, size := byte(meta>>8), int(meta&255)
	if realType&0x30 != 0x30 { // two bits of a length above 255 hide in the type
		size |= int(realType&0x30^0x30) << 4
		realType |= 0x30
	}
	switch {
	case realType == mysql.MYSQL_TYPE_ENUM && c.Kind == rows.Enum:
		return enumReader(size, c.Labels)
	case realType == mysql.MYSQL_TYPE_SET && c.Kind == rows.Set:
		return setReader(size, c.Labels, comma(c.Charset))
	case realType != mysql.MYSQL_TYPE_STRING:
		return nil, fmt.Errorf("a string of type %d", realType)
	}
	read := prefixed(lengthBytes(size))
	switch c.Kind {
	case rows.Text:
		return read, nil
	case rows.Bytes:
		if n := declaredSize(c.Type); n != size {
			return nil, fmt.Errorf("a string of %d bytes", size)
		}
		return padded(read, size), nil
	case rows.Inet4:
		return converted(padded(read, 4), addressText), nil
	case rows.Inet6:
		return converted(padded(read, 16), addressText), nil
	case rows.UUID:
		return converted(padded(read, 16), uuidText), nil
	}
	return nil, fmt.Errorf("a string of %d bytes", size)
}

// declaredSize is the number in "binary(16)"; BINARY alone has one byte.
func declaredSize(columnType string) int {
	_, rest, ok := strings.Cut(columnType, "(")
	if !ok {
		return 1
	}
	number, _, _ := strings.Cut(rest, ")")
	n, _ := strconv.Atoi(number)
	return n
}

// comma is the separator of a SET's labels in the column's character set.
func comma(charset string) string {
	switch charset {
	case "ucs2", "utf16":
		return "\x00,"
	case "utf16le":
		return ",\x00"
	case "utf32":
		return "\x00\x00\x00,"
	}
	return ","
}

// image reads one row image, of which present says which columns it has.
func (t *tableReader) image(a *arena, b, present []byte) (row rows.Row, n int, err error) {
	count := 0
	for i := range t.columns {
		if bit(present, i) {
			count++
		}
	}
	nullBytes := (count + 7) / 8
	if len(b) < nullBytes {
		return nil, 0, errShortRow
	}
	nulls, n := b[:nullBytes], nullBytes
	row = make(rows.Row, len(t.table.Columns))
	at := 0 // among the columns that are present
	for i, read := range t.columns {
		hidden := i >= len(row)
		if !bit(present, i) {
			if c := t.column(i); !hidden && !c.Generated {
				return nil, 0, fmt.Errorf("%w: a row of table %s is logged without column %q: binlog_row_image must be FULL for every session",
					ErrStatement, t.table.Name, c.Name)
			}
			continue
		}
		null := bit(nulls, at)
		at++
		if null {
			continue
		}
		v, size, err := read(a, b[n:])
		if err != nil {
			return nil, 0, fmt.Errorf("column %q of table %s: %w", t.column(i).Name, t.table.Name, err)
		}
		n += size
		if !hidden && !t.table.Columns[i].Generated {
			row[i] = v
		}
	}
	return row, n, nil
}

// column describes a column, one of the server's own as well.
func (t *tableReader) column(i int) rows.Column {
	if i < len(t.table.Columns) {
		return t.table.Columns[i]
	}
	return rows.Column{Name: "a hidden one"}
}

func bit(bitmap []byte, i int) bool { return i>>3 < len(bitmap) && bitmap[i>>3]&(1<<(i&7)) != 0 }

// changes reads all rows of one event.
func (t *tableReader) changes(e *rowsEvent) ([]rows.Change, error) {
	var changes []rows.Change
	a := new(arena)
	b := e.images
	for len(b) > 0 {
		ch := rows.Change{Table: t.table.Name, Op: e.op}
		first, n, err := t.image(a, b, e.before)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, errors.New("rows without a byte")
		}
		b = b[n:]
		switch e.op {
		case rows.Insert:
			ch.After = first
		case rows.Delete:
			ch.Before = first
		case rows.Update:
			ch.Before = first
			if ch.After, n, err = t.image(a, b, e.after); err != nil {
				return nil, err
			}
			b = b[n:]
		}
		changes = append(changes, ch)
	}
	return changes, nil
}
