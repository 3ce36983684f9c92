package netswitch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/florianl/go-nfqueue"
)

// HoldSpec describes a hold.
type HoldSpec struct {
	ID       string // of the universe
	Services []Service
	Queue    uint16 // an NFQUEUE number that nobody else uses
	// Deadline is how long the hold may last; then it ends by itself, towards what
	// the VIP map says. Required.
	Deadline time.Duration
	// Quiet is the silence after which a connection whose requests cannot be
	// followed counts as between requests: one that was found already open and
	// silent, an upgraded one, any that is not HTTP. A request on such a connection
	// that takes the server longer than this without a byte would be cut off; watch
	// first, and connections are known. Default 1 s.
	Quiet time.Duration
	// Idle is the silence after which a connection that is known to be between two
	// requests is closed. Default 1 s.
	Idle time.Duration
	Log  *slog.Logger
}

func (s *HoldSpec) complete() error {
	if s.Quiet == 0 {
		s.Quiet = time.Second
	}
	if s.Idle == 0 {
		s.Idle = time.Second
	}
	errs := []error{checkID(s.ID), checkServices(s.Services)}
	if s.Deadline <= 0 || s.Quiet < 0 || s.Idle < 0 {
		errs = append(errs, errors.New("times: want a deadline and no negative ones"))
	}
	if s.Log == nil {
		errs = append(errs, errors.New("log: missing"))
	}
	return errors.Join(errs...)
}

// HoldStats counts what a hold did so far.
type HoldStats struct {
	HeldNew           int // new connections that waited or wait
	HeldDatagrams     int // UDP datagrams that waited or wait
	ClosedIdle        int // connections closed between requests
	ClosedAfterAnswer int // connections closed together with the last byte of an answer
	Forced            int // connections that could not be ended in order
	LongestWait       time.Duration
}

// Hold keeps clients waiting without refusing one. New connections wait in the
// kernel's queue; open ones finish their request and are closed in order, so that
// their clients come back as new ones. It ends by Release, by its deadline, or by
// the death of the process: then the kernel lets packets pass as the map says.
//
// The order of a switch is StartHold, Drain, VIPMap.Flip, DropOldFlows, Release.
type Hold struct {
	spec     HoldSpec
	services map[netip.AddrPort]Service // TCP, by VIP
	udp      map[netip.AddrPort]bool
	out      *injector
	queue    *nfqueue.Nfqueue
	stopRead context.CancelFunc
	stopTick context.CancelFunc
	ticking  sync.WaitGroup
	begun    chan struct{} // closed by Begin
	over     chan struct{} // closed when the hold has ended

	mu        sync.Mutex
	started   time.Time
	clock     quietClock // of all that waits for silence
	slowest   time.Duration
	watching  bool // connections are followed, nobody is held
	releasing bool
	kept      bool // the deadline no longer ends the hold
	cut       bool // nothing new may reach the old side
	flows     map[flowKey]*flow
	syns      map[flowKey]heldSYN
	datagrams []uint32
	lastUDP   time.Time
	stats     HoldStats
	once      sync.Once
	endErr    error
}

type heldSYN struct {
	id    uint32
	since time.Time
}

const (
	holdTick     = 10 * time.Millisecond
	maxDatagrams = 4096 // what is above is dropped, as networks do
)

// StartHold begins to hold. When it returns, every new connection waits.
func StartHold(ctx context.Context, spec HoldSpec) (*Hold, error) {
	h, err := Watch(ctx, spec)
	if err != nil {
		return nil, err
	}
	return h, h.Begin()
}

// Watch follows the connections of the services and holds nobody yet. Every
// connection that carries a request meanwhile is known exactly when Begin is
// called, so a few seconds of it make a hold short and safe for requests that take
// long. Each packet of the services passes through this process; Release ends it.
func Watch(ctx context.Context, spec HoldSpec) (*Hold, error) {
	if err := errors.Join(context.Cause(ctx), spec.complete()); err != nil {
		return nil, fmt.Errorf("watch connections: %w", err)
	}
	now := time.Now()
	h := &Hold{spec: spec, services: map[netip.AddrPort]Service{}, udp: map[netip.AddrPort]bool{},
		over: make(chan struct{}), begun: make(chan struct{}), watching: true, started: now, clock: newQuietClock(now), lastUDP: now,
		flows: map[flowKey]*flow{}, syns: map[flowKey]heldSYN{}}
	for _, s := range spec.Services {
		if s.Proto == TCP {
			h.services[s.VIP] = s
		} else {
			h.udp[s.VIP] = true
		}
	}
	if err := h.arm(ctx); err != nil {
		return nil, fmt.Errorf("watch connections: %w", err)
	}
	return h, nil
}

// Begin turns watching into holding; the deadline counts from here. To call it
// again changes nothing.
func (h *Hold) Begin() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.releasing {
		return ErrHoldOver
	}
	if !h.watching {
		return nil
	}
	h.watching, h.started, h.lastUDP = false, time.Now(), h.clock.now
	for _, f := range h.flows {
		f.strict = true
		if f.phase == flowGone {
			f.endedBefore = true
		}
	}
	close(h.begun)
	h.spec.Log.Info("hold has begun", "table", holdTable(h.spec.ID), "services", len(h.spec.Services),
		"open_connections", len(h.flows), "deadline", h.spec.Deadline)
	return nil
}

// arm puts the reader in place before the rules, for a queue without a reader
// holds nothing.
func (h *Hold) arm(ctx context.Context) (err error) {
	alive := context.WithoutCancel(ctx) // the hold outlives the call
	readCtx, stopRead := context.WithCancel(alive)
	h.stopRead = stopRead
	if h.out, err = openInjector(); err != nil {
		stopRead()
		return err
	}
	// The reader may be called before open returns: it waits for the lock.
	h.mu.Lock()
	h.queue, err = openQueue(readCtx, h.spec.Queue, h.handle)
	h.mu.Unlock()
	if err != nil {
		stopRead()
		h.out.close()
		return err
	}
	if err = addHoldRules(h.spec); err == nil {
		err = h.findOpenFlows()
	}
	if err != nil {
		return errors.Join(err, h.Release(alive))
	}
	tickCtx, stopTick := context.WithCancel(alive)
	h.mu.Lock()
	h.stopTick = stopTick
	h.mu.Unlock()
	h.ticking.Add(1)
	go h.tick(tickCtx)
	return nil
}

// findOpenFlows asks conntrack which connections were open before the rules were
// there. The set is closed from now on: nobody new gets in.
func (h *Hold) findOpenFlows() error {
	known, err := knownFlows(h.spec.Services)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range known {
		f := h.flows[k.key]
		if f == nil {
			f = newFlow(k.key, k.app, h.clock.now)
			f.lastData = h.clock.now.Add(-k.idle)
			h.flows[k.key] = f
		}
		if k.closed && f.sync == syncUnknown {
			f.phase, f.endedBefore = flowGone, true
		}
	}
	return nil
}

// tick does what is due by time, and ends the hold at its deadline.
func (h *Hold) tick(ctx context.Context) {
	defer h.ticking.Done()
	ticker := time.NewTicker(holdTick)
	defer ticker.Stop()
	begun := h.begun
	var lease <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-begun:
			begun, lease = nil, time.After(h.spec.Deadline)
		case <-lease:
			if !h.expire() {
				continue
			}
			h.spec.Log.Warn("hold ends by its deadline", "after", h.spec.Deadline)
			go h.end() // it waits for this goroutine
			return
		case <-ticker.C:
			h.tickFlows()
		}
	}
}

func (h *Hold) tickFlows() {
	st, err := readQueue(h.spec.Queue)
	h.mu.Lock()
	defer h.mu.Unlock()
	held := len(h.syns) + len(h.datagrams)
	if err != nil || h.releasing || !h.clock.tick(time.Now(), st.lastID, st.waiting <= held) {
		return
	}
	if h.watching {
		h.forget()
		return
	}
	for _, f := range h.flows {
		was, lost := f.phase, f.unreachableClient
		for _, p := range f.tick(h.clock.now, holdTimes{quiet: h.spec.Quiet, idle: h.spec.Idle}) {
			h.inject(p)
		}
		if was == flowOpen && f.phase == flowClosing {
			h.stats.ClosedIdle++
			h.spec.Log.Debug("idle connection is closed", "client", f.key.client, "requests_known", f.sync == syncHTTP,
				"answers", f.answers, "silent", h.clock.now.Sub(f.lastData), "probes", f.probes, "client_fin", f.cliFIN)
		}
		if f.unreachableClient && !lost {
			h.stats.Forced++
		}
	}
}

// forget lets connections go that ended while they were watched. They stay for a
// while, as their last packets still come.
func (h *Hold) forget() {
	for key, f := range h.flows {
		if f.phase == flowGone && h.clock.now.Sub(f.lastData) > 5*time.Second {
			delete(h.flows, key)
		}
	}
}

func (h *Hold) inject(p forged) {
	if err := h.out.send(p.bytes(), p.to.Addr()); err != nil {
		h.spec.Log.Debug("packet is not sent", "err", err) // it is repeated by time
	}
}

// Stats returns the counts so far.
func (h *Hold) Stats() HoldStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	for _, syn := range h.syns {
		s.LongestWait = max(s.LongestWait, time.Since(syn.since))
	}
	return s
}

// Over is closed when the hold has ended, whatever ended it.
func (h *Hold) Over() <-chan struct{} { return h.over }

// Release ends the hold: all who waited go where the VIP map points now. It may be
// repeated, also after the deadline.
func (h *Hold) Release(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- h.end() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("release hold: %w", context.Cause(ctx))
	}
}

func (h *Hold) end() error {
	h.once.Do(func() {
		h.endErr = h.release()
		close(h.over)
	})
	return h.endErr
}

// release keeps an order: first nobody new is held, then the rules go, then the
// reader, last the table with its hooks, whose removal empties queues.
func (h *Hold) release() error {
	h.mu.Lock()
	h.releasing = true
	stopTick := h.stopTick
	waited := h.letGo()
	h.mu.Unlock()
	if stopTick != nil {
		stopTick()
	}
	h.ticking.Wait()
	err := disarm(h.spec.ID)
	h.waitEmpty()
	h.stopRead()
	err = errors.Join(err, h.queue.Close(), removeHoldTable(h.spec.ID))
	h.out.close()
	h.spec.Log.Info("hold is over", "released", waited, "lasted", time.Since(h.started))
	return err
}

// letGo accepts all that wait, the longest first.
func (h *Hold) letGo() int {
	waiting := make([]heldSYN, 0, len(h.syns))
	for key, s := range h.syns {
		delete(h.flows, key) // of an earlier life of the client's port
		waiting = append(waiting, s)
		h.stats.LongestWait = max(h.stats.LongestWait, time.Since(s.since))
	}
	slices.SortFunc(waiting, func(a, b heldSYN) int { return a.since.Compare(b.since) })
	for _, s := range waiting {
		h.verdict(s.id, nfqueue.NfAccept)
	}
	for _, id := range h.datagrams {
		h.verdict(id, nfqueue.NfAccept)
	}
	clear(h.syns)
	h.datagrams = nil
	return len(waiting)
}

// waitEmpty waits until the kernel has no packet left for the reader.
func (h *Hold) waitEmpty() {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if st, err := readQueue(h.spec.Queue); err != nil || st.waiting == 0 {
			return
		}
	}
}

func (h *Hold) verdict(id uint32, v int) {
	if err := h.queue.SetVerdict(id, v); err != nil {
		h.spec.Log.Warn("verdict is not given", "err", err)
	}
}
