package regulate

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Stale is the age from which a reading is worth nothing and the regulator closes.
const Stale = 15 * time.Second

// Signal says how one measurement of production is judged. What it may reach is
// learnt: the value without the transfer plus the larger of Rise and Slack, but
// never more than Limit.
type Signal struct {
	Name  string  // in words, as reasons say it: "clients' latency", "I/O pressure"
	Unit  string  // "ms" or "%", written after values
	Rise  float64 // allowed rise over the value without the transfer: 0.1 is a tenth
	Slack float64 // allowed rise in the signal's unit, however small the value is: what is below it is noise
	Limit float64 // absolute limit: from here on the transfer stops, whoever is to blame; 0 is none
}

// Reading is one measurement of a signal. It covers the time from From to At.
//
// For a signal with a distribution (latency) Buckets hold it and Value is not
// used: the regulator then compares p99, or, when there are few requests, the highest
// quantile that ten of them lie above, because p99 of a hundred requests is one
// request's luck.
//
// A reading with the same From as the one before replaces it (it covers the same
// and more); any other is added. Readings should begin at [Verdict.Measure] or later: earlier ones
// keep a signal from being stale, but nothing is learnt from them. One of a
// distribution that has neither Buckets nor Idle says that clients wait and none is
// answered: while that lasts, a pause does not end and the share does not grow.
type Reading struct {
	From, At time.Time
	Value    float64
	Buckets  []Bucket // in ascending order of Value
	Idle     bool     // measured, but nothing happened: a quiet night, not an unknown
}

// Bucket counts observations of about one value.
type Bucket struct {
	Value float64
	Count int
}

// LeftOut is a signal that the regulator does without.
type LeftOut struct {
	Name string `json:"name"`
	Why  string `json:"why"` // in words: "this kernel has no pressure stall information"
}

func (s Signal) check() error {
	for _, v := range []float64{s.Rise, s.Slack, s.Limit} {
		if !(v >= 0) || math.IsInf(v, 0) {
			return fmt.Errorf("signal %q: bounds must be 0 or more, got %v", s.Name, v)
		}
	}
	if s.Name == "" {
		return errors.New("a signal has no name")
	}
	if s.Rise == 0 && s.Slack == 0 && s.Limit == 0 {
		return fmt.Errorf("signal %q has no bound", s.Name)
	}
	return nil
}

func (rd Reading) check() error {
	if rd.At.Before(rd.From) || rd.From.IsZero() {
		return fmt.Errorf("it covers the time from %s to %s", rd.From, rd.At)
	}
	if !(rd.Value >= 0) || math.IsInf(rd.Value, 0) {
		return fmt.Errorf("its value is %v", rd.Value)
	}
	last := -1.0
	for _, b := range rd.Buckets {
		if !(b.Value > last) || math.IsInf(b.Value, 0) || b.Count < 0 || b.Count > math.MaxInt32 {
			return fmt.Errorf("%d of %v after %v in its distribution", b.Count, b.Value, last)
		}
		last = b.Value
	}
	return nil
}
