package catchup

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Unbounded is what a host sends for no bound.
const Unbounded = -1

// TestLimiterKeepsTheRate on a clock of its own.
func TestLimiterKeepsTheRate(t *testing.T) {
	now := time.Unix(1000, 0)
	l := &Limiter{expiry: 15 * time.Second, changed: make(chan struct{}), now: func() time.Time { return now }}
	for _, rate := range []int64{1000, 50_000_000, 100} {
		l.Set(rate)
		begin, taken := now, int64(0)
		for now.Sub(begin) < 10*time.Second {
			wait, _ := l.try(250)
			if wait == 0 {
				taken += 250
				now = now.Add(time.Microsecond)
				continue
			}
			now = now.Add(wait)
		}
		if most := rate*10 + rate/5 + 500; taken > most || taken < min(rate*9, 9_000_000*250/250) {
			t.Errorf("at %d bytes/s %d bytes went through in 10 s", rate, taken)
		}
	}
}

func TestStaleRateCloses(t *testing.T) {
	now := time.Unix(1000, 0)
	l := &Limiter{expiry: 15 * time.Second, changed: make(chan struct{}), now: func() time.Time { return now }}
	l.Set(Unbounded)
	now = now.Add(14 * time.Second)
	if wait, _ := l.try(1); wait != 0 || l.paused() {
		t.Error("closed too early")
	}
	now = now.Add(2 * time.Second)
	if wait, _ := l.try(1); wait == 0 || !l.paused() {
		t.Error("a rate of long ago still holds")
	}
	l.Set(Unbounded)
	if wait, _ := l.try(1); wait != 0 {
		t.Error("a new rate does not open it")
	}
}

func TestLimiterWakes(t *testing.T) {
	l := NewLimiter(0, time.Hour)
	got := make(chan error)
	go func() { got <- l.take(context.Background(), 1) }()
	select {
	case <-got:
		t.Fatal("a rate of 0 let something through")
	case <-time.After(50 * time.Millisecond):
	}
	l.Set(Unbounded)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	l.Set(0)
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("stop")
	cancel(stop)
	if err := l.take(ctx, 1); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if err := (*Limiter)(nil).take(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
}

// TestPauseHoldsTheWalk: with a rate of 0 nothing goes on, not even looking.
func TestPauseHoldsTheWalk(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, "for i in $(seq 50); do echo $i >$i; done")
	opts := tr.options()
	opts.Limit = NewLimiter(0, time.Hour)
	paused := make(chan Progress, 100)
	opts.Progress = func(p Progress) {
		select {
		case paused <- p:
		default:
		}
	}
	done := make(chan error)
	go func() { _, err := tr.try(opts); done <- err }()
	if p := <-paused; !p.Paused || p.Entries > 1 {
		t.Errorf("%+v", p)
	}
	opts.Limit.Set(Unbounded)
	must(t, <-done)
	tr.mustBeEqual()
}
