package binlog

import (
	"errors"
	"fmt"
)

// What ends a stream for good; all else is tried again.
var (
	// ErrPurged: the log no longer has what comes next. The copy must be made anew.
	ErrPurged = errors.New("the binary log has a gap")
	// ErrDDL: a table that is transferred was changed, made, emptied or dropped.
	ErrDDL = errors.New("production's schema changes")
	// ErrStatement: a change was logged as a statement, not as rows.
	ErrStatement = errors.New("a change is in the log as a statement, not as rows")
	// ErrUnknownEvent: the log has an event that nobody here understands.
	ErrUnknownEvent = errors.New("the log has an event that is not understood")
	// ErrTooLarge: one transaction exceeds Config.MaxTxnBytes.
	ErrTooLarge = errors.New("a transaction is too large")
	// ErrStale: nothing was heard of the server for 15 s.
	ErrStale = errors.New("production's log is silent")
	// ErrCloneWritten: somebody wrote to the clone after it started.
	ErrCloneWritten = errors.New("the clone has been written to")
)

// Fault is one thing that stands against a transfer.
type Fault struct {
	What string // as it is, such as "binlog_format is MIXED"
	Want string // as it must be
	Do   string // the statement or setting that makes it so
}

func (f *Fault) Error() string {
	s := f.What
	if f.Want != "" {
		s += ", must be " + f.Want
	}
	if f.Do != "" {
		s += fmt.Sprintf(" (%s)", f.Do)
	}
	return s
}
