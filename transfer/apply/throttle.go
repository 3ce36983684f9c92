package apply

import (
	"context"
	"sync"
	"time"
)

// throttle is a token bucket of rows and bytes; what was taken too much is paid by
// waiting before the next time.
type throttle struct {
	mu          sync.Mutex
	rows, bytes bucket
	changed     chan struct{} // closed when the rate changes
}

// bucket holds at most what comes in in a tenth of a second.
type bucket struct {
	rate   int64 // 0 is closed, negative is without bound
	level  float64
	filled time.Time
}

func (b *bucket) set(rate int64, now time.Time) {
	b.fill(now)
	b.rate = rate
	if rate > 0 {
		b.level = min(b.level, float64(rate)/10)
	} else {
		b.level = 0
	}
	b.filled = now
}

func (b *bucket) fill(now time.Time) {
	if b.rate > 0 {
		b.level = min(b.level+float64(b.rate)*now.Sub(b.filled).Seconds(), float64(b.rate)/10)
	}
	b.filled = now
}

// wait is how long until something may be taken; ok is false if it is closed.
func (b *bucket) wait(now time.Time) (d time.Duration, ok bool) {
	b.fill(now)
	switch {
	case b.rate == 0:
		return 0, false
	case b.rate < 0, b.level > 0:
		return 0, true
	}
	return time.Duration((1 - b.level) / float64(b.rate) * float64(time.Second)), true
}

func (b *bucket) take(n float64) {
	if b.rate > 0 {
		b.level -= n
	}
}

func (t *throttle) set(rows, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.rows.set(rows, now)
	t.bytes.set(bytes, now)
	if t.changed != nil {
		close(t.changed)
	}
	t.changed = make(chan struct{})
}

// wait returns when the next piece of work may begin.
func (t *throttle) wait(ctx context.Context) error {
	for {
		t.mu.Lock()
		now := time.Now()
		rows, open := t.rows.wait(now)
		bytes, also := t.bytes.wait(now)
		changed := t.changed
		t.mu.Unlock()
		d := max(rows, bytes)
		if open && also && d == 0 {
			return nil
		}
		var timer <-chan time.Time
		if open && also {
			timer = time.After(d)
		}
		select {
		case <-timer:
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// take notes what was done.
func (t *throttle) take(rows, bytes uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.rows.fill(now)
	t.bytes.fill(now)
	t.rows.take(float64(rows))
	t.bytes.take(float64(bytes))
}

// piece is how many rows at most a piece of work should have, so that the rate is
// even: what comes in in a twentieth of a second.
func (t *throttle) piece(most int, rowBytes float64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows.rate > 0 {
		most = min(most, max(50, int(t.rows.rate/20)))
	}
	if t.bytes.rate > 0 && rowBytes > 0 {
		most = min(most, max(50, int(float64(t.bytes.rate)/20/rowBytes)))
	}
	return most
}

// SetRate bounds the first copy and its verification: 0 stops them, a negative
// number is no bound.
func (e *Engine) SetRate(rowsPerSecond, bytesPerSecond int64) {
	e.rate.set(rowsPerSecond, bytesPerSecond)
}
