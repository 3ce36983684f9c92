package regulate

import (
	"math"
	"time"
)

const (
	fewRequests = 10  // fewer than these say nothing
	enough      = 300 // with so many, an evaluation need not wait for more
)

// tracker is what is known of one signal.
type tracker struct {
	Signal
	last  Reading // the newest, whatever it covers
	known bool
	err   error // why it could not be read since
	tails bool  // it comes as a distribution

	normal  sample  // without the transfer, over the last pauses
	current sample  // since the present condition began
	pending Reading // the newest part of it, which a later reading may replace
	held    bool    // there is a pending reading
	stash   sample  // with the transfer, before the present pause
	run     sample  // with the transfer, over several epochs of about the same share
}

// observe takes a reading; only what began at or after from belongs to the present condition.
func (t *tracker) observe(rd Reading, from time.Time) {
	if t.known && rd.At.Before(t.last.At) {
		return // late
	}
	t.last, t.known, t.err = rd, true, nil
	t.tails = t.tails || len(rd.Buckets) > 0
	if hangs := t.tails && !rd.Idle && len(rd.Buckets) == 0; hangs || rd.From.Before(from) {
		return // requests wait that began earlier, and none was answered: that is no value, nor quiet
	}
	if t.held && !rd.From.Equal(t.pending.From) {
		t.current.add(t.pending)
	}
	t.pending, t.held = rd, true
}

// restart forgets the present condition; another begins.
func (t *tracker) restart() { t.current, t.pending, t.held = sample{}, Reading{}, false }

// forget drops what was seen with the transfer before: production is another one now.
func (t *tracker) forget() { t.run, t.stash = sample{}, sample{} }

// sample is all of the present condition.
func (t *tracker) sample() sample {
	s := t.current.clone()
	if t.held {
		s.add(t.pending)
	}
	return s
}

// longer is the present condition with the epochs before it.
func (t *tracker) longer() sample {
	s := t.sample()
	s.merge(t.run.buckets, 1)
	s.values = append(s.values, t.run.values...)
	return s
}

// learn takes a sample from a pause into what is normal. Older pauses count less
// and less, and for nothing once they contradict the newest: a slower evening is learnt at once.
func (t *tracker) learn(s sample) {
	if s.n > 0 {
		factor := 0.9
		if s.n >= fewRequests {
			factor = 0.7
			if t.normal.n >= fewRequests && s.contradicts(&t.normal) {
				factor = 0
				t.forget()
			}
		}
		if factor > 0 {
			s.merge(t.normal.buckets, factor)
		}
		t.normal.buckets, t.normal.n = s.buckets, s.n
	}
	if len(s.values) > 0 {
		old := t.normal.values
		if len(old) > 0 && s.mean().differs(t.normal.mean()) {
			old = nil
			t.forget()
		}
		t.normal.values = append(append([]float64(nil), old[max(0, len(old)-4*len(s.values)):]...), s.values...)
	}
	t.normal.idle = t.normal.idle || s.idle
}

func (s *sample) contradicts(o *sample) bool {
	for _, q := range compared(min(s.n, o.n)) {
		if s.quantile(q).differs(o.quantile(q)) {
			return true
		}
	}
	return false
}

// judgement compares a signal with what is normal. Strain is how much of the
// allowed rise is used: 0 none, 1 all.
type judgement struct {
	t             *tracker
	value, normal float64
	allowed       float64
	quantile      float64
	strain        estimate // of the tail, but least and most of any quantile
	noise         float64  // standard deviation of strain.value
	known         bool     // there was enough to compare
	few           bool     // there were requests, but too few
	foreign       bool     // nothing is known of how it is without the transfer
}

// hurt tells that this is more than noise and more than what is allowed.
func (j judgement) hurt() bool { return j.known && j.strain.least > 1 }

// outdated tells that production is faster than without the transfer: what is normal has changed.
func (j judgement) outdated() bool { return j.known && j.strain.most < -aim }

// judge compares a sample of the present condition with what is normal.
func (t *tracker) judge(s sample) judgement {
	j := judgement{t: t}
	switch {
	case s.n >= fewRequests && t.normal.n >= fewRequests:
		j = t.judgeTail(&s)
	case s.n > 0:
		j.foreign, j.few = s.n >= fewRequests, s.n < fewRequests
	case len(s.values) > 0 && (len(t.normal.values) > 0 || t.normal.idle):
		is, was := s.mean(), estimate{}
		if len(t.normal.values) > 0 {
			was = t.normal.mean()
		} // else a disk that nobody used
		j.strain, j.allowed = t.strain(is, was)
		j.value, j.normal, j.known = is.value, was.value, true
		j.noise = (j.strain.high - j.strain.low) / 2
	}
	return j
}

// judgeTail compares two distributions. The strain is the mean of that of the tail
// and of p90, which has half the noise; a transfer that slows only the tail is
// still held below what is allowed, since the aim is half of that. Least and most are those of any quantile.
func (t *tracker) judgeTail(s *sample) judgement {
	j := judgement{t: t, known: true}
	tails := 0.0
	for i, q := range compared(min(s.n, t.normal.n)) {
		is, was := s.quantile(q), t.normal.quantile(q)
		e, allowed := t.strain(is, was)
		if i == 0 {
			j.value, j.normal, j.allowed, j.quantile = is.value, was.value, allowed, q
			j.strain.least, j.strain.most = e.least, e.most
		}
		j.strain.least, j.strain.most = max(j.strain.least, e.least), min(j.strain.most, e.most)
		if i > 0 && q < 0.9 {
			continue
		}
		tails++
		j.strain.low, j.strain.value, j.strain.high = j.strain.low+e.low, j.strain.value+e.value, j.strain.high+e.high
		// Told by what is normal alone: a sample that is high by chance looks noisier
		// too, and would count for less than one that is low by chance.
		j.noise += (was.high - was.low) / 2 / max(allowed-was.value, 1e-9) * math.Sqrt(1+t.normal.n/s.n)
	}
	j.strain.low, j.strain.value, j.strain.high, j.noise = j.strain.low/tails, j.strain.value/tails, j.strain.high/tails, j.noise/tails
	return j
}

// strain is how much of the allowed rise lies between two estimates.
func (t *tracker) strain(is, was estimate) (strain estimate, allowed float64) {
	allowed = was.value + max(was.value*t.Rise, t.Slack)
	if t.Limit > 0 {
		allowed = min(allowed, t.Limit)
	}
	room := max(allowed-was.value, 1e-9)
	return estimate{
		(is.least - was.most) / room, (is.low - was.high) / room, (is.value - was.value) / room,
		(is.high - was.low) / room, (is.most - was.least) / room,
	}, allowed
}

// overLimit tells whether what is normal is above part of the absolute limit.
func (t *tracker) overLimit(part float64) bool {
	return t.Limit > 0 && t.level() >= part*t.Limit // false if nothing is known
}

// level is what is normal in one number, NaN if not known.
func (t *tracker) level() float64 {
	switch {
	case t.normal.n >= fewRequests:
		return t.normal.quantile(tailOf(t.normal.n)).value
	case len(t.normal.values) > 0:
		return t.normal.mean().value
	}
	return math.NaN()
}

// age is how long ago the last reading ended; one from the future proves nothing.
func (t *tracker) age(now, started time.Time) time.Duration {
	if !t.known || t.last.At.After(now.Add(time.Second)) {
		return now.Sub(started)
	}
	return max(now.Sub(t.last.At), 0)
}
