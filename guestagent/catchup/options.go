package catchup

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Options says how a target is made equal to a source.
type Options struct {
	// Target is the path of the target's root; it is made if it is missing.
	Target string
	// Manifest is the path of the manifest; empty keeps none.
	Manifest string
	// Label says what the source is. A manifest written under another label, for
	// another target or other owners is not used.
	Label string
	// UID and GID own everything below the root; -1 takes the source's.
	UID, GID int
	// Delete, Full, CheckOnly, Frozen and Taken are as in
	// guestagent.CatchUpOptions.
	Delete, Full, CheckOnly, Frozen bool
	Taken                           time.Time
	// Limit bounds the reading of the source; nil is no bound.
	Limit *Limiter
	// window, when not zero, replaces the time in which a change may go unseen.
	window time.Duration
	// Progress, which may be nil, is told how far it is five times a second.
	Progress func(Progress)
}

// Progress is how far a call is.
type Progress struct {
	Entries, Read, Copied, Bytes int64
	Paused                       bool
}

// Result counts what was found and done; see guestagent.CatchUpResult.
type Result struct {
	Files, Dirs, Links, Hard, Specials, Sockets int64
	Skipped, Compared, ComparedBytes            int64
	Copied, Bytes, Linked, Touched, Deleted     int64
	Differed, Foreign, Unkept                   int64
	Different, Foreigners                       []string
	// Faults holds the first of FaultCount entries that could not be made equal.
	Faults     []Fault
	FaultCount int64
}

// Fault is one entry and what stood against it.
type Fault struct {
	Path string
	Err  error
}

// maxNamed is how many entries of a kind are named.
const maxNamed = 20

// ErrNothingCompared says that a full comparison compared nothing.
var ErrNothingCompared = errors.New("there are files, but none was compared")

// counters are what workers count, too.
type counters struct {
	entries, read, copied, bytes, compared, comparedBytes, unkept atomic.Int64
}

func (c *counters) progress(l *Limiter) Progress {
	return Progress{
		Entries: c.entries.Load(), Read: c.read.Load(), Copied: c.copied.Load(), Bytes: c.bytes.Load(),
		Paused: l.paused(),
	}
}

func (c *counters) into(r *Result) {
	r.Copied, r.Bytes, r.Unkept = c.copied.Load(), c.bytes.Load(), c.unkept.Load()
	r.Compared, r.ComparedBytes = c.compared.Load(), c.comparedBytes.Load()
}

// verdict refuses a full comparison that did not look at every file.
func (r *Result) verdict(opts Options) error {
	switch {
	case !opts.Full || r.Files == 0 || r.FaultCount > 0:
		return nil
	case r.Compared == 0 && (!opts.CheckOnly || r.Differed == 0):
		return ErrNothingCompared
	case r.Compared < r.Files && !opts.CheckOnly:
		return fmt.Errorf("only %d of %d files were compared: %w", r.Compared, r.Files, ErrNothingCompared)
	}
	return nil
}
