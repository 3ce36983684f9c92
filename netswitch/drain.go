package netswitch

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DrainReport says what the hold waited for.
type DrainReport struct {
	InFlight int           // connections with a request in flight, or that may have had one
	Closed   int           // connections that were ended since the hold began
	Slowest  time.Duration // from the beginning of the hold to the last answer
}

// BusyConn is a connection that did not come to rest.
type BusyConn struct {
	Client netip.AddrPort
	VIP    netip.AddrPort
	Why    string
	Since  time.Duration
}

// DrainError lists the connections that are still busy. It matches ErrNotDrained.
type DrainError struct {
	Busy  []BusyConn
	Cause error
}

func (e *DrainError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v on %d connections", ErrNotDrained, len(e.Busy))
	for i, c := range e.Busy {
		if i == 5 {
			b.WriteString(", ...")
			break
		}
		fmt.Fprintf(&b, "; %s to %s: %s for %s", c.Client, c.VIP, c.Why, c.Since.Round(time.Millisecond))
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, " (%v)", e.Cause)
	}
	return b.String()
}

// Unwrap gives the causes to errors.Is.
func (e *DrainError) Unwrap() []error { return []error{ErrNotDrained, e.Cause} }

const drainPoll = 2 * time.Millisecond

// Drain returns when no request is in flight on the old side and every client of an
// open connection knows that it is closed. From then on no byte of a request can
// reach the old side: what comes late is refused, as by a server that has closed.
// At the end of ctx or of the hold it returns a *DrainError; the hold goes on.
func (h *Hold) Drain(ctx context.Context) (DrainReport, error) {
	report := h.drainBegin()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		if h.tryCut(&report) {
			h.spec.Log.Info("old side is drained", "in_flight", report.InFlight, "closed", report.Closed, "slowest", report.Slowest)
			return report, nil
		}
		select {
		case <-tick.C:
		case <-h.over:
			return report, h.busy(ErrHoldOver)
		case <-ctx.Done():
			return report, h.busy(context.Cause(ctx))
		}
	}
}

func (h *Hold) drainBegin() DrainReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	var r DrainReport
	for _, f := range h.flows {
		if !f.endedBefore && (f.inFlight() || f.heldAnswers > 0) {
			r.InFlight++
		}
	}
	return r
}

// tryCut looks at all connections and cuts them off in the same moment, so that
// nothing can begin in between.
func (h *Hold) tryCut(r *DrainReport) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.releasing || h.watching {
		return false
	}
	r.Closed, r.Slowest = 0, h.slowest
	for _, f := range h.flows {
		if !f.finished() {
			return false
		}
		if !f.endedBefore {
			r.Closed++
		}
	}
	if len(h.udp) > 0 && h.clock.now.Sub(h.lastUDP) < h.spec.Quiet {
		return false
	}
	h.cut = true
	return true
}

func (h *Hold) busy(cause error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cut {
		return nil
	}
	e := &DrainError{Cause: cause}
	for _, f := range h.flows {
		if !f.finished() {
			e.Busy = append(e.Busy, f.describe(h.clock.now))
		}
	}
	slices.SortFunc(e.Busy, func(a, b BusyConn) int { return a.Client.Compare(b.Client) })
	return e
}

func (f *flow) describe(now time.Time) BusyConn {
	c := BusyConn{Client: f.key.client, VIP: f.key.vip, Since: now.Sub(f.lastData)}
	switch {
	case f.phase == flowClosing:
		c.Why, c.Since = "client has not acknowledged the close", now.Sub(f.finSent)
	case f.sync == syncHTTP && len(f.pending) > 0:
		c.Why, c.Since = "waits for its answer", now.Sub(f.busySince)
	case f.sync == syncHTTP:
		c.Why = "between requests"
	case f.sync == syncOpaque:
		c.Why = "cannot be followed, not quiet yet; last data"
	default:
		c.Why = "nothing seen yet"
	}
	return c
}
