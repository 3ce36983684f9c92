package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/netswitch"
	"imago.dev/imago/transfer/regulate"
)

// sensor is one measurement of production that the regulator judges.
type sensor interface {
	signal() regulate.Signal
	// read measures since an instant, or a little longer.
	read(since time.Time) (regulate.Reading, error)
	close() error
}

// sensors opens what the plan looks at. What this host cannot measure is left
// out, and the reason is repeated with every verdict.
func (e *Engine) sensors(ctx context.Context, domains map[string]*hypervisor.Domain) ([]sensor, []regulate.LeftOut, error) {
	var list []sensor
	var out []regulate.LeftOut
	limits := e.plan.Limits
	if limits.LatencyRise > 0 {
		s, err := e.latencySensor(ctx, domains)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, s)
	} else {
		out = append(out, regulate.LeftOut{Name: "clients' latency", Why: "limits.latency_rise is 0"})
	}
	if limits.IOPressure > 0 {
		s := &pressureSensor{limit: float64(limits.IOPressure)}
		_, err := hypervisor.HostPressure(ctx)
		switch {
		case errors.Is(err, hypervisor.ErrNoPressure):
			out = append(out, regulate.LeftOut{Name: s.signal().Name, Why: err.Error()})
		case err != nil:
			return nil, nil, errors.Join(err, closeAll(list))
		default:
			list = append(list, s)
		}
		for name, dom := range domains {
			list = append(list, &blockSensor{ctx: ctx, name: name, dom: dom, rise: max(1, float64(limits.LatencyRise)/100)})
		}
	} else {
		out = append(out, regulate.LeftOut{Name: "pressure and block latency", Why: "limits.io_pressure is 0"})
	}
	return list, out, nil
}

func closeAll(list []sensor) error {
	var errs []error
	for _, s := range list {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// latencySensor measures what clients feel, from the packets at the taps of the
// production VMs.
type latencySensor struct {
	probe *netswitch.LatencyProbe
	rise  float64
}

func (e *Engine) latencySensor(ctx context.Context, domains map[string]*hypervisor.Domain) (sensor, error) {
	spec := netswitch.LatencySpec{Log: e.log}
	for _, dom := range domains {
		doc, err := dom.Describe(ctx)
		if err != nil {
			return nil, err
		}
		if doc.Devices == nil {
			continue
		}
		for _, nic := range doc.Devices.Interfaces {
			if nic.Target != nil && nic.Target.Dev != "" {
				spec.Interfaces = append(spec.Interfaces, nic.Target.Dev)
			}
		}
	}
	seen := map[netip.AddrPort]bool{}
	for _, s := range e.plan.Services {
		if !seen[s.Old] {
			seen[s.Old] = true
			spec.Backends = append(spec.Backends, s.Old)
		}
	}
	probe, err := netswitch.WatchLatency(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("watch the clients' latency: %w; limits.latency_rise: 0 does without", err)
	}
	return &latencySensor{probe, float64(e.plan.Limits.LatencyRise) / 100}, nil
}

func (s *latencySensor) signal() regulate.Signal {
	return regulate.Signal{Name: "clients' latency", Unit: "ms", Rise: s.rise, Slack: 2}
}

func (s *latencySensor) read(since time.Time) (regulate.Reading, error) {
	if err := s.probe.Err(); err != nil {
		return regulate.Reading{}, err
	}
	w := s.probe.Window()
	if !since.IsZero() {
		w = s.probe.Since(since)
	}
	r := regulate.Reading{From: w.From, At: w.At, Idle: w.Requests == 0 && w.Waiting == 0}
	for _, b := range w.Buckets {
		r.Buckets = append(r.Buckets, regulate.Bucket{Value: millis(b.Latency), Count: b.Count})
	}
	return r, nil
}

func (s *latencySensor) close() error { return s.probe.Close() }

// pressureSensor reads for how much of the time tasks on this host waited for
// disks.
type pressureSensor struct {
	limit float64
	last  hypervisor.Pressure
}

func (s *pressureSensor) signal() regulate.Signal {
	return regulate.Signal{Name: "I/O pressure", Unit: "%", Slack: s.limit / 2, Limit: s.limit}
}

func (s *pressureSensor) read(time.Time) (regulate.Reading, error) {
	now, err := hypervisor.HostPressure(context.Background())
	if err != nil {
		return regulate.Reading{}, err
	}
	before := s.last
	s.last = now
	if before.At.IsZero() {
		return regulate.Reading{From: now.At, At: now.At, Value: now.IO.Some.Avg10}, nil
	}
	return regulate.Reading{From: before.At, At: now.At, Value: now.IO.Some.Since(before.IO.Some, now.At.Sub(before.At))}, nil
}

func (s *pressureSensor) close() error { return nil }

// blockSensor reads what requests to one production VM's disks take.
type blockSensor struct {
	ctx  context.Context
	name string
	dom  *hypervisor.Domain
	rise float64
	last hypervisor.BlockCounters
}

func (s *blockSensor) signal() regulate.Signal {
	return regulate.Signal{Name: "disk latency of " + s.name, Unit: "ms", Rise: s.rise, Slack: 20}
}

func (s *blockSensor) read(time.Time) (regulate.Reading, error) {
	disks, err := s.dom.BlockLatency(s.ctx, &s.last)
	if err != nil {
		return regulate.Reading{}, err
	}
	now := time.Now()
	r := regulate.Reading{From: now, At: now, Idle: true}
	for _, d := range disks {
		r.From, r.At = d.From, d.At
		if !d.Idle() {
			r.Idle = false
			r.Value = max(r.Value, millis(d.Mean))
		}
	}
	return r, nil
}

func (s *blockSensor) close() error { return nil }
