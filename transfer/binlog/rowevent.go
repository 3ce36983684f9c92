package binlog

import (
	"errors"
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"imago.dev/imago/transfer/rows"
)

// The two events that carry rows are read here rather than by the library: that
// one does not know MariaDB's compressed columns, after which it misreads the
// others, and turns values into numbers and times that lose what they were.

var errShortEvent = errors.New("it ends too early")

// tableMap names the table that rows events with its number are about.
type tableMap struct {
	id    uint64
	name  rows.Name
	types []byte
	meta  []uint16
}

// body reads the fields of an event one after the other.
type body struct {
	rest []byte
	err  error
}

func (b *body) take(n int) []byte {
	if b.err != nil || n < 0 || n > len(b.rest) {
		if b.err == nil {
			b.err = errShortEvent
		}
		return nil
	}
	v := b.rest[:n:n]
	b.rest = b.rest[n:]
	return v
}

func (b *body) uint(n int) uint64 { return littleEndian(b.take(n)) }

// packed is a length-encoded integer.
func (b *body) packed() uint64 {
	switch first := b.uint(1); first {
	case 0xfc:
		return b.uint(2)
	case 0xfd:
		return b.uint(3)
	case 0xfe:
		return b.uint(8)
	case 0xfb, 0xff:
		if b.err == nil {
			b.err = fmt.Errorf("a number begins with %#x", first)
		}
		return 0
	default:
		return first
	}
}

// count is a packed number that stands for at least so many bytes.
func (b *body) count() int {
	n := b.packed()
	if b.err == nil && n > uint64(len(b.rest)) {
		b.err = errShortEvent
	}
	if b.err != nil {
		return 0
	}
	return int(n)
}

// parseTableMap reads a TABLE_MAP_EVENT. With ours it is asked whether the columns
// matter; if not, they are not read.
func parseTableMap(data []byte, ours func(rows.Name) bool) (*tableMap, error) {
	b := &body{rest: data}
	m := &tableMap{id: b.uint(6)}
	b.take(2) // flags
	m.name.Database = string(b.take(int(b.uint(1))))
	b.take(1)
	m.name.Table = string(b.take(int(b.uint(1))))
	b.take(1)
	if b.err != nil || !ours(m.name) {
		return m, b.err
	}
	m.types = b.take(b.count())
	meta := &body{rest: b.take(b.count())}
	m.meta = make([]uint16, len(m.types))
	for i, typ := range m.types {
		m.meta[i] = columnMeta(meta, typ)
	}
	if b.err == nil && meta.err == nil && len(meta.rest) > 0 {
		meta.err = fmt.Errorf("%d bytes about columns are left over", len(meta.rest))
	}
	return m, errors.Join(b.err, meta.err)
}

// columnMeta reads what the log says of a column beside its type.
func columnMeta(b *body, typ byte) uint16 {
	switch typ {
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_NEWDECIMAL:
		return uint16(bigEndian(b.take(2)))
	case mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_BIT, typeVarcharCompressed:
		return uint16(b.uint(2))
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_DOUBLE, mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_GEOMETRY,
		mysql.MYSQL_TYPE_VECTOR, mysql.MYSQL_TYPE_JSON, typeBlobCompressed,
		mysql.MYSQL_TYPE_TIME2, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_TIMESTAMP2:
		return uint16(b.uint(1))
	}
	return 0
}

// Types of MariaDB that the library does not know.
const (
	typeBlobCompressed    = 140
	typeVarcharCompressed = 141
)

// rowsEvent is the head of an event with rows.
type rowsEvent struct {
	op            rows.Op
	compressed    bool
	table         uint64
	flags         uint16
	columns       int
	before, after []byte // which columns the images have; after is that of an update
	images        []byte
}

// Flags of a rows event.
const noForeignKeyChecks = 2

// rowsEvents are the types of events with rows.
var rowsEvents = map[replication.EventType]struct {
	op         rows.Op
	version    int
	compressed bool
}{
	replication.WRITE_ROWS_EVENTv1:                      {rows.Insert, 1, false},
	replication.UPDATE_ROWS_EVENTv1:                     {rows.Update, 1, false},
	replication.DELETE_ROWS_EVENTv1:                     {rows.Delete, 1, false},
	replication.WRITE_ROWS_EVENTv2:                      {rows.Insert, 2, false},
	replication.UPDATE_ROWS_EVENTv2:                     {rows.Update, 2, false},
	replication.DELETE_ROWS_EVENTv2:                     {rows.Delete, 2, false},
	replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1:  {rows.Insert, 1, true},
	replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1: {rows.Update, 1, true},
	replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1: {rows.Delete, 1, true},
}

func parseRows(kind replication.EventType, data []byte) (*rowsEvent, error) {
	form := rowsEvents[kind]
	b := &body{rest: data}
	e := &rowsEvent{op: form.op, compressed: form.compressed, table: b.uint(6), flags: uint16(b.uint(2))}
	if form.version == 2 {
		b.take(int(b.uint(2)) - 2) // the length counts itself
	}
	n := b.packed()
	if n > 4096 {
		return nil, fmt.Errorf("%d columns", n)
	}
	e.columns = int(n)
	e.before = b.take((e.columns + 7) / 8)
	if e.op == rows.Update {
		e.after = b.take((e.columns + 7) / 8)
	}
	e.images = b.rest
	return e, b.err
}
