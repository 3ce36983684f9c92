package regulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// world is a simulated production and its host. It has c servers; load is the
// part of them that clients want, above 1 in a flash crowd. The transfer at full
// share wants cost of them too. Waiting follows Sakasegawa's formula for M/M/c
// queues; from 95 % on, clients wait for each other and times grow in proportion.
type world struct {
	rng      *rand.Rand
	load     func(t time.Duration) float64
	requests float64 // per second at load 1
	cost     float64
	base     float64 // ms that a request takes alone, median
	start    time.Time

	share   float64    // what the transfer does
	felt    float64    // what production feels of it: half a second late
	recent  []answered // of the last minute
	with    *histogram // of the whole time
	without *histogram
	done    float64 // seconds of full rate
}

// answered are the requests of one half second.
type answered struct {
	at      time.Time
	buckets []uint16
}

const servers = 8

func waiting(load float64) float64 {
	const knee = 0.95
	open := func(rho float64) float64 {
		return 1 + math.Pow(rho, math.Sqrt(2*(servers+1))-1)/(servers*(1-rho))
	}
	if load <= knee {
		return open(max(load, 0))
	}
	return open(knee) * (1 + 10*(load-knee))
}

// rise is how much slower the transfer makes production now; 0 is not at all.
func (w *world) rise(t time.Duration) float64 {
	return waiting(w.load(t)+w.cost*w.felt)/waiting(w.load(t)) - 1
}

const tick = 500 * time.Millisecond

// step lets half a second pass, up to time t of the day.
func (w *world) step(t time.Duration) {
	load := w.load(t)
	slow, alone := waiting(load+w.cost*w.felt), waiting(load)
	n := w.poisson(w.requests * load * tick.Seconds())
	a := answered{at: w.start.Add(t), buckets: make([]uint16, n)}
	// Times are drawn as logarithms, of which the buckets are steps.
	logSlow, logAlone := math.Log(w.base*slow/narrowest), math.Log(w.base*alone/narrowest)
	for i := range n {
		z := 0.6 * w.rng.NormFloat64()
		a.buckets[i] = bucketOf(logSlow + z)
		w.with.counts[a.buckets[i]]++
		w.without.counts[bucketOf(logAlone+z)]++
	}
	w.with.n += n
	w.without.n += n
	w.recent = append(w.recent, a)
	for w.start.Add(t).Sub(w.recent[0].at) > time.Minute {
		w.recent = w.recent[1:]
	}
	w.done += w.share * tick.Seconds()
	w.felt = w.share
}

func (w *world) poisson(mean float64) int {
	if mean > 30 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*w.rng.NormFloat64())))
	}
	n, p, limit := 0, 1.0, math.Exp(-mean)
	for {
		if p *= w.rng.Float64(); p <= limit {
			return n
		}
		n++
	}
}

// latency is a reading of the requests since from, as the probe on the bridge gives it.
func (w *world) latency(from, now time.Time) Reading {
	h := new(histogram)
	for _, a := range w.recent {
		if !a.at.Add(-tick).Before(from) {
			for _, i := range a.buckets {
				h.counts[i]++
			}
		}
	}
	rd := Reading{From: from, At: now, Buckets: h.buckets()}
	rd.Idle = len(rd.Buckets) == 0
	if rd.From.After(now) {
		rd.From = now
	}
	return rd
}

// pressure is a noisy percentage of the last second.
func (w *world) pressure(t time.Duration, now time.Time) Reading {
	p := 100 * min(0.3*math.Pow(w.load(t), 2)+0.1*w.cost*w.felt, 1) * math.Exp(0.2*w.rng.NormFloat64())
	return Reading{From: now.Add(-time.Second), At: now, Value: min(p, 100)}
}

// histogram has buckets 3 % wide, from 0.1 ms to half an hour.
type histogram struct {
	counts [560]int
	n      int
}

const narrowest = 0.1

func bucketOf(logarithm float64) uint16 {
	return uint16(min(max(int(logarithm/0.03), 0), len(histogram{}.counts)-1))
}

func (h *histogram) buckets() []Bucket {
	var out []Bucket
	for i, n := range h.counts {
		if n > 0 {
			out = append(out, Bucket{narrowest * math.Exp((float64(i)+0.5)*0.03), n})
		}
	}
	return out
}

func (h *histogram) quantile(q float64) float64 {
	sum := 0
	for _, b := range h.buckets() {
		if sum += b.Count; float64(sum) > q*float64(h.n) {
			return b.Value
		}
	}
	return 0
}

// run lets the regulator govern the world for a while and calls each after every step.
func (w *world) run(r *Regulator, length time.Duration, each func(t time.Duration, v Verdict)) error {
	w.with, w.without = new(histogram), new(histogram)
	v := r.Step(w.start)
	for t := tick; t <= length; t += tick {
		w.step(t)
		if t%time.Second != 0 {
			continue
		}
		now := w.start.Add(t)
		if err := r.Observe(clients, w.latency(v.Measure, now)); err != nil {
			return fmt.Errorf("at %s: %w", t, err)
		}
		if err := r.Observe(stalls, w.pressure(t, now)); err != nil {
			return fmt.Errorf("at %s: %w", t, err)
		}
		v = r.Step(now)
		w.share = v.Share
		each(t, v)
	}
	return nil
}

const (
	clients = "clients' latency"
	stalls  = "I/O pressure"
)
