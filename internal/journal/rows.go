package journal

import (
	"context"
	"database/sql"
	"encoding"
	"errors"
	"fmt"
)

// row is one row of an answer.
type row interface{ Scan(dest ...any) error }

// list reads all rows of a query.
func list[T any](ctx context.Context, db *sql.DB, what string, scan func(row) (T, error), query string, args ...any) (all []T, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return all, nil
}

// textOf lets a value that reads itself from text be scanned from a column.
func textOf(into encoding.TextUnmarshaler) sql.Scanner { return textColumn{into} }

type textColumn struct{ into encoding.TextUnmarshaler }

func (c textColumn) Scan(value any) error {
	s, ok := value.(string)
	if !ok {
		return fmt.Errorf("column holds a %T, want a text", value)
	}
	return c.into.UnmarshalText([]byte(s))
}
