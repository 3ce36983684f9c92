package report

import "time"

// span is where a request lies relative to the flips.
type span int

const (
	before   span = iota // answered before the flip, or there was none
	across               // under way at a flip: either version may answer
	after                // made after the flip
	goneBack             // made after the rollback
)

// span places a request that was made and answered at these times.
func (f Flips) span(made, answered time.Time) span {
	switch {
	case f.Switch.IsZero() || answered.Before(f.Switch):
		return before
	case made.Before(f.Switch):
		return across
	case f.Rollback.IsZero() || answered.Before(f.Rollback):
		return after
	case made.Before(f.Rollback):
		return across
	}
	return goneBack
}

// judge tells which versions were the old and the new one, and counts the answers by the wrong one. The old version is
// the one that nearly all answers before the flip came from, the new one likewise after it; answers that name no
// version say nothing.
func judge(spans map[span]map[string]int64) (old, new string, mixed int64) {
	old, new = mostCommon(spans[before]), mostCommon(spans[after])
	if old == "" {
		old = mostCommon(spans[goneBack])
	}
	mixed = wrong(spans[before], old) + wrong(spans[after], new) + wrong(spans[goneBack], old)
	for v, n := range spans[across] {
		if v != old && v != new && v != unknown && old != "" && new != "" {
			mixed += n
		}
	}
	if old == new && new != "" {
		// A flip after which the same version answered led nobody anywhere.
		mixed += spans[after][new]
	}
	return old, new, mixed
}

func mostCommon(by map[string]int64) (best string) {
	for v, n := range by {
		if v != unknown && (best == "" || n > by[best] || n == by[best] && v < best) {
			best = v
		}
	}
	return best
}

func wrong(by map[string]int64, right string) (n int64) {
	for v, k := range by {
		if v != right && v != unknown {
			n += k
		}
	}
	return n
}
