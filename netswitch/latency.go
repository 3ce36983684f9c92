package netswitch

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const (
	latencyPoll  = time.Second // how often interfaces and flows are looked after
	latencyAlive = 5 * time.Second
)

// LatencySpec says where production's clients are watched.
//
// A frame that goes from one port of a bridge to another is never seen on the
// bridge device itself, only on the ports; one that the host routes there (from a
// client, after its DNAT) is seen on the bridge and on the port. So the ports are
// what is watched: the tap devices of production's VMs. A frame seen on two of
// them counts once.
type LatencySpec struct {
	Interfaces []string // tap devices of the VMs that hold the Backends; all of them must be there
	// Bridge stands for all of its ports, as they come and go, for when the taps
	// are not known. Never give the universe's: its VMs have the same addresses.
	Bridge   string
	Backends []netip.AddrPort // where production's services listen, as their VM sees it
	Log      *slog.Logger
}

// LatencyProbe measures what clients of production wait, from packets that pass
// anyway: per TCP connection, from the first segment of a request (the first
// that the client sends after an answer) to the first segment of the answer.
//
// It never holds a packet up: the kernel's filter takes only packets of the
// backends, copies their headers into a ring, and when the ring is full, drops
// the copy and counts it. The interface is not made promiscuous. Of requests that are
// pipelined, only the first of each row is measured.
type LatencyProbe struct {
	backends map[netip.AddrPort]bool
	filter   latencyFilter
	wanted   func() ([]string, error) // names of the interfaces to watch now
	log      *slog.Logger

	stop context.CancelFunc
	done chan struct{} // closed when all goroutines of the probe have ended

	// mu guards all below: readers write, windows are read.
	mu      sync.Mutex
	flows   *latencyFlows
	record  *latencyRecord
	ports   map[string]*latencyPort
	frames  uint64
	dropped uint64 // by the kernel, of ports that are gone too
	seenAt  time.Time
	trouble error
}

// latencyPort is one watched interface.
type latencyPort struct {
	ring  *latencyRing
	alive time.Time     // when its reader last had a look; zero before the first
	ended chan struct{} // closed when the reader has ended
	err   error         // why it ended; read it after ended
}

// WatchLatency starts a probe, which runs until ctx ends or Close. Interfaces that vanish are
// taken up again when they come back; until then the windows grow old.
func WatchLatency(ctx context.Context, spec LatencySpec) (*LatencyProbe, error) {
	if (len(spec.Interfaces) == 0) == (spec.Bridge == "") {
		return nil, errors.New("watch clients' latency: either interfaces or a bridge must be given")
	}
	filter, err := newLatencyFilter(spec.Backends)
	if err != nil {
		return nil, fmt.Errorf("watch clients' latency: %w", err)
	}
	now := time.Now()
	p := &LatencyProbe{
		backends: map[netip.AddrPort]bool{}, filter: filter, log: spec.Log, done: make(chan struct{}),
		flows: newLatencyFlows(), record: newLatencyRecord(now), ports: map[string]*latencyPort{}, seenAt: now,
	}
	for _, b := range spec.Backends {
		p.backends[netip.AddrPortFrom(b.Addr().Unmap(), b.Port())] = true
	}
	p.wanted = func() ([]string, error) { return spec.Interfaces, nil }
	if spec.Bridge != "" {
		p.wanted = func() ([]string, error) { return bridgePorts(spec.Bridge) }
	}
	ctx, p.stop = context.WithCancel(ctx)
	if err := p.attend(ctx); err != nil {
		p.stop()
		p.closePorts()
		return nil, fmt.Errorf("watch clients' latency: %w", err)
	}
	go p.run(ctx)
	return p, nil
}

// run looks after ports and flows until ctx ends.
func (p *LatencyProbe) run(ctx context.Context) {
	defer close(p.done)
	defer p.closePorts()
	tick := time.NewTicker(latencyPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := p.attend(ctx)
		p.mu.Lock()
		if err != nil && p.trouble == nil {
			p.log.Warn("clients' latency cannot be seen", "error", err)
		} else if err == nil && p.trouble != nil {
			p.log.Info("clients' latency can be seen again")
		}
		p.trouble = err
		p.flows.sweep(time.Now())
		p.mu.Unlock()
	}
}

// attend opens what should be watched and is not, and closes what should not be. Only run and
// WatchLatency call it, one after the other.
func (p *LatencyProbe) attend(ctx context.Context) error {
	names, err := p.wanted()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New("the bridge has no port")
	}
	want := map[string]bool{}
	var errs []error
	for _, name := range names {
		want[name] = true
		if err := p.attendPort(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("interface %q: %w", name, err))
		}
	}
	for name, port := range p.ports {
		if !want[name] {
			p.closePort(name, port)
		}
	}
	return errors.Join(errs...)
}

func (p *LatencyProbe) attendPort(ctx context.Context, name string) error {
	var was error
	if port := p.ports[name]; port != nil {
		select {
		case <-port.ended:
			was = port.err
			p.closePort(name, port)
		default:
			return nil
		}
	}
	ring, err := openLatencyRing(name, p.filter)
	if err != nil {
		return err
	}
	port := &latencyPort{ring: ring, ended: make(chan struct{})}
	p.mu.Lock()
	p.ports[name] = port
	p.mu.Unlock()
	go func() {
		defer close(port.ended)
		port.err = ring.read(ctx, func(now time.Time, packets iter.Seq[latencyPacket]) { p.take(port, now, packets) })
	}()
	return was // an interface that is down is opened again and again
}

// take handles what a ring had at one look, which may be nothing.
func (p *LatencyProbe) take(port *latencyPort, now time.Time, packets iter.Seq[latencyPacket]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	port.alive = now
	for packet := range packets {
		f, ok := parseLatencyFrame(packet.data, packet.length)
		if !ok {
			continue
		}
		p.frames++
		// The kernel's stamp is of the wall clock; the two clocks are compared here once.
		at := now.Add(-min(max(now.Sub(packet.at), 0), latencyAlive))
		if start, took, ok := p.flows.see(f, p.backends, at); ok {
			p.record.add(start, took)
		}
	}
}

func (p *LatencyProbe) closePort(name string, port *latencyPort) {
	port.ring.stop()
	<-port.ended
	p.mu.Lock()
	p.dropped += port.ring.drops()
	delete(p.ports, name)
	p.mu.Unlock()
	port.ring.close()
}

func (p *LatencyProbe) closePorts() {
	for name, port := range p.ports {
		p.closePort(name, port)
	}
}

// Err tells why the probe cannot see production now; nil while all is well.
func (p *LatencyProbe) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trouble
}

// Close ends the probe and waits for it.
func (p *LatencyProbe) Close() error {
	p.stop()
	<-p.done
	return nil
}
