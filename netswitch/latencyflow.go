package netswitch

import (
	"net/netip"
	"time"
)

const (
	maxLatencyFlows = 1 << 16
	latencyIdle     = 2 * time.Minute // a connection without a packet is forgotten then
	latencyHalfOpen = 5 * time.Second // so are connections that never carried a byte: SYN floods
	latencyLongest  = time.Minute     // what waits longer is no request with an answer
	sequenceReach   = 1 << 30         // bytes: older than this is not a retransmission, the probe missed much
)

// latencyFlows follows the connections of clients to the backends.
type latencyFlows struct {
	flows   map[latencyKey]*latencyState
	refused uint64 // connections that did not fit
}

type latencyKey struct{ client, server netip.AddrPort }

// latencyState is one connection.
type latencyState struct {
	last, start time.Time // last packet; first segment of the request that waits
	request     uint32    // sequence number at which it begins
	clientNext  uint32    // sequence numbers after all that was seen
	serverNext  uint32
	clientKnown bool
	serverKnown bool
	carried     bool // a byte, in either direction
	armed       bool // the client's next byte begins a request
	waiting     bool
}

func newLatencyFlows() *latencyFlows { return &latencyFlows{flows: map[latencyKey]*latencyState{}} }

// see takes one segment and tells whether it begins an answer: to a request that
// began at start, took long ago.
func (t *latencyFlows) see(f latencyFrame, backends map[netip.AddrPort]bool, at time.Time) (start time.Time, took time.Duration, ok bool) {
	key, fromClient := latencyKey{f.src, f.dst}, true
	if !backends[f.dst] {
		if !backends[f.src] {
			return
		}
		key, fromClient = latencyKey{f.dst, f.src}, false
	}
	s := t.flows[key]
	if s == nil {
		if f.has(flagRST) || f.has(flagFIN) || f.payload == 0 && !f.has(flagSYN) {
			return // the last words of a connection that is forgotten already
		}
		if len(t.flows) >= maxLatencyFlows {
			t.refused++
			return
		}
		s = &latencyState{}
		t.flows[key] = s
	}
	s.last = at
	if fromClient {
		s.fromClient(f, at)
	} else if s.fromServer(f) && !at.Before(s.start) {
		start, took, ok = s.start, at.Sub(s.start), true
	}
	// A client that has said all may still wait for its answer.
	if f.has(flagRST) || f.has(flagFIN) && !(fromClient && s.waiting) {
		delete(t.flows, key)
	}
	return start, took, ok
}

func (s *latencyState) fromClient(f latencyFrame, at time.Time) {
	if f.has(flagSYN) {
		if s.clientKnown && s.clientNext == f.seq+1 {
			return // sent again
		}
		*s = latencyState{last: at, armed: true, clientKnown: true, clientNext: f.seq + 1}
		return
	}
	end := f.seq + f.payload
	if f.payload == 0 || s.clientKnown && old(end, s.clientNext) {
		return // an acknowledgement, a keepalive, or sent again
	}
	s.clientKnown, s.clientNext, s.carried = true, end, true
	if s.armed && !s.waiting {
		s.waiting, s.start, s.request = true, at, f.seq
	}
}

// fromServer tells whether the segment begins the answer to the request that
// waits. One that does not acknowledge any of the request is the rest of an
// earlier answer.
func (s *latencyState) fromServer(f latencyFrame) bool {
	if f.has(flagSYN) {
		s.serverKnown, s.serverNext = true, f.seq+1
		return false
	}
	end := f.seq + f.payload
	if f.payload == 0 || s.serverKnown && old(end, s.serverNext) {
		return false
	}
	s.serverKnown, s.serverNext, s.carried, s.armed = true, end, true, true
	if !s.waiting || !f.has(flagACK) || !after(f.ack, s.request) {
		return false
	}
	s.waiting = false
	return true
}

// old says that a segment that ends at end holds nothing beyond next.
func old(end, next uint32) bool { return next-end < sequenceReach }

// sweep forgets connections without news.
func (t *latencyFlows) sweep(now time.Time) {
	for key, s := range t.flows {
		silent := now.Sub(s.last)
		switch {
		case silent > latencyIdle, !s.carried && silent > latencyHalfOpen:
			delete(t.flows, key)
		case s.waiting && now.Sub(s.start) > latencyLongest:
			s.waiting, s.armed = false, false
		}
	}
}

// waiting yields when each request without an answer began.
func (t *latencyFlows) waiting(yield func(time.Time) bool) {
	for _, s := range t.flows {
		if s.waiting && !yield(s.start) {
			return
		}
	}
}
