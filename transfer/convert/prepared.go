package convert

import (
	"context"
	"errors"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

var errNotYet = errors.New("not there yet")

// Prepared is a conversion that was held against both schemas. Its methods may be
// called at the same time, each with a connection of its own; every connection
// has been given rows.SessionSQL. Close ends its programs.
type Prepared struct {
	conv Conversion
}

// Prepare holds a conversion against both schemas and the server that has the
// new database and the copies of the old tables, and names all that does not fit.
func Prepare(ctx context.Context, conn *client.Conn, c Conversion, db Databases, source, target *rows.Schema) (*Prepared, error) {
	return nil, errNotYet
}

// Close ends the program's processes and waits for them.
func (p *Prepared) Close() error { return nil }

// Conversion is what was prepared.
func (p *Prepared) Conversion() Conversion { return p.conv }

// KeyColumns describe the cells of an object's key, for literals and for storing
// them. Text in a common character set is in utf8mb4, whatever the tables' own.
func (p *Prepared) KeyColumns() []rows.Column { return nil }

// CompareKeys orders two objects as Next does; false: only the server knows.
func (p *Prepared) CompareKeys(a, b []rows.Cell) (int, bool) { return 0, false }

// Dirty are the keys of the objects that a change touches, from its images alone.
func (p *Prepared) Dirty(ch *rows.Change) [][]rows.Cell { return nil }

// HasVia tells whether a table of the conversion is joined through another, so
// that DirtyVia must be asked as well.
func (p *Prepared) HasVia(table rows.Name) bool { return false }

// DirtyVia are the keys of the objects that changes touch through From.Via. It
// is asked in the transaction that wrote the changes to the copies of the old
// tables, after them.
func (p *Prepared) DirtyVia(ctx context.Context, conn *client.Conn, changes []*rows.Change) ([][]rows.Cell, error) {
	return nil, errNotYet
}

// Convert makes objects anew, inside the caller's open transaction. What the
// server or the program refuses is in Result.Rejected, and its old rows stay; all
// other errors end the transaction's use.
func (p *Prepared) Convert(ctx context.Context, conn *client.Conn, keys [][]rows.Cell) (Result, error) {
	return Result{}, errNotYet
}

// Next is the end of the next range of about n objects behind a key; nil is the
// beginning. No objects is the end.
func (p *Prepared) Next(ctx context.Context, conn *client.Conn, after []rows.Cell, n int) (upto []rows.Cell, objects int, err error) {
	return nil, 0, errNotYet
}

// ConvertRange makes the objects behind after up to and with upto, which were
// never made before, inside the caller's open transaction.
func (p *Prepared) ConvertRange(ctx context.Context, conn *client.Conn, after, upto []rows.Cell) (Result, error) {
	return Result{}, errNotYet
}

// CompareRange converts a range aside and compares it with the table: how many
// objects were compared, and those that differ.
func (p *Prepared) CompareRange(ctx context.Context, conn *client.Conn, after, upto []rows.Cell) (compared int, different [][]rows.Cell, err error) {
	return 0, nil, errNotYet
}

// CompareObjects does the same for single objects.
func (p *Prepared) CompareObjects(ctx context.Context, conn *client.Conn, keys [][]rows.Cell) (different [][]rows.Cell, err error) {
	return nil, errNotYet
}
