package rows

import (
	"slices"
	"strings"
	"time"
)

// Kind says how the values of a column are written: the canonical form of each
// is given here, and is what a Cell holds, whether it was read by a SELECT or
// from a change stream.
type Kind uint8

// The kinds of columns.
const (
	Unsupported Kind = iota // a type that is refused by name
	Int                     // decimal, with sign: "-12"
	Uint                    // decimal: "18446744073709551615"
	Decimal                 // as the server prints it, with the column's scale: "-1.50"
	Float                   // the shortest text that gives the same 32-bit number back: "0.1", "1e+20"
	Double                  // the same for 64 bits
	Bit                     // unsigned decimal
	Text                    // the bytes in the column's character set
	Bytes                   // the bytes; BINARY, VARBINARY, BLOB
	Date                    // "2026-11-23", "0000-00-00"
	Time                    // "-838:59:59.000000", with the column's number of digits
	DateTime                // "2026-11-23 01:02:03.456", with the column's number of digits
	Timestamp               // as DateTime, in UTC
	Year                    // "2026", "0000"
	Enum                    // the label's bytes; "" is the error value (index 0)
	Set                     // the labels, separated by commas, in the order of the column
	JSON                    // text in utf8mb4
	Geometry                // the server's internal bytes: SRID and WKB
	Inet4                   // text
	Inet6                   // text
	UUID                    // text
)

// Cell is one value in its column's canonical form; nil is NULL.
type Cell []byte

// Row has one Cell for each column of its table, in order. The cells of generated
// columns are nil and mean nothing.
type Row []Cell

// Column is one column as the server describes it.
type Column struct {
	Name      string
	Type      string // in the server's words, such as "int(10) unsigned"
	Kind      Kind
	Charset   string // of Text, Enum and Set
	Collation string
	Nullable  bool
	Default   *string // the expression; nil is none
	// Generated columns are computed by the server and never written.
	Generated     bool
	AutoIncrement bool
	Labels        []string // of Enum and Set, in the column's own bytes
	Digits        int      // fractional digits of Time, DateTime and Timestamp; scale of Decimal
}

// ForeignKey is a constraint of a table.
type ForeignKey struct {
	Name       string
	Columns    []string
	Database   string // of the table referred to
	Table      string
	References []string
	// OnDelete and OnUpdate are RESTRICT, NO ACTION, CASCADE or SET NULL.
	OnDelete, OnUpdate string
}

// Cascades tells whether a change of the other table changes this one, unseen by
// the log.
func (f ForeignKey) Cascades() bool {
	acts := func(s string) bool { return s == "CASCADE" || s == "SET NULL" || s == "SET DEFAULT" }
	return acts(f.OnDelete) || acts(f.OnUpdate)
}

// Name says which table: the database on the source and the table in it.
type Name struct{ Database, Table string }

func (n Name) String() string { return n.Database + "." + n.Table }

// Table is one base table.
type Table struct {
	Name
	Columns []Column
	// Key are the indexes of the columns that name a row: the primary key, else a
	// unique key without NULLs. It is empty when there is none.
	Key    []int
	Unique [][]int // all unique keys but Key, by column index
	// Hidden is how many columns the log has after these: MariaDB keeps a hash for
	// each unique key over long columns.
	Hidden      int
	ForeignKeys []ForeignKey
	Engine      string
	// NextAuto is the next AUTO_INCREMENT value, 0 when there is no such column.
	NextAuto uint64
	Rows     uint64 // the server's estimate
	// Triggers are the names of the table's triggers.
	Triggers []string
	// Unfit says in words why the rows of this table cannot be transferred, such
	// as "system-versioned"; empty when they can. A column of an Unsupported kind
	// makes a table unfit, too.
	Unfit string
}

// Column finds a column by its name, without regard to case; -1 is none.
func (t *Table) Column(name string) int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return strings.EqualFold(c.Name, name) })
}

// KeyOf are the cells of the row's key.
func (t *Table) KeyOf(r Row) []Cell {
	key := make([]Cell, len(t.Key))
	for i, c := range t.Key {
		key[i] = r[c]
	}
	return key
}

// Schema is all the tables of some databases.
type Schema struct {
	// Flavor is "mariadb" or "mysql"; Version is the server's own word.
	Flavor, Version string
	Tables          []*Table
}

// Table finds a table; nil is none.
func (s *Schema) Table(n Name) *Table {
	i := slices.IndexFunc(s.Tables, func(t *Table) bool { return t.Name == n })
	if i < 0 {
		return nil
	}
	return s.Tables[i]
}

// Op is what happened to a row.
type Op uint8

// The operations.
const (
	Insert Op = iota + 1
	Update
	Delete
)

// Change is what one transaction did to one row. Before is nil for Insert and
// After for Delete; both are whole rows.
type Change struct {
	Table         Name
	Op            Op
	Before, After Row
}

// Position is a place between two transactions of a change stream.
type Position struct {
	GTID string `json:"gtid"`           // the set of all transactions before it, in the server's words
	File string `json:"file,omitempty"` // where it stands in the server's log, for a person
	At   uint64 `json:"at,omitempty"`
}

// Txn is one committed transaction of the source, restricted to the tables that
// are transferred; Changes may be empty.
type Txn struct {
	ID        string    // its own GTID
	Position  Position  // after it
	Committed time.Time // by the source's clock
	Changes   []Change
	// ForeignKeyChecksOff: the session that wrote it had them off.
	ForeignKeyChecksOff bool
}
