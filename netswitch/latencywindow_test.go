package netswitch

import (
	"testing"
	"time"
)

func TestLatencyBuckets(t *testing.T) {
	last := -1
	for us := time.Duration(0); us < 70_000_000; us += us/50 + 1 {
		d := us * time.Microsecond
		i := latencyBucket(d)
		if i < last || i >= latencyBuckets {
			t.Fatalf("%s is in bucket %d, after %d", d, i, last)
		}
		last = i
		if middle := bucketTime(i); i < latencyBuckets-1 && (middle-d).Abs() > d/50+time.Microsecond {
			t.Errorf("%s is told as %s", d, middle)
		}
	}
	if latencyBucket(-time.Second) != 0 || latencyBucket(1<<62) != latencyBuckets-1 {
		t.Error("times out of range")
	}
}

func TestLatencyRecord(t *testing.T) {
	t0 := time.Now()
	r := newLatencyRecord(t0)
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	count := func(from, now float64) (int, time.Duration) {
		var c latencyCount
		r.since(at(from), at(now), &c)
		return c.n, c.quantile(0.99)
	}
	if n, q := count(-100, 0); n != 0 || q != 0 {
		t.Errorf("empty: %d %s", n, q)
	}
	for i := range 100 {
		r.add(at(1), time.Duration(i+1)*time.Millisecond)
	}
	r.add(at(5), time.Second)
	if n, q := count(0, 10); n != 101 || q < 97*time.Millisecond || q > 103*time.Millisecond {
		t.Errorf("%d %s", n, q)
	}
	if n, q := count(1.1, 10); n != 1 || q < 980*time.Millisecond {
		t.Errorf("after the hundred: %d %s", n, q)
	}
	if n, _ := count(0, 62); n != 1 {
		t.Errorf("more than a minute ago: %d", n)
	}
	r.add(at(65), time.Second)
	r.add(at(5), time.Minute) // its slot is in use again
	if n, _ := count(60, 66); n != 1 {
		t.Errorf("slot used again: %d", n)
	}
}
