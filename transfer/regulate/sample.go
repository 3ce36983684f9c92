package regulate

import "math"

// A sample is what was measured of one signal under one condition: with the
// transfer, or without.
//
// With a distribution, its quantiles are bounded by ranks, which needs no
// assumption about the distribution: the true quantile lies between the
// observations about a standard deviation of ranks, √(n·q·(1−q)), to each side.
type sample struct {
	buckets []weighted // of a distribution, ascending
	n       float64    // requests in buckets
	values  []float64  // single values, of equal weight
	idle    bool       // there was at least one reading in which nothing happened
}

type weighted struct{ value, count float64 }

// maxValues bounds how many single values a sample keeps; the oldest go.
const maxValues = 64

func (s *sample) empty() bool { return s.n == 0 && len(s.values) == 0 && !s.idle }

func (s *sample) clone() sample {
	c := *s // buckets are never written in place
	c.values = append([]float64(nil), s.values...)
	return c
}

// add takes a reading in.
func (s *sample) add(rd Reading) {
	switch {
	case len(rd.Buckets) > 0:
		in := make([]weighted, 0, len(rd.Buckets))
		for _, b := range rd.Buckets {
			if b.Count > 0 {
				in = append(in, weighted{b.Value, float64(b.Count)})
			}
		}
		s.merge(in, 1)
	case rd.Idle:
		s.idle = true
	default:
		s.values = append(s.values, rd.Value)
		s.values = s.values[max(0, len(s.values)-maxValues):]
	}
}

// merge adds a distribution, each count multiplied by factor; what is left of one
// after many pauses is dropped.
func (s *sample) merge(in []weighted, factor float64) {
	const nothing = 0.01
	out := make([]weighted, 0, len(s.buckets)+len(in))
	a, b := s.buckets, in
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].value < b[0].value:
			out, a = append(out, a[0]), a[1:]
		case len(a) == 0 || b[0].value < a[0].value:
			if count := b[0].count * factor; count > nothing {
				out = append(out, weighted{b[0].value, count})
			}
			b = b[1:]
		default:
			out = append(out, weighted{a[0].value, a[0].count + b[0].count*factor})
			a, b = a[1:], b[1:]
		}
	}
	s.buckets, s.n = out, 0
	for _, w := range out {
		s.n += w.count
	}
}

// estimate is a value with bounds: the true one probably lies between low and
// high (one standard deviation), and almost certainly between least and most (two).
type estimate struct{ least, low, value, high, most float64 }

// quantile estimates one of a distribution, n > 0.
func (s *sample) quantile(q float64) estimate {
	rank, sd := s.n*q, math.Sqrt(s.n*q*(1-q))
	ranks := [5]float64{rank - 2*sd, rank - sd, rank, rank + sd, rank + 2*sd}
	var at [5]float64
	next, sum := 0, 0.0
	for _, w := range s.buckets {
		for sum += w.count; next < len(ranks) && sum > ranks[next]; next++ {
			at[next] = w.value
		}
		if next == len(ranks) {
			break
		}
	}
	for ; next < len(ranks); next++ { // beyond the last observation
		at[next] = s.buckets[len(s.buckets)-1].value
	}
	return estimate{at[0], at[1], at[2], at[3], at[4]}
}

// mean estimates that of single values, of which there is at least one. One alone proves nothing.
func (s *sample) mean() estimate {
	n := float64(len(s.values))
	sum, squares := 0.0, 0.0
	for _, v := range s.values {
		sum += v
	}
	m := sum / n
	if n == 1 {
		return estimate{0, m / 2, m, 2 * m, math.Inf(1)}
	}
	for _, v := range s.values {
		squares += (v - m) * (v - m)
	}
	sd := math.Sqrt(squares / (n - 1) / n)
	return estimate{m - 2*sd, m - sd, m, m + sd, m + 2*sd}
}

// compared lists which quantiles of two distributions are compared: the tail is what
// is promised, the others show with fewer requests that all became slower.
func compared(n float64) []float64 {
	if tail := tailOf(n); tail > 0.9 {
		return []float64{tail, 0.9, 0.5}
	} else if tail > 0.5 {
		return []float64{tail, 0.5}
	}
	return []float64{0.5}
}

// tailOf is the highest quantile, up to p99, that about ten of n requests lie above.
func tailOf(n float64) float64 { return min(max(1-10/n, 0.5), 0.99) }

// differs tells whether two estimates can hardly be of the same thing.
func (e estimate) differs(o estimate) bool { return e.least > o.most || e.most < o.least }
