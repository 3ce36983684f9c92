package catchup

import (
	"context"
	"sync"
	"time"
)

// Limiter bounds how many bytes are read in a second. It may be turned at any
// time. A nil Limiter bounds nothing.
type Limiter struct {
	mu      sync.Mutex
	rate    int64 // negative: no bound; 0: closed
	left    float64
	at      time.Time
	heard   time.Time
	expiry  time.Duration
	changed chan struct{}
	now     func() time.Time
}

// NewLimiter makes a limiter that closes when it was not Set for expiry: who
// turns it may be gone, and its last word must not count for ever.
func NewLimiter(bytesPerSecond int64, expiry time.Duration) *Limiter {
	l := &Limiter{expiry: expiry, changed: make(chan struct{}), now: time.Now}
	l.Set(bytesPerSecond)
	return l
}

// Set tells the rate; 0 closes, a negative one is no bound.
func (l *Limiter) Set(bytesPerSecond int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.refill(now)
	l.rate, l.heard = bytesPerSecond, now
	close(l.changed)
	l.changed = make(chan struct{})
}

// refill keeps at most a fifth of a second's worth, so that a pause is not
// made up for by a burst.
func (l *Limiter) refill(now time.Time) {
	if l.rate > 0 && !l.at.IsZero() {
		l.left = min(l.left+now.Sub(l.at).Seconds()*float64(l.rate), float64(l.rate)/5)
	}
	l.at = now
}

func (l *Limiter) current(now time.Time) int64 {
	if now.Sub(l.heard) > l.expiry {
		return 0
	}
	return l.rate
}

// paused tells whether nothing is let through.
func (l *Limiter) paused() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current(l.now()) == 0
}

// take waits until n more bytes may be read.
func (l *Limiter) take(ctx context.Context, n int64) error {
	if l == nil {
		return context.Cause(ctx)
	}
	for {
		wait, changed := l.try(n)
		if wait == 0 {
			return context.Cause(ctx)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// try takes n bytes, if need be on credit, or says how long to wait before the
// next try.
func (l *Limiter) try(n int64) (wait time.Duration, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	rate := l.current(now)
	if rate < 0 {
		return 0, nil
	}
	if rate == 0 {
		l.at = now
		return time.Minute, l.changed
	}
	l.refill(now)
	if l.left >= 0 {
		l.left -= float64(n)
		return 0, nil
	}
	wait = time.Duration(-l.left / float64(rate) * float64(time.Second))
	return min(max(wait, time.Millisecond), time.Second), l.changed
}
