package binlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"imago.dev/imago/transfer/rows"
)

// Stream hands over the transactions after from, one by one and in order, until
// the context ends, yield fails or the log cannot be followed: ErrPurged, ErrDDL,
// ErrStatement, ErrUnknownEvent, ErrTooLarge or ErrStale say why. What happens to
// other tables comes as transactions without changes, so that the position goes on:
// as soon as the log pauses, and once a second while it does not.
//
// A lost connection is made anew, from the last transaction that yield took. The
// schema is that of the tables as they were at from. Transactions are not valid to
// change after yield returns, but may be kept.
func (s *Source) Stream(ctx context.Context, from rows.Position, schema *rows.Schema, yield func(*rows.Txn) error) error {
	asm, err := newAssembler(&s.cfg, s.flavor, from, schema, yield)
	if err != nil {
		return fmt.Errorf("follow production's log from %q: %w", from.GTID, err)
	}
	err = s.follow(ctx, asm)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("follow production's log after %q: %w", asm.yielded.GTID, err)
}

// follow reads the log over one connection after the other.
func (s *Source) follow(ctx context.Context, asm *assembler) error {
	heard := time.Now()
	delay := time.Duration(0)
	for {
		n, err := s.followOnce(ctx, asm, &heard)
		var lost *lostError
		if ctx.Err() != nil || !errors.As(err, &lost) {
			return err
		}
		silence := time.Since(heard)
		if silence >= s.cfg.Silence {
			return fmt.Errorf("%w for %v: %w", ErrStale, silence.Round(time.Second), err)
		}
		if n > 0 {
			delay = 0
		}
		s.cfg.Log.Warn("lost the connection to production's log", slog.Duration("again_in", delay), slog.Any("error", err))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(delay):
		}
		delay = min(max(2*delay, 100*time.Millisecond), 3*time.Second)
	}
}

// lostError is what a new connection may heal.
type lostError struct{ err error }

func (l *lostError) Error() string { return l.err.Error() }
func (l *lostError) Unwrap() error { return l.err }

// followOnce reads over one connection until something ends it, and says how many
// events came.
func (s *Source) followOnce(ctx context.Context, asm *assembler, heard *time.Time) (events int, err error) {
	limit := s.cfg.Silence - time.Since(*heard)
	if limit <= 0 {
		limit = time.Millisecond
	}
	cfg := s.cfg
	cfg.Silence = limit
	d, err := openDump(ctx, &cfg, s.flavor, asm.yielded, false)
	if err != nil {
		if refused := fatal(err); refused != nil {
			return 0, refused
		}
		return 0, &lostError{err}
	}
	defer d.close()
	d.patience = s.cfg.Silence
	asm.restart()
	for {
		event, err := s.nextEvent(d, asm)
		if err != nil {
			return events, err
		}
		events++
		*heard = time.Now()
		if err := asm.event(event); err != nil {
			return events, err
		}
		// However long the receiver took, the server was not silent.
		*heard = time.Now()
	}
}

// nextEvent waits for an event, and yields what is due while there is none.
func (s *Source) nextEvent(d *dump, asm *assembler) ([]byte, error) {
	if asm.due() {
		switch err := d.wait(pause); {
		case errors.Is(err, errPause):
			if err := asm.yieldPosition(); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, &lostError{noEOF(err)}
		}
	}
	event, err := d.next()
	switch {
	case err == nil:
		return event, nil
	case errors.Is(err, ErrTooLarge):
		return nil, err
	case errors.Is(err, io.EOF):
		return nil, &lostError{errors.New("the server has ended the log")}
	}
	if refused := fatal(err); refused != nil {
		return nil, refused
	}
	return nil, &lostError{err}
}
