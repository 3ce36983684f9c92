package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
)

// Serve is the guest's end: it opens the engine that the host describes and runs
// it until the host says so, falls silent for good or goes away.
func Serve(ctx context.Context, r io.Reader, w io.Writer, log *slog.Logger) error {
	return errors.New("not there yet")
}
