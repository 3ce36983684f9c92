package binlog

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"

	"imago.dev/imago/transfer/rows"
)

func testAssembler(t *testing.T) (*assembler, *[]*rows.Txn) {
	t.Helper()
	table, _ := fuzzTable()
	var got []*rows.Txn
	a, err := newAssembler(&Config{Database: "d", MaxTxnBytes: 1 << 20}, "mariadb", rows.Position{GTID: "0-1-10"},
		&rows.Schema{Flavor: "mariadb", Tables: []*rows.Table{table}}, func(txn *rows.Txn) error {
			got = append(got, txn)
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	a.restart()
	return a, &got
}

func gtidEvent(sequence uint64, flags byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, sequence)
	return rawEvent(byte(replication.MARIADB_GTID_EVENT), append(b, 0, 0, 0, 0, flags, 0, 0, 0, 0, 0, 0))
}

func gtidListEvent(domain, server uint32, sequence uint64) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{1, 0, 0, 0}, domain)
	b = binary.LittleEndian.AppendUint32(b, server)
	return rawEvent(byte(replication.MARIADB_GTID_LIST_EVENT), binary.LittleEndian.AppendUint64(b, sequence))
}

// TestEvents: each sequence ends with the error, in the last event.
func TestEvents(t *testing.T) {
	_, description := fuzzTable()
	begin := gtidEvent(11, 0)
	cases := []struct {
		name   string
		events [][]byte
		want   error
	}{
		{"a type of tomorrow", [][]byte{rawEvent(200, nil)}, ErrUnknownEvent},
		{"a type that may be ignored, they say", [][]byte{rawEvent(byte(replication.IGNORABLE_EVENT), nil)}, ErrUnknownEvent},
		{"compressed transaction", [][]byte{rawEvent(byte(replication.TRANSACTION_PAYLOAD_EVENT), make([]byte, 20))}, ErrUnknownEvent},
		{"partial update", [][]byte{begin, rawEvent(byte(replication.PARTIAL_UPDATE_ROWS_EVENT), make([]byte, 20))}, ErrUnknownEvent},
		{"old rows", [][]byte{begin, rawEvent(byte(replication.WRITE_ROWS_EVENTv0), make([]byte, 20))}, ErrUnknownEvent},
		{"view change", [][]byte{rawEvent(byte(replication.VIEW_CHANGE_EVENT), make([]byte, 20))}, ErrUnknownEvent},
		{"incident", [][]byte{rawEvent(byte(replication.INCIDENT_EVENT), []byte{1, 0, 0})}, ErrPurged},
		{"rows outside", [][]byte{rawEvent(byte(replication.TABLE_MAP_EVENT), description)}, ErrUnknownEvent},
		{"commit outside", [][]byte{rawEvent(byte(replication.XID_EVENT), make([]byte, 8))}, ErrUnknownEvent},
		{"rows of no table", [][]byte{begin, rawEvent(byte(replication.WRITE_ROWS_EVENTv1), []byte{9, 0, 0, 0, 0, 0, 1, 0, 1, 1, 0})}, ErrUnknownEvent},
		{"rows of another table", [][]byte{begin, rawEvent(byte(replication.TABLE_MAP_EVENT), description), rawEvent(byte(replication.WRITE_ROWS_EVENTv1), []byte{9, 0, 0, 0, 0, 0, 1, 0, 12, 0xff, 0x0f, 0})}, ErrUnknownEvent},
		{"cut rows", [][]byte{begin, rawEvent(byte(replication.TABLE_MAP_EVENT), description), rawEvent(byte(replication.WRITE_ROWS_EVENTv1), []byte{7, 0, 0, 0, 0, 0, 1, 0, 12, 0xff, 0x0f, 0, 0, 1})}, ErrUnknownEvent},
		{"fewer columns", [][]byte{begin, rawEvent(byte(replication.TABLE_MAP_EVENT), description), rawEvent(byte(replication.WRITE_ROWS_EVENTv1), []byte{7, 0, 0, 0, 0, 0, 1, 0, 3, 7, 0})}, ErrDDL},
		{"image without a column", [][]byte{begin, rawEvent(byte(replication.TABLE_MAP_EVENT), description), rawEvent(byte(replication.WRITE_ROWS_EVENTv1), []byte{7, 0, 0, 0, 0, 0, 1, 0, 12, 1, 0, 0, 5, 0, 0, 0})}, ErrStatement},
		{"transaction in a transaction", [][]byte{begin, gtidEvent(12, 0)}, ErrUnknownEvent},
		{"a sequence that goes back", [][]byte{gtidEvent(10, 0)}, ErrUnknownEvent},
		{"a file that begins later", [][]byte{gtidListEvent(0, 1, 15)}, ErrPurged},
		{"a file with an unknown domain", [][]byte{gtidListEvent(3, 1, 1)}, ErrPurged},
		{"a file that begins where we are", [][]byte{gtidListEvent(0, 1, 10)}, nil},
		{"no savepoint", [][]byte{begin, query("ROLLBACK TO x")}, ErrUnknownEvent},
		{"load data", [][]byte{begin, rawEvent(byte(replication.EXECUTE_LOAD_QUERY_EVENT), make([]byte, 40))}, ErrStatement},
		{"garbled", [][]byte{begin, rawEvent(byte(replication.QUERY_EVENT), []byte{1})}, ErrUnknownEvent},
		{"size of another event", [][]byte{begin, append(rawEvent(byte(replication.TABLE_MAP_EVENT), description), 0)}, ErrUnknownEvent},
	}
	for _, c := range cases {
		a, got := testAssembler(t)
		for i, e := range c.events {
			err := a.event(e)
			if i < len(c.events)-1 {
				if err != nil {
					t.Errorf("%s: event %d: %v", c.name, i, err)
				}
				continue
			}
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
		if len(*got) > 0 {
			t.Errorf("%s: handed over %d transactions", c.name, len(*got))
		}
	}
}

func query(statement string) []byte {
	b := make([]byte, 13)
	b[8] = 1 // length of the schema's name
	return rawEvent(byte(replication.QUERY_EVENT), append(append(b, 'd', 0), statement...))
}

// TestChecksum: a byte that changed on the way is noticed.
func TestChecksum(t *testing.T) {
	a, _ := testAssembler(t)
	a.checksums = true
	a.group = &group{id: "0-1-11"}
	_, description := fuzzTable()
	e := rawEvent(byte(replication.TABLE_MAP_EVENT), append(description, 1, 2, 3, 4))
	if err := a.event(e); !errors.Is(err, ErrUnknownEvent) || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a wrong checksum: %v", err)
	}
}

// TestRestart: a new connection goes on after what was handed over, not after what
// was read.
func TestRestart(t *testing.T) {
	a, got := testAssembler(t)
	for _, e := range [][]byte{gtidEvent(11, 1), query("FLUSH TABLES")} {
		if err := a.event(e); err != nil {
			t.Fatal(err)
		}
	}
	if len(*got) != 0 || !a.due() || a.pending.Position.GTID != "0-1-11" {
		t.Errorf("a statement alone: %+v", a.pending)
	}
	// What was read but not handed over is read again.
	a.restart()
	if a.due() || a.mariadb.String() != "0-1-10" {
		t.Errorf("after a new connection: %v, %s", a.due(), a.mariadb)
	}
}
