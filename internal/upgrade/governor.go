package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/control"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/snapshot"
	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/regulate"
)

// governor drives the regulator while something is copied: it measures what
// production feels, asks the regulator, and turns the rates of the copies. Other
// terminals reach it through its socket.
type governor struct {
	e     *Engine
	reg   *regulate.Regulator
	sense []sensor
	flows *rowFlows // may be nil

	pull  *snapshot.Rate
	files *guestagent.Rate

	turning sync.Mutex // held while rates are turned
	free    bool       // under turning: nothing is held back any more, clients wait

	mu      sync.Mutex
	verdict regulate.Verdict

	server *control.Server
	stop   context.CancelFunc
	wg     sync.WaitGroup
	errs   []error
}

// Tuning is what a person changed about the copies of a run; it outlives the
// process that copies. Zero values are no bound.
type Tuning struct {
	Limits regulate.Limits `json:"limits"`
	Paused bool            `json:"paused"`
	Who    string          `json:"who,omitempty"`
}

const evidenceTuning = "tuning"

// governEvery is how often production is looked at.
const governEvery = time.Second

// govern starts a governor; close ends it. flows may be nil.
func (e *Engine) govern(ctx context.Context, domains map[string]*hypervisor.Domain, flows *rowFlows) (*governor, error) {
	g := &governor{e: e, flows: flows, pull: snapshot.NewRate(uint64(e.plan.Limits.PullRate)), files: guestagent.NewRate(int64(e.plan.Limits.CopyRate))}
	var tuned Tuning
	if _, err := e.get(ctx, evidenceTuning, &tuned); err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.stop = stop
	cfg := regulate.Config{Limits: e.bounds(tuned.Limits), Start: startShare(e.plan.Limits), Full: regulate.Rates{
		RowsPerSecond: fullRows, BytesPerSecond: int64(e.plan.Limits.CopyRate), PullRate: int64(e.plan.Limits.PullRate)}}
	var err error
	if g.sense, cfg.LeftOut, err = e.sensors(run, domains); err != nil {
		stop()
		return nil, err
	}
	for _, s := range g.sense {
		cfg.Signals = append(cfg.Signals, s.signal())
	}
	if len(g.sense) > 0 {
		if g.reg, err = regulate.New(cfg); err != nil {
			return nil, errors.Join(err, g.close())
		}
		if tuned.Paused {
			g.reg.Pause(time.Now(), tuned.Who, "imago pause")
		}
	}
	g.turn()
	if g.server, err = control.Serve(e.n.control(), g.calls()); err != nil {
		return nil, errors.Join(err, g.close())
	}
	g.wg.Go(func() { g.run(run) })
	if g.reg != nil {
		for _, s := range g.sense {
			g.wg.Go(func() { g.measure(run, s) })
		}
	}
	return g, nil
}

// fullRows is about how many rows per second a server takes in at most. A slower
// one makes the regulator's smallest shares mean more, which it finds out by what
// they do to production.
const fullRows = 200_000

// startShare is the part of the full rate to begin with: the twentieth where
// clients' latency may rise by a fifth, and more where the plan allows more.
func startShare(l plan.Limits) float64 {
	if l.LatencyRise == 0 {
		return 0.25
	}
	return min(float64(l.LatencyRise)/400, 1)
}

// bounds are a person's limits, where they are lower than the plan's.
func (e *Engine) bounds(l regulate.Limits) regulate.Limits {
	lower := func(a, b int64) int64 {
		if a == 0 {
			return b
		}
		return min(a, b)
	}
	l.BytesPerSecond = lower(l.BytesPerSecond, int64(e.plan.Limits.CopyRate))
	l.PullRate = lower(l.PullRate, int64(e.plan.Limits.PullRate))
	return l
}

// control is the socket of the imago at work on this run.
func (n names) control() string { return filepath.Join(n.sockets(), "control.sock") }

// close ends the governor. What it slowed down is not its business any more.
func (g *governor) close() error {
	g.stop()
	g.wg.Wait()
	if g.server != nil {
		g.errs = append(g.errs, g.server.Close())
	}
	for _, s := range g.sense {
		g.errs = append(g.errs, s.close())
	}
	return errors.Join(g.errs...)
}

// release lets everything run as fast as it can: while clients wait, the copy is
// what production waits for.
func (g *governor) release() {
	g.turning.Lock()
	defer g.turning.Unlock()
	g.free = true
	g.apply(regulate.Rates{RowsPerSecond: -1, BytesPerSecond: -1, PullRate: -1})
}

func (g *governor) run(ctx context.Context) {
	tick := time.NewTicker(governEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.turn()
		case <-ctx.Done():
			return
		}
	}
}

// measure reads one sensor again and again. Each has a goroutine of its own: one
// that hangs must age, and not keep the others' verdict from being given.
func (g *governor) measure(ctx context.Context, s sensor) {
	tick := time.NewTicker(governEvery)
	defer tick.Stop()
	for {
		g.mu.Lock()
		since := g.verdict.Measure
		g.mu.Unlock()
		reading, err := s.read(since)
		if err != nil {
			err = g.reg.Failed(s.signal().Name, err)
		} else {
			err = g.reg.Observe(s.signal().Name, reading)
		}
		if err != nil {
			g.e.log.Warn("a signal of production cannot be used", "signal", s.signal().Name, "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// turn asks the regulator once and turns the rates.
func (g *governor) turn() {
	g.turning.Lock()
	defer g.turning.Unlock()
	if g.reg == nil || g.free {
		return // nothing is looked at, or nothing is held back any more
	}
	v := g.reg.Step(time.Now())
	g.mu.Lock()
	last := g.verdict
	g.verdict = v
	g.mu.Unlock()
	if v.State != last.State {
		g.e.log.Info("transfer", "state", v.State, "share", v.Share, "reason", v.Reason)
		if v.State != regulate.Listening && last.State != regulate.Listening || v.State == regulate.Stopped {
			g.e.see.step("transfer: " + v.Reason)
		}
	}
	g.apply(v.Rates)
}

func (g *governor) apply(r regulate.Rates) {
	if g.flows != nil {
		for _, f := range g.flows.flows {
			if err := f.agent.SetRate(r.RowsPerSecond, r.BytesPerSecond); err != nil {
				g.e.log.Warn("the rate of a data set could not be set", "set", f.set.Name, "error", err)
			}
		}
	}
	g.files.Set(r.BytesPerSecond)
	switch {
	case r.PullRate < 0:
		g.pull.Set(0) // as fast as possible
	case r.PullRate == 0:
		g.pull.Set(crawl)
	default:
		g.pull.Set(uint64(r.PullRate))
	}
}

// crawl stands for a stop where the hypervisor knows none: its zero is no bound.
const crawl = 1024

// Live is what the imago at work says of itself.
type Live struct {
	Verdict regulate.Verdict          `json:"verdict"`
	Limits  regulate.Limits           `json:"limits"`
	Changes []regulate.Change         `json:"changes,omitempty"`
	Sets    map[string]apply.Progress `json:"sets,omitempty"`
	Lag     map[string]float64        `json:"lag_seconds,omitempty"`
}

func (g *governor) live() Live {
	g.mu.Lock()
	l := Live{Verdict: g.verdict, Sets: map[string]apply.Progress{}, Lag: map[string]float64{}}
	g.mu.Unlock()
	if g.reg != nil {
		l.Limits, l.Changes = g.reg.Limits(), g.reg.Changes()
	} else {
		l.Verdict.Reason = "the plan looks at no signal of production: only its own rates hold"
	}
	if g.flows != nil {
		for _, f := range g.flows.flows {
			p, _ := f.agent.Progress()
			l.Sets[f.set.Name] = p
			l.Lag[f.set.Name] = f.lag().Seconds()
		}
	}
	return l
}

// calls are what other terminals may ask.
func (g *governor) calls() map[string]control.Call {
	return map[string]control.Call{
		"live": func(context.Context, json.RawMessage) (any, error) { return g.live(), nil },
		"tune": func(_ context.Context, body json.RawMessage) (any, error) {
			var t Tuning
			if err := json.Unmarshal(body, &t); err != nil {
				return nil, fmt.Errorf("read the limits: %w", err)
			}
			return g.live(), g.tune(t)
		},
		"rejected": func(ctx context.Context, _ json.RawMessage) (any, error) { return g.rejected(ctx) },
		"retry": func(ctx context.Context, _ json.RawMessage) (any, error) {
			return nil, g.eachFlow(func(f *rowFlow) error { return f.agent.Retry(ctx) })
		},
	}
}

func (g *governor) tune(t Tuning) error {
	if g.reg == nil {
		return errors.New("the plan looks at no signal of production (limits.latency_rise and limits.io_pressure are 0), so there is no regulator to tune")
	}
	now := time.Now()
	if err := g.reg.SetLimits(now, g.e.bounds(t.Limits), t.Who, "imago tune"); err != nil {
		return err
	}
	if t.Paused {
		g.reg.Pause(now, t.Who, "imago pause")
	} else {
		g.reg.Resume(now, t.Who, "imago resume")
	}
	g.turn()
	return nil
}

func (g *governor) rejected(ctx context.Context) (map[string][]apply.Rejected, error) {
	all := map[string][]apply.Rejected{}
	err := g.eachFlow(func(f *rowFlow) error {
		list, err := f.agent.Rejected(ctx)
		all[f.set.Name] = list
		return err
	})
	return all, err
}

func (g *governor) eachFlow(act func(*rowFlow) error) error {
	if g.flows == nil {
		return errors.New("no rows flow now")
	}
	for _, f := range g.flows.flows {
		if err := act(f); err != nil {
			return fmt.Errorf("data set %s: %w", f.set.Name, err)
		}
	}
	return nil
}
