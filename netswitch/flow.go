package netswitch

import (
	"net/netip"
	"time"
)

// flowKey names a client's connection to a VIP.
type flowKey struct{ client, vip netip.AddrPort }

type flowPhase int

const (
	flowOpen    flowPhase = iota
	flowClosing           // the client was told, or is being told, that the server closed
	flowGone              // reset, or closed by the server itself
)

type flowSync int

const (
	syncUnknown flowSync = iota // nothing was seen of it yet
	syncHTTP                    // the boundaries of its requests and answers are known
	syncOpaque                  // only its silence tells
)

// flow follows one connection that is pinned to the version which is about to be
// replaced. It lets requests in flight finish and then closes the client's side,
// by inserting a FIN that the server will send later itself: from there on the
// client's acknowledgements of the FIN are taken back by one towards the server.
// It does no input or output and is not safe for concurrent use.
type flow struct {
	key   flowKey
	app   App
	phase flowPhase
	sync  flowSync

	strict bool // out of order segments are dropped, so that the stream can be followed

	c, s         seqTrack // next byte expected from the client and from the server
	cAcks, sAcks seqTrack // how far each side has acknowledged the other
	req          framer
	resp         framer
	pending      []string // methods of the requests without a whole answer
	inAnswer     bool     // the answer's header was seen while closing was wanted
	patches      []patch

	began       time.Time // when the hold began to follow it
	lastData    time.Time
	answers     int // whole ones
	heldAnswers int // of these, during the hold
	busySince   time.Time

	finSeq            uint32
	finAcked          bool
	finSent           time.Time
	finTries          int
	serverFIN, cliFIN bool
	probes            int
	probed            time.Time
	window            uint16 // as the server last announced it
	stamped           bool   // TCP timestamps are in use
	tsVal, tsEcr      uint32 // what the next segment of ours carries
	closedAfterAnswer bool
	clientDataRefused bool
	endedBefore       bool // the hold found it closed
	unreachableClient bool // it does not answer; its connection cannot be closed
}

// seqTrack is a place in one direction's stream.
type seqTrack struct {
	known bool
	next  uint32
}

func (t *seqTrack) advance(to uint32) {
	if !t.known || after(to, t.next) {
		t.known, t.next = true, to
	}
}

// beyond says that the place is known to lie after seq.
func (t *seqTrack) beyond(seq uint32) bool { return t.known && after(t.next, seq) }

func newFlow(key flowKey, app App, now time.Time) *flow {
	f := &flow{key: key, app: app, began: now, lastData: now, window: 512}
	f.resp.response = true
	return f
}

const maxPending = 64 // pipelined requests that are followed

// inFlight says whether a request may be without its whole answer.
func (f *flow) inFlight() bool {
	return f.phase == flowOpen && (f.sync != syncHTTP || len(f.pending) > 0 || !f.req.atStart())
}

// finished says that nothing of the connection can reach the server any more, or
// that it has no meaning when it does.
func (f *flow) finished() bool {
	switch f.phase {
	case flowGone:
		return true
	case flowClosing:
		return f.finAcked || f.unreachableClient
	}
	return f.unreachableClient || f.cliFIN && f.sync == syncHTTP && !f.inFlight()
}

// verdict is what becomes of a packet.
type verdict int

const (
	pass verdict = iota
	passChanged
	discard
	refuse // discard, and reset the client, as a server does that has closed
)

// fromClient handles a segment on its way to the server. cut says that nothing new
// may reach the server any more.
func (f *flow) fromClient(p segment, now time.Time, cut bool) verdict {
	if val, ecr, ok := p.timestamps(); ok {
		f.stamped, f.tsVal, f.tsEcr = true, ecr, val
	}
	if p.has(flagACK) {
		f.cAcks.advance(p.ack())
	}
	switch {
	case p.has(flagRST):
		f.phase = flowGone
		return pass
	case f.phase == flowClosing:
		return f.clientWhileClosing(p)
	case f.phase == flowGone:
		return passUnlessCut(p, cut)
	case len(p.payload()) == 0:
		return f.clientWithoutData(p)
	}
	return f.clientData(p, now, cut)
}

func passUnlessCut(p segment, cut bool) verdict {
	if cut && len(p.payload()) > 0 {
		return refuse
	}
	return pass
}

// clientWithoutData learns from acknowledgements: the answer to a probe carries
// both exact numbers.
func (f *flow) clientWithoutData(p segment) verdict {
	if f.sync != syncHTTP && p.has(flagACK) {
		f.c.advance(p.seq())
		f.s.advance(p.ack())
	}
	if p.has(flagFIN) {
		f.cliFIN = true
		f.c.advance(p.seq() + 1)
	}
	return pass
}

func (f *flow) clientData(p segment, now time.Time, cut bool) verdict {
	data := p.payload()
	if f.sync != syncHTTP && !f.syncFromClient(p) {
		f.c.advance(p.end())
		if cut {
			return refuse
		}
		f.lastData = now
		f.sync = syncOpaque
		f.noteClientFIN(p)
		return pass
	}
	if !f.c.known {
		f.c = seqTrack{true, p.seq()}
	}
	skip := int(int32(f.c.next - p.seq()))
	switch {
	case skip < 0 && f.strict && !f.sAcks.beyond(f.c.next):
		return discard // a gap: the client sends again, in order
	case skip < 0:
		f.lose()
		f.c.advance(p.end())
		f.lastData = now
		return pass
	case skip >= len(data):
		f.noteClientFIN(p)
		return pass // sent again
	case cut:
		return refuse
	case f.inAnswer && f.req.atStart():
		return discard // another request after the server said close
	}
	f.lastData = now
	f.c.next = p.end()
	f.noteClientFIN(p)
	f.followRequests(data[skip:], now)
	return pass
}

// lose gives up following the requests, until one begins that can be told from the rest.
func (f *flow) lose() { f.sync = syncOpaque }

func (f *flow) noteClientFIN(p segment) {
	if p.has(flagFIN) {
		f.cliFIN = true
		f.c.advance(p.end() + 1)
	}
}

// syncFromClient tries to take a segment as the beginning of a request, which it is
// only when the client has everything that the server sent.
func (f *flow) syncFromClient(p segment) bool {
	if f.app != HTTP || !startsRequest(p.payload()) {
		return false
	}
	if f.sync == syncOpaque && (!f.s.known || p.ack() != f.s.next) {
		return false
	}
	f.sync = syncHTTP
	f.req, f.resp = framer{}, framer{response: true}
	f.pending, f.inAnswer = nil, false
	f.c, f.s = seqTrack{true, p.seq()}, seqTrack{true, p.ack()}
	return true
}

func (f *flow) followRequests(data []byte, now time.Time) {
	for f.sync == syncHTTP {
		n, ev, err := f.req.next(data)
		data = data[n:]
		switch {
		case err != nil:
			f.sync = syncOpaque
		case ev == frameMore:
			return
		case ev == frameHead:
			f.beginRequest(now)
		}
	}
}

func (f *flow) beginRequest(now time.Time) {
	if len(f.pending) == 0 {
		f.busySince = now
	}
	f.pending = append(f.pending, f.req.method)
	if len(f.pending) > maxPending || f.req.method == "CONNECT" || f.req.decide("") != nil {
		f.sync = syncOpaque
	}
}

// clientWhileClosing hides the inserted FIN from the server until it has sent its own.
func (f *flow) clientWhileClosing(p segment) verdict {
	if p.has(flagACK) && after(p.ack(), f.finSeq) {
		f.finAcked = true
	}
	if len(p.payload()) > 0 && after(p.end(), f.c.next) {
		f.clientDataRefused = true
		return refuse
	}
	if p.has(flagFIN) {
		f.cliFIN = true
	}
	if !f.serverFIN && p.has(flagACK) && after(p.ack(), f.finSeq) {
		p.setAck(f.finSeq)
		return passChanged
	}
	return pass
}
