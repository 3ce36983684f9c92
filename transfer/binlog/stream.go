package binlog

import (
	"context"
	"errors"

	"imago.dev/imago/transfer/rows"
)

// Stream hands over the transactions after from, one by one and in order, until
// the context ends or something is wrong for good.
func (s *Source) Stream(ctx context.Context, from rows.Position, schema *rows.Schema, yield func(*rows.Txn) error) error {
	return errors.New("not yet")
}
