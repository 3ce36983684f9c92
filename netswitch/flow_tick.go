package netswitch

import "time"

// holdTimes are the patience of a hold.
type holdTimes struct {
	quiet time.Duration // silence that ends a connection whose requests are not known
	idle  time.Duration // silence that ends a connection known to be between requests
}

const (
	probeEvery = 600 * time.Millisecond // Linux answers such probes twice a second
	maxProbes  = 3
	firstRetry = 200 * time.Millisecond
	maxFINs    = 5
)

// tick does what is due by time. It returns packets to send to the client.
func (f *flow) tick(now time.Time, t holdTimes) []forged {
	switch {
	case f.phase == flowClosing && !f.finAcked && !f.unreachableClient:
		return f.repeatFIN(now)
	case f.phase != flowOpen || f.unreachableClient:
		return nil
	case f.sync == syncHTTP && !f.inFlight():
		if now.Sub(f.lastData) >= t.idle {
			return f.closeIdle(now)
		}
		return nil
	case f.sync == syncHTTP && !f.headWithoutBody():
		return nil // its answer ends it
	case now.Sub(f.lastData) < t.quiet:
		return nil
	case f.s.known && (f.c.known || f.sync == syncHTTP):
		if f.cAcks.known && after(f.s.next, f.cAcks.next) {
			return nil // the client lacks bytes that the server sent
		}
		return f.closeIdle(now)
	}
	return f.probe(now)
}

// headWithoutBody says that an answer to a request of unknown method has its
// header, but not its body: it may be the answer to a HEAD.
func (f *flow) headWithoutBody() bool {
	return len(f.pending) == 1 && f.pending[0] == "" && f.resp.status >= 200 && f.resp.state == frameBody &&
		f.resp.left == uint64(f.resp.length)
}

// closeIdle tells the client that the server has closed, as servers do with
// connections that nobody uses.
func (f *flow) closeIdle(now time.Time) []forged {
	f.close(f.s.next, now)
	return []forged{f.fin()}
}

func (f *flow) fin() forged {
	return forged{from: f.key.vip, to: f.key.client, seq: f.finSeq, ack: f.c.next, flags: flagFIN | flagACK,
		window: f.window, stamped: f.stamped, tsVal: f.tsVal, tsEcr: f.tsEcr}
}

// reset answers data that came after the close.
func (f *flow) reset() forged {
	return forged{from: f.key.vip, to: f.key.client, seq: f.cAcks.next, flags: flagRST | flagACK, ack: f.c.next,
		stamped: f.stamped, tsVal: f.tsVal, tsEcr: f.tsEcr}
}

func (f *flow) repeatFIN(now time.Time) []forged {
	if now.Sub(f.finSent) < firstRetry<<f.finTries {
		return nil
	}
	if f.finTries++; f.finTries > maxFINs {
		f.unreachableClient = true
		return nil
	}
	f.finSent = now
	if f.closedAfterAnswer && f.cAcks.known && after(f.finSeq, f.cAcks.next) {
		return nil // the server repeats the last bytes, and our FIN with them
	}
	return []forged{f.fin()}
}

// probe asks an idle client for its sequence numbers: TCP answers a segment outside
// its window with an acknowledgement that carries both. The probes are half the
// number space apart, so one of two is outside whatever the window is.
func (f *flow) probe(now time.Time) []forged {
	if now.Sub(f.probed) < probeEvery {
		return nil
	}
	if f.probes == maxProbes {
		f.unreachableClient = true
		return nil
	}
	f.probes++
	f.probed = now
	p := forged{from: f.key.vip, to: f.key.client, seq: 1 << 30, ack: 1 << 30, flags: flagACK, window: f.window}
	q := p
	q.seq += 1 << 31
	return []forged{p, q}
}
