package convert

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// Dirty are the keys of the objects that a change touches, from its images alone.
func (p *Prepared) Dirty(ch *rows.Change) [][]rows.Cell {
	var keys [][]rows.Cell
	for i := range p.from {
		f := &p.from[i]
		if f.Via != "" || f.table.Name != ch.Table {
			continue
		}
		for _, row := range []rows.Row{ch.Before, ch.After} {
			if row == nil {
				continue
			}
			key := make([]rows.Cell, len(f.columns))
			for j, v := range f.cells(row) {
				key[j] = p.key.parts[j].transcode(&f.table.Columns[f.columns[j]], v)
			}
			key[len(key)-1] = add(key[len(key)-1], f.Plus)
			keys = append(keys, key)
		}
	}
	return distinct(keys)
}

// cells are a row's cells of Key. A row that is shorter than its table is the
// caller's to refuse.
func (f *fromTable) cells(row rows.Row) []rows.Cell {
	cells := make([]rows.Cell, len(f.columns))
	for j, c := range f.columns {
		if c < len(row) {
			cells[j] = row[c]
		}
	}
	return cells
}

// HasVia tells whether objects depend on a table through another, so that
// DirtyVia must be asked as well.
func (p *Prepared) HasVia(table rows.Name) bool {
	return slices.ContainsFunc(p.from, func(f fromTable) bool { return f.Via != "" && f.table.Name == table })
}

// DirtyVia are the keys of the objects that changes touch through From.Via. It
// is asked in the transaction that wrote the changes to the copies of the old
// tables, after them.
func (p *Prepared) DirtyVia(ctx context.Context, conn *client.Conn, changes []*rows.Change) ([][]rows.Cell, error) {
	var keys [][]rows.Cell
	var s *session
	for i := range p.from {
		f := &p.from[i]
		values := f.viaValues(changes)
		if len(values) == 0 {
			continue
		}
		if s == nil {
			var err error
			if s, err = begin(ctx, conn, p.db.New); err != nil {
				return nil, err
			}
			defer s.end()
		}
		for _, v := range values {
			err := s.query(p.viaQuery(f, v), func(values [][]byte) error {
				key, err := p.key.cells(values)
				keys = append(keys, key)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("conversion %q: ask which objects depend on a row of %s: %w", p.conv.Name, f.Table, err)
			}
		}
	}
	return distinct(keys), nil
}

// viaValues are the distinct values that changes have in the columns of Key.
func (f *fromTable) viaValues(changes []*rows.Change) [][]rows.Cell {
	if f.Via == "" {
		return nil
	}
	var values [][]rows.Cell
	for _, ch := range changes {
		if ch.Table != f.table.Name {
			continue
		}
		for _, row := range []rows.Row{ch.Before, ch.After} {
			if row != nil {
				values = append(values, f.cells(row))
			}
		}
	}
	return distinct(values)
}

func (p *Prepared) viaQuery(f *fromTable, v []rows.Cell) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SELECT %s FROM (\n", p.key.read(place{alias: "v", names: f.viaCols}))
	f.via.bind(&b, func(param string) string {
		j := f.param(param)
		return string(rows.AppendLiteral(nil, &f.table.Columns[f.columns[j]], v[j]))
	})
	b.WriteString("\n) v")
	return b.String()
}
