package regulate

import (
	"math"
	"time"
)

// phase is what the regulator is at:
//
//	listening ──learnt──▶ working ──time for a pause, or in doubt──▶ listening
//	    │ hurt at the smallest share, or over a limit without us
//	    ▼
//	 resting ──time is over, or production is better──▶ listening or working
//
// From each of them a stale signal leads to blind, and a person to held; both lead
// back to listening.
type phase int

const (
	listening phase = iota // stopped for a moment, to learn
	working
	resting // stopped (or at the floor), because production does not bear more
	blind   // stopped, because a signal is stale
	held    // stopped by a person
)

const (
	minShare = 1. / 64

	listenMin   = 2 * time.Second // of readings, after the settling
	listenMax   = 6 * time.Second
	listenEvery = 30 * time.Second
	listenRatio = 9 // a pause of 1 s is followed by at least 9 s of work (LEDBAT++)

	epochMin = 2 * time.Second // between two changes of the share
	epochMax = 6 * time.Second
	epochFew = time.Minute // so few requests in this time that nobody can be hurt

	restMin  = 5 * time.Second
	restMax  = 2 * time.Minute
	restLook = 10 * time.Second // how often a rest is used to learn

	hurtMemory = 10 * time.Minute // how long a share that hurt is approached with care
	wakeBelow  = 0.8              // of the latency when the rest began: try again at once
	limitBelow = 0.9              // of a limit: no longer overloaded
)

// enter begins a phase, or a new epoch of the same.
func (r *Regulator) enter(p phase, now time.Time) {
	if p == working {
		r.share = max(r.share, minShare)
	}
	r.phase, r.since = p, now
	r.begin(now.Add(r.settle))
}

// begin makes readings count from a moment on.
func (r *Regulator) begin(measure time.Time) {
	r.measure, r.worked = measure, 0
	for _, t := range r.trackers {
		t.restart()
	}
}

// advance moves the phase on, and returns how each signal is judged.
func (r *Regulator) advance(now time.Time) []judgement {
	switch {
	case r.paused != nil:
		if r.phase != held {
			r.enter(held, now)
			r.doubted = nil
			r.forgetRuns()
		}
		r.learnNow(now)
	case r.staleNow(now) != nil:
		if r.phase != blind {
			r.enter(blind, now)
			r.share, r.doubted = minShare, nil // after blind time nothing is assumed
			r.forgetRuns()
		}
	case r.phase == held || r.phase == blind:
		r.enter(listening, now)
	}
	judged := r.judge()
	switch r.phase {
	case listening:
		r.listen(now)
	case working:
		r.work(now, judged)
	case resting:
		r.restOn(now)
	}
	return judged
}

func (r *Regulator) staleNow(now time.Time) *tracker {
	var worst *tracker
	for _, t := range r.trackers {
		if age := t.age(now, r.started); age > Stale && (worst == nil || age > worst.age(now, r.started)) {
			worst = t
		}
	}
	return worst
}

func (r *Regulator) judge() []judgement {
	judged := make([]judgement, len(r.trackers))
	for i, t := range r.trackers {
		judged[i] = judgement{t: t}
		if r.phase == working {
			judged[i] = t.judge(t.sample())
		}
	}
	return judged
}

// heard tells whether every signal had a reading under the present condition, and whether
// these hold enough requests to go on before the time is up.
func (r *Regulator) heard() (all, plenty bool) {
	all, plenty = true, true
	for _, t := range r.trackers {
		s := t.sample()
		if s.empty() {
			all = false
		}
		if s.n > 0 && s.n < enough || len(s.values) == 1 {
			plenty = false
		}
	}
	return all, plenty
}

// unheard is a signal without a reading under the present condition.
func (r *Regulator) unheard() *tracker {
	for _, t := range r.trackers {
		if s := t.sample(); s.empty() {
			return t
		}
	}
	return nil
}

func (r *Regulator) plenty() bool {
	_, plenty := r.heard()
	return plenty
}

// listen waits until enough is known of production without the transfer.
func (r *Regulator) listen(now time.Time) {
	all, plenty := r.heard()
	took := now.Sub(r.measure)
	if !all || took < listenMin || !plenty && took < listenMax {
		return // a signal that never speaks becomes stale
	}
	r.learn()
	r.pause, r.listened = now.Sub(r.since), now
	r.decide(now)
}

// learn takes the present readings as what is normal without the transfer.
func (r *Regulator) learn() {
	for _, t := range r.trackers {
		t.learn(t.sample())
	}
}

// learnNow learns during a long stop, from time to time.
func (r *Regulator) learnNow(now time.Time) bool {
	if all, _ := r.heard(); !all || now.Sub(r.measure) < restLook {
		return false
	}
	r.learn()
	r.begin(now)
	return true
}

// decide ends a pause: was it the transfer that hurt production, or is production slow without it too?
func (r *Regulator) decide(now time.Time) {
	doubted := r.doubted
	r.doubted = nil
	if over := r.overloaded(1); over != nil {
		r.goRest(now, over.overText())
		return
	}
	for _, d := range doubted {
		if j := d.t.judge(d.seen); j.known && j.strain.low > 1 {
			r.hurt(now, d.share, j)
			return
		}
	}
	if r.better() {
		r.hurtAt = 1
	}
	worked := r.worked
	r.enter(working, now)
	if len(doubted) > 0 {
		r.forgetRuns()
		return
	}
	r.worked = worked
	for _, t := range r.trackers {
		t.current, t.stash = t.stash, sample{}
	}
}

func (r *Regulator) forgetRuns() {
	for _, t := range r.trackers {
		t.forget()
	}
}

// overloaded is a signal that is over part of its limit without the transfer.
func (r *Regulator) overloaded(part float64) *tracker {
	for _, t := range r.trackers {
		if t.overLimit(part) {
			return t
		}
	}
	return nil
}

// hurt cuts the share by half; at the smallest, the transfer rests, each time twice as long.
func (r *Regulator) hurt(now time.Time, share float64, j judgement) {
	text := j.text()
	r.forgetRuns()
	r.hurtAt, r.forget, r.growing = share, now.Add(hurtMemory), false
	r.remember()
	if share > minShare {
		r.share = max(share/2, minShare)
		r.because = text + " at " + percent(share)
		r.enter(working, now)
		return
	}
	r.rest = min(max(2*r.rest, restMin), restMax)
	r.goRest(now, text+" even at "+percent(share))
}

func (r *Regulator) goRest(now time.Time, why string) {
	r.share, r.because = minShare, why
	r.forgetRuns()
	r.until, r.growing = now.Add(r.rest), false
	r.remember()
	r.enter(resting, now)
}

// remember keeps what is normal, to see later whether production became better.
func (r *Regulator) remember() {
	r.levels = r.levels[:0]
	for _, t := range r.trackers {
		r.levels = append(r.levels, t.level())
	}
}

// restOn ends a rest when its time is over, or as soon as production is clearly
// better than when it began. Over a limit, only the latter ends it.
func (r *Regulator) restOn(now time.Time) {
	if r.floor > 0 {
		// What is seen at the floor is not production without the transfer.
		if !now.Before(r.until) && now.Sub(r.since) >= restMin {
			r.enter(listening, now)
		}
		return
	}
	if !r.learnNow(now) {
		return
	}
	if over := r.overloaded(limitBelow); over != nil {
		r.because = over.overText()
		return
	}
	better := r.better()
	if better {
		r.hurtAt = 1
	}
	if better || !now.Before(r.until) {
		r.listened = now
		r.enter(working, now)
	}
}

// better tells whether production became better since it was hurt last.
func (r *Regulator) better() bool {
	for i, level := range r.levels {
		if r.trackers[i].level() < wakeBelow*level {
			return true
		}
	}
	return false
}

// work changes the share by what is seen under it.
func (r *Regulator) work(now time.Time, judged []judgement) {
	if now.After(r.forget) {
		r.hurtAt, r.forget = min(2*r.hurtAt, 1), now.Add(hurtMemory)
	}
	var doubted []doubt
	worst, long, outdated := judged[0], epochMax, false
	for _, j := range judged {
		if seen := j.t.longer(); j.foreign || j.hurt() || j.t.judge(seen).hurt() {
			if j.hurt() {
				seen = j.t.sample()
			}
			doubted = append(doubted, doubt{j.t, seen, r.share})
		}
		if j.strain.value > worst.strain.value {
			worst = j
		}
		if j.few {
			long = epochFew
		}
		outdated = outdated || j.outdated()
	}
	if len(doubted) > 0 {
		r.doubted = doubted
		r.enter(listening, now)
		return
	}
	all, _ := r.heard()
	if took := r.worked + now.Sub(r.measure); all && (took >= long || took >= epochMin && r.plenty()) {
		r.turn(now, worst)
	}
	if r.phase == working && (outdated || now.Sub(r.listened) >= max(listenEvery, listenRatio*r.pause)) {
		r.listenAgain(now)
	}
}

// listenAgain makes a pause; what was seen under the present share is kept for after it.
func (r *Regulator) listenAgain(now time.Time) {
	for _, t := range r.trackers {
		t.stash = t.sample()
	}
	worked := r.worked + max(now.Sub(r.measure), 0)
	r.enter(listening, now)
	r.worked = worked
}

const (
	aim      = 0.5 // the part of the allowed rise that is meant to be used
	gain     = 0.5 // of the share's logarithm, in one epoch without noise
	restFrom = 0.5 * minShare
	runKept  = 0.8 // of earlier epochs, from each to the next
	runReach = 1.5 // a run ends when the share has changed by this factor
)

// turn sets the share by the strain under the present one. The share's logarithm
// moves in proportion to the distance from the aim, and the less the noisier the
// measurement is: what noise moves up in one epoch it moves down in another, and the sum follows
// what is true. Far below any share that hurt, it doubles unless there is evidence against it.
func (r *Regulator) turn(now time.Time, worst judgement) {
	old := r.share
	room := min(max(1-worst.strain.value/aim, -3), 2)
	if !worst.known {
		room = 1 // nobody there to be hurt
	}
	longer := worst.t.judge(worst.t.longer())
	free := r.hurtAt == 1 || 4*r.share <= r.hurtAt
	switch {
	case free && room > 0 && worst.strain.low <= aim:
		r.share *= math.Exp2(min(room, 1))
	case old == 1 && longer.known && longer.strain.low <= aim: // no evidence against full speed
	default:
		r.share *= math.Exp(room * gain / (1 + 4*worst.noise*worst.noise))
	}
	r.share = min(r.share, 1)
	if r.growing = r.share > old; r.share < old {
		r.because = worst.text() + " at " + percent(old)
	}
	if r.share < restFrom {
		r.hurt(now, minShare, worst)
		return
	}
	if r.share == 1 {
		r.because = ""
	}
	if r.share > 2*minShare {
		r.rest = 0 // production bears more than the least
	}
	r.keepRun()
	r.begin(now)
	if r.share != old {
		r.begin(now.Add(r.settle))
	}
}

// keepRun adds the epoch to the run, or begins another if the share is too different.
func (r *Regulator) keepRun() {
	fresh := r.share > r.ran*runReach || r.share < r.ran/runReach
	if fresh {
		r.ran = r.share
	}
	for _, t := range r.trackers {
		s := t.sample()
		if fresh {
			t.run = sample{}
			continue
		}
		s.merge(t.run.buckets, runKept)
		s.values = append(s.values, t.run.values...)
		s.values = s.values[:min(len(s.values), 16)]
		t.run = s
	}
}
