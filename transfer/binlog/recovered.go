package binlog

import (
	"context"
	"errors"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// RecoveredPosition is asked on the clone.
func RecoveredPosition(ctx context.Context, conn *client.Conn) (p rows.Position, durable bool, err error) {
	return p, false, errors.New("not yet")
}
