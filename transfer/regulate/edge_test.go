package regulate

import (
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
)

// spread is a reading of n requests that all take about ms, since the verdict's Measure.
func spread(v Verdict, now time.Time, n int, ms float64) Reading {
	rd := Reading{From: v.Measure, At: now, Idle: n == 0}
	if rd.From.After(now) {
		rd.From = now
	}
	for i := range n {
		rd.Buckets = append(rd.Buckets, Bucket{ms * (1 + 0.0001*float64(i)), 1})
	}
	return rd
}

// clientsPass lets time go by with n requests a second; n 0 is idle, below 0 a hang.
func (b *bench) clientsPass(d time.Duration, n int, ms func(share float64) float64) {
	b.t.Helper()
	for end := b.now.Add(d); b.now.Before(end); {
		b.now = b.now.Add(time.Second)
		since := max(int(b.now.Sub(b.v.Measure)/time.Second), 0)
		rd := spread(b.v, b.now, max(n, 0)*since, ms(b.v.Share))
		rd.Idle = n == 0
		if err := b.r.Observe("latency", rd); err != nil {
			b.t.Fatal(err)
		}
		b.v = b.r.Step(b.now)
	}
}

var latencySignal = Signal{Name: "latency", Unit: "ms", Rise: 0.2}

func level(ms float64) func(float64) float64 { return func(float64) float64 { return ms } }

// What is normal is learnt anew in each pause: production that becomes slow by itself does
// not stop the transfer, and one that became fast again is not hurt up to yesterday's slowness.
func TestNormalIsLearntAnew(t *testing.T) {
	b := newBench(t, latencySignal, 0)
	b.clientsPass(5*time.Minute, 50, level(10))
	if b.v.State != Full {
		t.Fatalf("at the beginning: %+v", b.v)
	}
	sum := 0.0
	for range 180 {
		b.clientsPass(time.Second, 50, level(100))
		sum += b.v.Share
		if b.v.State == Slowed {
			t.Fatalf("taken for the transfer's fault: %q", b.v.Reason)
		}
	}
	if sum < 0.6*180 {
		t.Errorf("production is slow, but not by our fault; the share is %.0f %%: %q", 100*sum/180, b.v.Reason)
	}
	most := 0.0
	b.clientsPass(time.Minute, 50, level(10))
	for range 300 {
		b.clientsPass(time.Second, 50, func(share float64) float64 { return 10 + 90*share })
		if b.v.Share > most {
			most = b.v.Share
		}
	}
	if b.v.Share > 0.05 {
		t.Errorf("up to %.0f %%, now %.0f %%: clients wait %.0f ms instead of 10, as they did when it was not our fault", 100*most, 100*b.v.Share, 10+90*b.v.Share)
	}
}

// A production that answers nothing must not look quiet: the pause lasts until it answers.
func TestHangIsNotQuiet(t *testing.T) {
	b := newBench(t, latencySignal, 0)
	b.clientsPass(5*time.Minute, 50, level(10))
	b.clientsPass(3*time.Minute, -1, level(0))
	if b.v.Share != 0 || b.v.State != Stopped || !strings.Contains(b.v.Reason, "nothing could be learnt of latency") {
		t.Errorf("during a hang: %v %q", b.v.Share, b.v.Reason)
	}
	b.clientsPass(2*time.Minute, 50, level(10))
	if b.v.State != Full && b.v.State != Listening {
		t.Errorf("after it: %q", b.v.Reason)
	}
	b.clientsPass(2*time.Minute, 0, level(0))
	if b.v.State != Full && b.v.State != Listening {
		t.Errorf("in a quiet night: %q", b.v.Reason)
	}
}

func TestHurtAtTheSmallestShareRests(t *testing.T) {
	b := newBench(t, latencySignal, 0)
	fragile := func(share float64) float64 {
		if share > 0 {
			return 50
		}
		return 10
	}
	worked := 0
	var rests []time.Duration
	for range 1800 {
		was := b.v.State
		b.clientsPass(time.Second, 50, fragile)
		if b.v.Share > 0 {
			worked++
		}
		if b.v.State == Stopped && was != Stopped {
			rests = append(rests, 0)
			if !strings.Contains(b.v.Reason, "latency p") || !strings.Contains(b.v.Reason, "+390 %") || !strings.Contains(b.v.Reason, "next try in") {
				t.Errorf("reason: %q", b.v.Reason)
			}
		}
		if b.v.State == Stopped {
			rests[len(rests)-1] += time.Second
		}
	}
	if len(rests) < 5 || rests[4] < 4*rests[0] || worked > 1800/20 {
		t.Errorf("%d s of work in half an hour, rests %v", worked, rests)
	}
}

func TestPlansLimitAndFloor(t *testing.T) {
	for _, floor := range []float64{0, 0.1} {
		r, err := New(Config{
			Signals: []Signal{{Name: "latency", Unit: "ms", Rise: 0.2, Limit: 40}}, Floor: floor,
			LeftOut: []LeftOut{{"I/O pressure", "this kernel has none"}}, Full: Rates{1000, 1000, 1000},
		})
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{t: t, r: r, now: time.Unix(1e9, 0)}
		b.v = r.Step(b.now)
		b.clientsPass(5*time.Minute, 50, level(50))
		if floor == 0 && (b.v.Share != 0 || b.v.State != Stopped) || floor > 0 && (b.v.Share != 0.1 || b.v.Rates.RowsPerSecond != 100) && b.v.State != Listening {
			t.Errorf("floor %v, over the limit: %+v", floor, b.v)
		}
		if !strings.Contains(b.v.Reason, "the limit is 40 ms") && b.v.State != Listening || !strings.Contains(b.v.Reason, "without I/O pressure: this kernel has none") {
			t.Errorf("reason: %q", b.v.Reason)
		}
		b.clientsPass(5*time.Minute, 50, level(10))
		if b.v.State != Full && b.v.State != Listening {
			t.Errorf("floor %v, below it again: %+v", floor, b.v)
		}
		b.pass(Stale+2*time.Second, nil)
		if b.v.Share != 0 {
			t.Errorf("the floor holds although nothing is known: %+v", b.v)
		}
	}
}

func TestUnknownFromTheStart(t *testing.T) {
	b := newBench(t, latencySignal, 1)
	if b.v.Share != 0 || b.v.Reason == "" {
		t.Errorf("before anything is known: %+v", b.v)
	}
	if err := b.r.Failed("latency", errors.New("no such device")); err != nil {
		t.Fatal(err)
	}
	b.pass(16*time.Second, nil)
	if b.v.State != Stopped || b.v.Reason != "stopped: latency is unknown for 16 s (no such device)" {
		t.Errorf("%+v", b.v)
	}
	// Readings that come, but all stem from the future or reach back before the pause, teach nothing.
	for range 60 {
		b.now = b.now.Add(time.Second)
		if err := b.r.Observe("latency", Reading{From: b.now.Add(time.Hour), At: b.now.Add(time.Hour), Value: 1}); err != nil {
			t.Fatal(err)
		}
		b.v = b.r.Step(b.now)
	}
	if b.v.Share != 0 {
		t.Errorf("readings from the future opened it: %+v", b.v)
	}
}

func TestWindowsThatReachBack(t *testing.T) {
	b := newBench(t, latencySignal, 1)
	for range 60 {
		b.now = b.now.Add(time.Second)
		if err := b.r.Observe("latency", Reading{From: b.now.Add(-time.Hour), At: b.now, Value: 1}); err != nil {
			t.Fatal(err)
		}
		b.v = b.r.Step(b.now)
	}
	if b.v.State != Stopped || !strings.Contains(b.v.Reason, "nothing could be learnt of latency") {
		t.Errorf("%+v", b.v)
	}
}

func TestRefusedReadings(t *testing.T) {
	b := newBench(t, latencySignal, 0)
	at := b.now
	for name, rd := range map[string]Reading{
		"no time": {}, "backwards": {From: at, At: at.Add(-1)}, "NaN": {From: at, At: at, Value: math.NaN()}, "negative": {From: at, At: at, Value: -1},
		"infinite": {From: at, At: at, Value: math.Inf(1)}, "descending": {From: at, At: at, Buckets: []Bucket{{2, 1}, {1, 1}}}, "twice": {From: at, At: at, Buckets: []Bucket{{2, 1}, {2, 1}}},
		"negative count": {From: at, At: at, Buckets: []Bucket{{2, -1}}}, "NaN bucket": {From: at, At: at, Buckets: []Bucket{{math.NaN(), 1}}},
	} {
		if err := b.r.Observe("latency", rd); err == nil {
			t.Error(name)
		}
	}
	ok := Reading{From: at, At: at}
	if err := b.r.Observe("other", ok); err == nil {
		t.Error("unknown signal")
	}
	if err := b.r.Failed("other", errors.New("x")); err == nil {
		t.Error("unknown signal failed")
	}
	if v := b.r.Step(at.Add(time.Second)); v.Signals[0].Known || v.Signals[0].Error == "" {
		t.Errorf("%+v", v.Signals)
	}
}

func TestConfigs(t *testing.T) {
	full := Rates{1, 1, 1}
	for name, c := range map[string]Config{
		"no bound": {Signals: []Signal{{Name: "a"}}, Full: full}, "no name": {Signals: []Signal{{Rise: 1}}, Full: full}, "NaN": {Signals: []Signal{{Name: "a", Rise: math.NaN()}}, Full: full},
		"twice": {Signals: []Signal{{Name: "a", Rise: 1}, {Name: "a", Rise: 1}}, Full: full}, "no full rate": {Signals: []Signal{{Name: "a", Rise: 1}}},
		"left out in silence": {Signals: []Signal{{Name: "a", Rise: 1}}, LeftOut: []LeftOut{{Name: "b"}}, Full: full},
		"floor":               {Signals: []Signal{{Name: "a", Rise: 1}}, Full: full, Floor: 2}, "limit": {Signals: []Signal{{Name: "a", Rise: 1}}, Full: full, Limits: Limits{PullRate: -1}},
	} {
		if _, err := New(c); err == nil {
			t.Error(name)
		} else {
			t.Log(err)
		}
	}
}

func TestRates(t *testing.T) {
	b := rateBook{full: Rates{1000, 2000, 4000}, limits: Limits{BytesPerSecond: 500}}
	for share, want := range map[float64]Rates{0: {}, 0.1: {100, 200, 400}, 0.5: {500, 500, 2000}, 1: {-1, 500, -1}, 1e-9: {1, 1, 1}} {
		if got := b.at(share); got != want {
			t.Errorf("share %v: %+v, want %+v", share, got, want)
		}
	}
	// The machine does 100 rows/s, whatever it may: half of the share must mean half of that.
	for range 3 {
		b.achieved(Rates{RowsPerSecond: 100}, 0.5)
	}
	if got := b.at(0.25).RowsPerSecond; got < 50 || got > 70 {
		t.Errorf("a quarter is %d rows/s", got)
	}
	b.achieved(Rates{RowsPerSecond: 10_000, BytesPerSecond: 490}, 1)
	if b.full.RowsPerSecond < 10_000 || b.full.BytesPerSecond != 2000 {
		t.Errorf("%+v", b.full)
	}
	if l := (Limits{RowsPerSecond: 5, PullRate: 6}); l.String() != "5 rows/s and 6 bytes/s of disks" {
		t.Error(l)
	}
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	b := newBench(t, latencySignal, 0)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 200 {
				now := b.now.Add(time.Duration(n) * time.Second)
				_ = b.r.Observe("latency", Reading{From: now, At: now, Value: float64(i)})
				_ = b.r.Failed("latency", errors.New("x"))
				b.r.Achieved(Rates{1, 1, 1})
				_ = b.r.SetLimits(now, Limits{RowsPerSecond: int64(n)}, "a", "b")
				b.r.Pause(now, "a", "b")
				b.r.Resume(now, "a", "b")
				if v := b.r.Step(now); v.Reason == "" || !(v.Share >= 0 && v.Share <= 1) {
					t.Errorf("%+v", v)
				}
				b.r.Changes()
				b.r.Limits()
			}
		})
	}
	wg.Wait()
}

// FuzzRegulator feeds whatever it is given: the share stays within its bounds, a reason is
// said, and a signal that is unknown for too long closes it.
func FuzzRegulator(f *testing.F) {
	f.Add([]byte{10, 20, 30, 40, 50, 60, 70, 80, 200, 255, 0, 0, 0, 1})
	f.Add([]byte(strings.Repeat("\x10\x21\x32", 200)))
	f.Fuzz(func(t *testing.T, moves []byte) {
		r, err := New(Config{Signals: []Signal{{Name: "a", Rise: 0.1, Limit: 100}, {Name: "b", Slack: 1}}, Full: Rates{10, 10, 10}})
		if err != nil {
			t.Fatal(err)
		}
		moves = moves[:min(len(moves), 1000)]
		now := time.Unix(1e9, 0)
		v := r.Step(now)
		seen := map[string]time.Time{"a": now, "b": now}
		for i, m := range moves {
			now = now.Add(time.Duration(m%4) * time.Second)
			name := "a"
			if m&16 != 0 {
				name = "b"
			}
			rd := Reading{From: now.Add(-time.Duration(m&3) * time.Second), At: now, Value: float64(m) / float64(1+i%7), Idle: m&64 != 0}
			if m&32 != 0 {
				rd = Reading{From: v.Measure, At: now, Buckets: []Bucket{{float64(m), int(m)}, {float64(m) + 1, i}, {1e9, 1}}}
			}
			if m&12 != 0 && r.Observe(name, rd) == nil {
				seen[name] = now
			}
			v = r.Step(now)
			if !(v.Share >= 0 && v.Share <= 1) || v.Reason == "" || v.Rates.RowsPerSecond < -1 {
				t.Fatalf("%+v", v)
			}
			for name, at := range seen {
				if now.Sub(at) > Stale && v.Share != 0 {
					t.Fatalf("%s is unknown for %s: %+v", name, now.Sub(at), v)
				}
			}
		}
	})
}
