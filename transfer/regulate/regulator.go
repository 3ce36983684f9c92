package regulate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// Config is what a [Regulator] starts with.
type Config struct {
	Signals []Signal  // all that are asked for; at least one
	LeftOut []LeftOut // signals that it does without, and why
	Limits  Limits
	// Full is a guess of what the machine can do: the rates at share 1 until
	// [Regulator.Achieved] has told better.
	Full Rates
	// Floor is the share that is kept up although production suffers; 0, the
	// default, is none. It does not hold when a signal is stale or a person paused.
	Floor float64
	// Start is the share to begin with; 0 is the smallest. A plan that allows much
	// may begin boldly. After blind time it is the smallest in any case.
	Start float64
	// Settle is how long after a change of the share the old one is still felt
	// (requests in flight, caches written back); 500 ms by default.
	Settle time.Duration
}

func (c Config) check() error {
	var errs []error
	names := map[string]bool{}
	for _, s := range c.Signals {
		errs = append(errs, s.check())
		if names[s.Name] {
			errs = append(errs, fmt.Errorf("signal %q is there twice", s.Name))
		}
		names[s.Name] = true
	}
	for _, l := range c.LeftOut {
		if l.Why == "" {
			errs = append(errs, fmt.Errorf("signal %q is left out without a reason", l.Name))
		}
	}
	if len(c.Signals) == 0 {
		errs = append(errs, errors.New("without any signal nothing would be regulated"))
	}
	if !(c.Floor >= 0 && c.Floor <= 1) {
		errs = append(errs, fmt.Errorf("the floor must be a share from 0 to 1, got %v", c.Floor))
	}
	if c.Full.RowsPerSecond <= 0 || c.Full.BytesPerSecond <= 0 || c.Full.PullRate <= 0 {
		errs = append(errs, fmt.Errorf("the full rates must be above 0, got %+v", c.Full))
	}
	return errors.Join(append(errs, c.Limits.check())...)
}

// Regulator turns signals into a share of the full rate. Its methods may be called
// from any goroutine.
type Regulator struct {
	// mu guards all below.
	mu       sync.Mutex
	trackers []*tracker
	leftOut  []LeftOut
	floor    float64
	settle   time.Duration
	rates    rateBook
	changes  []Change
	paused   *Change

	started  time.Time // first step
	phase    phase
	since    time.Time // beginning of the phase
	measure  time.Time // what began before does not belong to the present condition
	until    time.Time // of a rest: its end
	listened time.Time // end of the last pause
	pause    time.Duration
	worked   time.Duration // under the present share, before the last pause

	share   float64 // that holds, or will hold after the pause
	ran     float64 // the share when the trackers' runs began
	hurtAt  float64 // the share at which production was hurt last; 1 if it never was
	forget  time.Time
	rest    time.Duration // the last rest's length
	doubted []doubt       // why the transfer stopped to listen, if it did in doubt
	because string        // why the share is below 1
	growing bool          // the share's last change was up
	levels  []float64     // what was normal when production was hurt last
}

// doubt is a signal that looked hurt, with what was seen.
type doubt struct {
	t     *tracker
	seen  sample
	share float64
}

// New makes a regulator. It stays closed until it has listened to production.
func New(c Config) (*Regulator, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("set up the regulator: %w", err)
	}
	r := &Regulator{
		leftOut: slices.Clone(c.LeftOut), floor: c.Floor, settle: c.Settle,
		rates: rateBook{limits: c.Limits, full: c.Full}, share: min(max(c.Start, minShare), 1), hurtAt: 1,
	}
	if r.settle <= 0 {
		r.settle = 500 * time.Millisecond
	}
	for _, s := range c.Signals {
		r.trackers = append(r.trackers, &tracker{Signal: s})
	}
	return r, nil
}

func (r *Regulator) tracker(name string) (*tracker, error) {
	for _, t := range r.trackers {
		if t.Name == name {
			return t, nil
		}
	}
	return nil, fmt.Errorf("there is no signal %q", name)
}

// Observe takes a reading of the named signal. An impossible one is refused, and
// changes nothing: the signal ages.
func (r *Regulator) Observe(signal string, rd Reading) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, err := r.tracker(signal)
	if err != nil {
		return err
	}
	if err := rd.check(); err != nil {
		t.err = err
		return fmt.Errorf("reading of %s: %w", signal, err)
	}
	rd.Buckets = slices.Clone(rd.Buckets)
	t.observe(rd, r.measure)
	return nil
}

// Failed notes that the signal could not be read. It ages until it can be again.
func (r *Regulator) Failed(signal string, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, terr := r.tracker(signal)
	if terr != nil {
		return terr
	}
	t.err = err
	return nil
}

// Achieved tells how fast the transfer was since the last verdict. Call it only
// while there is enough to do, or a lack of work is taken for a slow machine.
func (r *Regulator) Achieved(got Rates) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase == working {
		r.rates.achieved(got, r.share)
	}
}

// Step decides what holds from now on. Call it about once a second; now must not go back.
func (r *Regulator) Step(now time.Time) Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started.IsZero() {
		r.started, r.listened = now, now
		r.enter(listening, now)
	}
	v := Verdict{At: now, LeftOut: r.leftOut}
	judged := r.advance(now)
	v.State, v.Share, v.Reason = r.say(now, judged)
	v.Rates = r.rates.at(v.Share)
	v.Measure = r.measure
	for i, t := range r.trackers {
		v.Signals = append(v.Signals, t.state(judged[i], now, r.started))
	}
	if r.paused == nil && v.State != Stopped {
		v.Reason += r.limited()
	}
	for _, l := range r.leftOut {
		v.Reason += fmt.Sprintf("; without %s: %s", l.Name, l.Why)
	}
	return v
}

// limited repeats who set limits.
func (r *Regulator) limited() string {
	l := r.rates.limits.String()
	if l == "" {
		return ""
	}
	for _, c := range slices.Backward(r.changes) {
		if c.limits {
			return fmt.Sprintf("; limited to %s by %s%s", l, c.Who, because(c.Why))
		}
	}
	return "; limited to " + l + " by the plan"
}

func (t *tracker) state(j judgement, now, started time.Time) SignalState {
	s := SignalState{
		Name: t.Name, Unit: t.Unit, Value: j.value, Baseline: j.normal, Allowed: j.allowed, Quantile: j.quantile,
		Known: t.known, Idle: t.known && t.last.Idle, Age: t.age(now, started),
	}
	if level := t.level(); !j.known && !math.IsNaN(level) {
		s.Baseline = level
	}
	if t.err != nil {
		s.Error = t.err.Error()
	}
	return s
}

// SetLimits replaces the manual limits, from the next step on.
func (r *Regulator) SetLimits(now time.Time, l Limits, who, why string) error {
	if err := l.check(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rates.limits = l
	what := "limits: none"
	if text := l.String(); text != "" {
		what = "limits: " + text
	}
	r.changes = append(r.changes, Change{At: now, Who: who, Why: why, What: what, limits: true})
	return nil
}

// Limits are the manual limits in force.
func (r *Regulator) Limits() Limits {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rates.limits
}

// Pause stops the transfer until [Regulator.Resume]; a second one changes only who and why.
func (r *Regulator) Pause(now time.Time, who, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := Change{At: now, Who: who, Why: why, What: "paused"}
	r.changes = append(r.changes, c)
	r.paused = &c
}

// Resume ends a pause; without one it does nothing.
func (r *Regulator) Resume(now time.Time, who, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused == nil {
		return
	}
	r.paused = nil
	r.changes = append(r.changes, Change{At: now, Who: who, Why: why, What: "resumed"})
}

// Changes lists what persons changed, oldest first.
func (r *Regulator) Changes() []Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.changes)
}
