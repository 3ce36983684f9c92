package binlog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"imago.dev/imago/transfer/gtid"
	"imago.dev/imago/transfer/rows"
)

// TestValues are values of which no server here has a table: the formats of before
// MySQL 5.6.
func TestValues(t *testing.T) {
	cases := []struct {
		column rows.Column
		typ    byte
		meta   uint16
		bytes  string // in hex
		want   string
	}{
		{rows.Column{Kind: rows.Timestamp, Type: "timestamp"}, mysql.MYSQL_TYPE_TIMESTAMP, 0, "00000000", "0000-00-00 00:00:00"},
		{rows.Column{Kind: rows.Timestamp, Type: "timestamp"}, mysql.MYSQL_TYPE_TIMESTAMP, 0, "01000000", "1970-01-01 00:00:01"},
		{rows.Column{Kind: rows.Timestamp, Type: "timestamp"}, mysql.MYSQL_TYPE_TIMESTAMP2, 0, "ffffffff", "2106-02-07 06:28:15"},
		{rows.Column{Kind: rows.DateTime, Type: "datetime"}, mysql.MYSQL_TYPE_DATETIME, 0, "4b0b70546d120000", "2026-11-23 01:02:03"},
		{rows.Column{Kind: rows.DateTime, Type: "datetime"}, mysql.MYSQL_TYPE_DATETIME, 0, "0000000000000000", "0000-00-00 00:00:00"},
		{rows.Column{Kind: rows.Time, Type: "time"}, mysql.MYSQL_TYPE_TIME, 0, "817f00", "03:26:41"},
		{rows.Column{Kind: rows.Time, Type: "time"}, mysql.MYSQL_TYPE_TIME, 0, "ffffff", "-00:00:01"},
		{rows.Column{Kind: rows.Int, Type: "mediumint(9)"}, mysql.MYSQL_TYPE_INT24, 0, "ffffff", "-1"},
		{rows.Column{Kind: rows.Uint, Type: "mediumint(9) unsigned"}, mysql.MYSQL_TYPE_INT24, 0, "ffffff", "16777215"},
	}
	for _, c := range cases {
		read, err := columnReader(&c.column, c.typ, c.meta)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(c.bytes)
		if err != nil {
			t.Fatal(err)
		}
		if c.typ == mysql.MYSQL_TYPE_DATETIME && c.bytes[0] != '0' {
			b = []byte{0, 0, 0, 0, 0, 0, 0, 0}
			for i, v := 0, uint64(20261123010203); i < 8; i++ {
				b[i] = byte(v >> (8 * i))
			}
		}
		if c.bytes == "817f00" {
			b = []byte{byte(32641 & 255), byte(32641 >> 8), 0}
		}
		v, n, err := read(new(arena), b)
		if err != nil || n != len(b) || string(v) != c.want {
			t.Errorf("%s, %x: %q, %d, %v; want %q", c.column.Type, b, v, n, err, c.want)
		}
		if _, _, err := read(new(arena), b[:len(b)-1]); !errors.Is(err, errShortRow) {
			t.Errorf("%s cut short: %v", c.column.Type, err)
		}
	}
}

// TestOtherColumns: a column that is not what the schema says is refused.
func TestOtherColumns(t *testing.T) {
	cases := []struct {
		column rows.Column
		typ    byte
		meta   uint16
	}{
		{rows.Column{Kind: rows.Int, Type: "int(11)"}, mysql.MYSQL_TYPE_LONGLONG, 0},
		{rows.Column{Kind: rows.Text, Type: "varchar(10)"}, mysql.MYSQL_TYPE_LONG, 0},
		{rows.Column{Kind: rows.Decimal, Type: "decimal(10,2)", Digits: 2}, mysql.MYSQL_TYPE_NEWDECIMAL, 10<<8 | 3},
		{rows.Column{Kind: rows.DateTime, Type: "datetime(3)", Digits: 3}, mysql.MYSQL_TYPE_DATETIME2, 6},
		{rows.Column{Kind: rows.DateTime, Type: "datetime(3)", Digits: 3}, mysql.MYSQL_TYPE_DATETIME, 0},
		{rows.Column{Kind: rows.Bytes, Type: "binary(4)"}, mysql.MYSQL_TYPE_STRING, uint16(mysql.MYSQL_TYPE_STRING)<<8 | 8},
		{rows.Column{Kind: rows.Text, Type: "varchar(10)"}, typeVarcharCompressed, 10},
		{rows.Column{Kind: rows.Text, Type: "text"}, typeBlobCompressed, 2},
		{rows.Column{Kind: rows.Text, Type: "json"}, mysql.MYSQL_TYPE_JSON, 4},
		{rows.Column{Kind: rows.Enum, Type: "enum('a')", Labels: []string{"a"}}, mysql.MYSQL_TYPE_STRING, uint16(mysql.MYSQL_TYPE_SET)<<8 | 1},
	}
	for _, c := range cases {
		if _, err := columnReader(&c.column, c.typ, c.meta); err == nil {
			t.Errorf("%s reads type %d, meta %#x", c.column.Type, c.typ, c.meta)
		}
	}
}

// fuzzTable has all kinds of columns.
func fuzzTable() (*rows.Table, []byte) {
	t := &rows.Table{Name: rows.Name{Database: "d", Table: "t"}, Key: []int{0}}
	var types, meta []byte
	add := func(c rows.Column, typ byte, m ...byte) {
		t.Columns = append(t.Columns, c)
		types, meta = append(types, typ), append(meta, m...)
	}
	add(rows.Column{Kind: rows.Int, Type: "int"}, mysql.MYSQL_TYPE_LONG)
	add(rows.Column{Kind: rows.Decimal, Digits: 2, Type: "decimal(10,2)"}, mysql.MYSQL_TYPE_NEWDECIMAL, 10, 2)
	add(rows.Column{Kind: rows.Text, Type: "varchar(300)"}, mysql.MYSQL_TYPE_VARCHAR, 44, 1)
	add(rows.Column{Kind: rows.Bytes, Type: "blob"}, mysql.MYSQL_TYPE_BLOB, 4)
	add(rows.Column{Kind: rows.Bytes, Type: "binary(5)"}, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_STRING, 5)
	add(rows.Column{Kind: rows.Enum, Type: "enum('a','b')", Labels: []string{"a", "b"}}, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_ENUM, 1)
	add(rows.Column{Kind: rows.Set, Type: "set('a','b')", Labels: []string{"a", "b"}}, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_SET, 1)
	add(rows.Column{Kind: rows.DateTime, Digits: 3, Type: "datetime(3)"}, mysql.MYSQL_TYPE_DATETIME2, 3)
	add(rows.Column{Kind: rows.Time, Digits: 1, Type: "time(1)"}, mysql.MYSQL_TYPE_TIME2, 1)
	add(rows.Column{Kind: rows.UUID, Type: "uuid"}, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_STRING, 16)
	add(rows.Column{Kind: rows.Bit, Type: "bit(9)"}, mysql.MYSQL_TYPE_BIT, 1, 1)
	add(rows.Column{Kind: rows.Inet6, Type: "inet6"}, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_STRING, 16)
	event := []byte{7, 0, 0, 0, 0, 0, 1, 0, 1, 'd', 0, 1, 't', 0, byte(len(types))}
	event = append(append(event, types...), byte(len(meta)))
	return t, append(append(event, meta...), 0xff, 0xff)
}

// FuzzEvents feeds an assembler with events as a server would never send them.
func FuzzEvents(f *testing.F) {
	table, description := fuzzTable()
	f.Add(byte(replication.WRITE_ROWS_EVENTv1), description, []byte{7, 0, 0, 0, 0, 0, 1, 0, 12, 0xff, 0x0f, 0xfe, 0x0f, 1, 0, 0, 0})
	f.Add(byte(replication.UPDATE_ROWS_EVENTv2), description, []byte{7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 12, 0xff, 0x0f, 0xff, 0x0f, 0xff, 0x0f, 0xff, 0x0f})
	f.Add(byte(replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1), description, []byte{7, 0, 0, 0, 0, 0, 1, 0, 12, 0xff, 0x0f, 0x84, 0xff, 0xff, 0xff, 0xff, 0x78})
	f.Add(byte(replication.QUERY_EVENT), description, []byte{1, 2, 3})
	f.Add(byte(replication.MARIADB_QUERY_COMPRESSED_EVENT), description, bytes.Repeat([]byte{0x84, 0xff}, 20))
	f.Add(byte(replication.MARIADB_GTID_LIST_EVENT), description, []byte{255, 255, 255, 15})
	f.Add(byte(replication.XA_PREPARE_LOG_EVENT), description, bytes.Repeat([]byte{9}, 30))
	schema := &rows.Schema{Flavor: "mariadb", Tables: []*rows.Table{table}}
	f.Fuzz(func(t *testing.T, kind byte, description, data []byte) {
		a, err := newAssembler(&Config{Database: "d", MaxTxnBytes: 1 << 20}, "mariadb", rows.Position{GTID: "0-1-1"}, schema, func(txn *rows.Txn) error {
			for _, ch := range txn.Changes {
				for _, r := range []rows.Row{ch.Before, ch.After} {
					if r != nil && len(r) != len(table.Columns) {
						t.Errorf("a row of %d cells", len(r))
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		a.restart()
		a.group = &group{id: "0-1-2", mariadb: gtid.GTID{Domain: 0, Server: 1, Sequence: 2}}
		if err := a.event(rawEvent(byte(replication.TABLE_MAP_EVENT), description)); err != nil {
			return
		}
		_ = a.event(rawEvent(kind, data))
		if a.group != nil {
			_ = a.event(rawEvent(byte(replication.XID_EVENT), make([]byte, 8)))
		}
	})
}

// rawEvent puts a header before an event's body.
func rawEvent(kind byte, body []byte) []byte {
	n := replication.EventHeaderSize + len(body)
	h := []byte{0, 0, 0, 0, kind, 1, 0, 0, 0, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), 0, 0, 0, 0, 0, 0}
	return append(h, body...)
}
