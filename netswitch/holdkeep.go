package netswitch

import "time"

// Began is when clients began to be held; before Begin, when watching began.
func (h *Hold) Began() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.started
}

// Keep takes the deadline away for the moment of the flip: from here on only
// Release ends the hold. It returns ErrHoldOver if the hold has ended already;
// then clients are on the old side and the flip must not happen.
func (h *Hold) Keep() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.releasing {
		return ErrHoldOver
	}
	h.kept = true
	return nil
}

// expire marks the hold as ending, unless it is kept: one of Keep and the
// deadline wins, never both.
func (h *Hold) expire() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kept {
		return false
	}
	h.releasing = true
	return true
}

// Unknown counts the open HTTP connections of which it is not known whether
// they carry a request: they were there before watching began, and nothing has
// passed on them since. While clients are only watched, waiting for it to reach
// 0 costs them nothing.
func (h *Hold) Unknown() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, f := range h.flows {
		if f.phase == flowOpen && f.app == HTTP && f.sync == syncUnknown {
			n++
		}
	}
	return n
}
