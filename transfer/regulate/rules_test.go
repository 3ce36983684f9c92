package regulate

import (
	"strings"
	"testing"
	"time"
)

// bench is a regulator with one signal of single values, and its clock.
type bench struct {
	t   *testing.T
	r   *Regulator
	now time.Time
	v   Verdict
}

func newBench(t *testing.T, s Signal, start float64) *bench {
	t.Helper()
	r, err := New(Config{Signals: []Signal{s}, Full: Rates{RowsPerSecond: 1000, BytesPerSecond: 1 << 20, PullRate: 1 << 20}, Start: start})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, r: r, now: time.Unix(1e9, 0)}
	b.v = r.Step(b.now)
	return b
}

// pass lets time go by; value gives the signal under the share of the moment.
func (b *bench) pass(d time.Duration, value func(share float64) float64) {
	b.t.Helper()
	for end := b.now.Add(d); b.now.Before(end); {
		from := b.now
		b.now = b.now.Add(time.Second)
		if value != nil {
			if err := b.r.Observe("latency", Reading{From: from, At: b.now, Value: value(b.v.Share)}); err != nil {
				b.t.Fatal(err)
			}
		}
		b.v = b.r.Step(b.now)
	}
}

func calm(float64) float64 { return 10 }

// A signal that died must not leave its last good value in force.
func TestStaleSignalCloses(t *testing.T) {
	b := newBench(t, Signal{Name: "latency", Unit: "ms", Rise: 0.2}, 0.5)
	b.pass(3*time.Minute, calm)
	if b.v.Share == 0 && b.v.State != Listening {
		t.Fatalf("closed though all is well: %+v", b.v)
	}
	b.pass(Stale+2*time.Second, nil)
	if b.v.Share != 0 || b.v.State != Stopped || b.v.Rates.RowsPerSecond != 0 || !strings.Contains(b.v.Reason, "unknown") {
		t.Fatalf("open though the signal is dead: %s %v %q", b.v.State, b.v.Share, b.v.Reason)
	}
	b.pass(30*time.Second, calm)
	if b.v.State == Stopped {
		t.Fatalf("closed though the signal is back: %q", b.v.Reason)
	}
}

// What the transfer itself does to production is never taken for normal.
func TestOwnLoadIsNotLearnt(t *testing.T) {
	b := newBench(t, Signal{Name: "latency", Unit: "ms", Rise: 0.2}, 0)
	own := func(share float64) float64 { return 10 + 20*share } // 20 % are reached at a tenth
	b.pass(30*time.Minute, own)
	var most float64
	for range 600 {
		b.pass(time.Second, own)
		most = max(most, b.v.Share)
	}
	if most > 0.2 {
		t.Fatalf("the share grew to %.2f: latency +%.0f %%", most, 200*most)
	}
	if most == 0 {
		t.Fatal("there is room, and nothing is done")
	}
}

func TestPersonsLimits(t *testing.T) {
	b := newBench(t, Signal{Name: "latency", Unit: "ms", Rise: 0.2}, 1)
	b.pass(2*time.Minute, calm)
	b.r.Pause(b.now, "ann", "the boss is looking")
	b.pass(time.Second, calm)
	if b.v.State != Paused || b.v.Rates.BytesPerSecond != 0 || !strings.Contains(b.v.Reason, "ann") {
		t.Fatalf("not paused: %+v", b.v)
	}
	b.r.Resume(b.now, "ann", "")
	b.r.SetLimits(b.now, Limits{RowsPerSecond: 7}, "bob", "")
	b.pass(time.Minute, calm)
	if b.v.Rates.RowsPerSecond > 7 || b.v.Rates.RowsPerSecond == 0 && b.v.State != Listening {
		t.Fatalf("not limited: %+v", b.v)
	}
	if c := b.r.Changes(); len(c) != 3 || c[2].Who != "bob" {
		t.Errorf("changes: %+v", c)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a regulator without a signal was made")
	}
}
