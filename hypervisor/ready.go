package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Condition is one thing that a guest must have reached, such as "answers on SSH".
type Condition struct {
	What    string        // as in "web-1: SSH answers"
	Hint    string        // what a person should look at when it does not come
	Timeout time.Duration // how long to wait for it; default 2 min
	// Check returns nil once the condition holds. It must obey its context.
	Check func(context.Context) error
	// Fatal says which error of Check makes waiting useless; nil: none.
	Fatal func(error) bool
	// Liveness is asked between checks; an error (the domain has crashed) ends
	// the wait at once. nil: not asked. See [Domain.Alive].
	Liveness func(context.Context) error
}

// Progress tells how a wait goes on.
type Progress struct {
	VM      string
	What    string
	Index   int // of the condition, from 0
	Total   int
	Elapsed time.Duration // for this condition
	Done    bool          // the condition holds
	Last    error         // why it did not hold at the last check
}

// NotReadyError says what a guest did not reach.
type NotReadyError struct {
	VM     string
	What   string
	Hint   string
	Waited time.Duration
	Err    error // of the last check
}

func (e *NotReadyError) Error() string {
	msg := fmt.Sprintf("%s: waited %s for: %s", e.VM, e.Waited.Round(100*time.Millisecond), e.What)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		msg += " (" + e.Hint + ")"
	}
	return msg
}

// Unwrap gives the error of the last check.
func (e *NotReadyError) Unwrap() error { return e.Err }

const (
	defaultTimeout = 2 * time.Minute
	firstPause     = 100 * time.Millisecond
	longestPause   = 2 * time.Second
	// checkLimit bounds a single check, so that a hanging one does not eat the whole wait.
	checkLimit = time.Minute
)

// WaitReady waits for the conditions in their order, with growing pauses
// between checks. report (may be nil) is called after each check. The error is
// a [*NotReadyError].
func WaitReady(ctx context.Context, vm string, conds []Condition, report func(Progress)) error {
	if report == nil {
		report = func(Progress) {}
	}
	for i, c := range conds {
		p := Progress{VM: vm, What: c.What, Index: i, Total: len(conds)}
		if err := c.wait(ctx, p, report); err != nil {
			return err
		}
	}
	return nil
}

// errTimeout is the cause when a condition's own time is up.
var errTimeout = errors.New("time is up")

func (c Condition) wait(ctx context.Context, p Progress, report func(Progress)) error {
	limit := c.Timeout
	if limit <= 0 {
		limit = defaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTimeout)
	defer cancel()
	start := time.Now()
	next := firstPause
	for {
		err := c.once(ctx)
		// A check that was cut off by the end of the wait tells less than the one before it.
		if ctx.Err() == nil || p.Last == nil {
			p.Last = err
		}
		p.Elapsed, p.Done = time.Since(start), err == nil
		report(p)
		if err == nil {
			return nil
		}
		if c.hopeless(ctx, err, &p.Last) || !sleep(ctx, next) {
			return c.notReady(ctx, p, start)
		}
		next = min(next*3/2, longestPause)
	}
}

func (c Condition) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	return c.Check(ctx)
}

// hopeless tells whether waiting on makes no sense, and keeps the reason in last.
func (c Condition) hopeless(ctx context.Context, err error, last *error) bool {
	if c.Fatal != nil && c.Fatal(err) {
		return true
	}
	if c.Liveness == nil {
		return false
	}
	if dead := c.Liveness(ctx); dead != nil {
		*last = errors.Join(dead, err)
		return true
	}
	return false
}

func (c Condition) notReady(ctx context.Context, p Progress, start time.Time) error {
	err := p.Last
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errTimeout) {
		err = errors.Join(cause, err)
	}
	return &NotReadyError{VM: p.VM, What: c.What, Hint: c.Hint, Waited: time.Since(start), Err: err}
}

// sleep pauses; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Alive returns an error when the domain no longer runs: the liveness of a [Condition].
func (d *Domain) Alive(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil // the wait ends for another reason
	}
	st, err := d.State()
	if err != nil {
		return err
	}
	if !st.Active() || st.Crashed() || st.IOError() {
		return fmt.Errorf("domain %q is %s", d.name, st)
	}
	return nil
}
