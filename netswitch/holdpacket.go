package netswitch

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/florianl/go-nfqueue"
	"golang.org/x/sys/unix"
)

// handle decides about one packet of the queue. It runs on the reader's goroutine.
func (h *Hold) handle(a nfqueue.Attribute) {
	if a.PacketID == nil {
		return
	}
	id := *a.PacketID
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock.saw(id)
	if a.Payload == nil {
		h.verdict(id, nfqueue.NfAccept)
		return
	}
	p, err := parseSegment(*a.Payload)
	if err != nil {
		h.handleDatagram(id, *a.Payload)
		return
	}
	now := h.clock.now
	v := pass
	if s, ok := h.services[p.dst()]; ok {
		key := flowKey{p.src(), p.dst()}
		if p.isFirstSYN() {
			h.handleSYN(id, key, time.Now())
			return
		}
		if f := h.flowOf(key, s.App, now); f != nil {
			v = h.clientSegment(f, p, now)
		}
	} else if s, ok := h.services[p.src()]; ok {
		if f := h.flowOf(flowKey{p.dst(), p.src()}, s.App, now); f != nil {
			v = h.serverSegment(f, p, now)
		}
	}
	h.settle(id, p, v)
}

func (h *Hold) settle(id uint32, p segment, v verdict) {
	switch v {
	case pass:
		h.verdict(id, nfqueue.NfAccept)
	case passChanged:
		p.seal()
		if err := h.queue.SetVerdictModPacket(id, nfqueue.NfAccept, p.b); err != nil {
			h.spec.Log.Warn("verdict is not given", "err", err)
		}
	default:
		h.verdict(id, nfqueue.NfDrop)
	}
}

// flowOf returns the flow to follow, nil for a connection that is none of the
// hold's business: once it is being released, only those that it has closed are.
func (h *Hold) flowOf(key flowKey, app App, now time.Time) *flow {
	f := h.flows[key]
	switch {
	case h.releasing && (f == nil || f.phase != flowClosing):
		return nil
	case f == nil:
		f = newFlow(key, app, now)
		f.strict = !h.watching
		h.flows[key] = f
	}
	return f
}

// handleSYN holds a new connection. Of a client's repeated tries only the newest
// is kept: its clock is the one that the client goes by.
func (h *Hold) handleSYN(id uint32, key flowKey, now time.Time) {
	if h.releasing || h.watching {
		delete(h.flows, key)
		h.verdict(id, nfqueue.NfAccept)
		return
	}
	since := now
	if older, ok := h.syns[key]; ok {
		since = older.since
		h.verdict(older.id, nfqueue.NfDrop)
	} else {
		h.stats.HeldNew++
	}
	// A client that opens a port anew has forgotten what it was before.
	if f := h.flows[key]; f != nil {
		f.phase = flowGone
	}
	h.syns[key] = heldSYN{id, since}
}

func (h *Hold) clientSegment(f *flow, p segment, now time.Time) verdict {
	refused := f.clientDataRefused
	v := f.fromClient(p, now, h.cut)
	if v == refuse && !h.releasing {
		h.inject(f.reset())
		f.clientDataRefused = true
		if !refused {
			h.stats.Forced++
		}
	}
	return v
}

func (h *Hold) serverSegment(f *flow, p segment, now time.Time) verdict {
	was, answers := f.closedAfterAnswer, f.answers
	v := f.fromServer(p, now, !h.releasing && !h.watching)
	if f.closedAfterAnswer && !was {
		h.stats.ClosedAfterAnswer++
	}
	if f.answers > answers && !h.watching {
		f.heldAnswers++
		h.slowest = time.Since(h.started)
	}
	return v
}

// handleDatagram holds UDP requests and lets answers pass. What is neither passes.
func (h *Hold) handleDatagram(id uint32, b []byte) {
	src, dst, ok := udpEndpoints(b)
	switch {
	case ok && h.udp[src]:
		h.lastUDP = h.clock.now
	case !ok || !h.udp[dst] || h.releasing || h.watching:
	case len(h.datagrams) < maxDatagrams:
		h.stats.HeldDatagrams++
		h.datagrams = append(h.datagrams, id)
		return
	default:
		h.verdict(id, nfqueue.NfDrop)
		return
	}
	h.verdict(id, nfqueue.NfAccept)
}

func udpEndpoints(b []byte) (src, dst netip.AddrPort, ok bool) {
	if len(b) < ip4Len || b[0]>>4 != 4 || b[9] != unix.IPPROTO_UDP {
		return src, dst, false
	}
	ihl := int(b[0]&15) * 4
	if ihl < ip4Len || len(b) < ihl+8 {
		return src, dst, false
	}
	s, _ := netip.AddrFromSlice(b[12:16])
	d, _ := netip.AddrFromSlice(b[16:20])
	return netip.AddrPortFrom(s, binary.BigEndian.Uint16(b[ihl:])), netip.AddrPortFrom(d, binary.BigEndian.Uint16(b[ihl+2:])), true
}
