package netswitch

import "time"

// fromServer handles a segment on its way to the client. closing says that the
// connection shall end with its present answer.
func (f *flow) fromServer(p segment, now time.Time, closing bool) verdict {
	f.window = p.window()
	if p.has(flagACK) {
		f.sAcks.advance(p.ack())
		if !f.c.known || f.phase == flowClosing && after(f.sAcks.next, f.c.next) {
			f.c.next = f.sAcks.next // it has that much, whatever we saw
		}
	}
	switch {
	case p.has(flagRST):
		f.phase = flowGone
		return pass
	case p.has(flagSYN):
		f.handshake(p)
		return pass
	case f.phase == flowClosing:
		return f.serverWhileClosing(p)
	case f.phase == flowGone:
		return pass
	}
	v := pass
	if len(p.payload()) > 0 {
		v = f.serverData(p, now, closing)
	} else if f.sync != syncHTTP {
		f.s.advance(p.seq())
	}
	if v != discard && p.has(flagFIN) && f.phase == flowOpen {
		f.phase, f.serverFIN = flowGone, true // it closes by itself
	}
	return v
}

// handshake takes the numbers of a connection that is being opened.
func (f *flow) handshake(p segment) {
	f.s, f.c = seqTrack{true, p.seq() + 1}, seqTrack{true, p.ack()}
	if f.app == HTTP {
		f.sync = syncHTTP
	} else {
		f.sync = syncOpaque
	}
}

func (f *flow) serverData(p segment, now time.Time, closing bool) verdict {
	data := p.payload()
	if f.sync == syncUnknown && f.app == HTTP && startsResponse(data) {
		f.syncFromServer(p, now)
	}
	if f.sync != syncHTTP {
		f.sync = syncOpaque
		f.s.advance(p.end())
		if p.has(flagACK) {
			f.c.advance(p.ack())
		}
		f.lastData = now
		return pass
	}
	skip := int(int32(f.s.next - p.seq()))
	if skip < 0 && f.strict && !f.cAcks.beyond(f.s.next) {
		return discard // a gap: the server sends again, in order
	}
	if skip < 0 {
		f.lose()
		f.s.advance(p.end())
		f.lastData = now
		return pass
	}
	v := f.repatch(p)
	if skip >= len(data) {
		return v // sent again
	}
	f.lastData = now
	f.s.next = p.end()
	if f.followAnswers(data[skip:], p.seq()+uint32(skip), now, closing) {
		v = passChanged
	}
	if closing && f.sync == syncHTTP && f.inAnswer && !f.inFlight() && f.resp.atStart() && !p.has(flagFIN) {
		p.setFlag(flagFIN)
		f.close(p.end(), now)
		f.closedAfterAnswer = true
		v = passChanged
	}
	return v
}

// syncFromServer takes a segment as the beginning of the answer to a request that
// was sent before we looked; its method is not known.
func (f *flow) syncFromServer(p segment, now time.Time) {
	f.sync = syncHTTP
	f.s = seqTrack{true, p.seq()}
	f.c = seqTrack{false, p.ack()} // more may be under way
	f.pending = []string{""}
	f.busySince = now
}

func (f *flow) repatch(p segment) verdict {
	v := pass
	for _, pt := range f.patches {
		if pt.apply(p.payload(), p.seq()) {
			v = passChanged
		}
	}
	return v
}

// followAnswers reads on in the server's stream and says whether it changed data.
func (f *flow) followAnswers(data []byte, seq uint32, now time.Time, closing bool) (changed bool) {
	var best closeLine
	base := 0
	f.resp.onLine = func(line []byte, start, end int) { best.consider(line, base+start, base+end) }
	defer func() { f.resp.onLine = nil }()
	for f.sync == syncHTTP {
		n, ev, err := f.resp.next(data[base:])
		base += n
		switch {
		case err != nil || ev != frameMore && len(f.pending) == 0:
			f.sync = syncOpaque
		case ev == frameMore:
			// The rest of the header may come when it is too late for these lines.
			if f.resp.state == frameHeaders && f.lastAnswerComes(closing) && f.overwrite(&best, data, seq) {
				changed = true
			}
			return changed
		case ev == frameHead:
			if f.lastAnswerComes(closing) {
				changed = f.overwrite(&best, data, seq) || changed
				f.inAnswer = true
			}
			f.answerHead()
		case ev == frameMessage:
			f.endAnswer(now)
			best = closeLine{}
			if len(f.pending) == 0 && base < len(data) {
				f.sync = syncOpaque // bytes that nobody asked for
			}
		}
	}
	return changed
}

// lastAnswerComes says that the answer being read is the last one of its connection.
func (f *flow) lastAnswerComes(closing bool) bool {
	return closing && len(f.pending) == 1 && f.resp.status >= 200
}

func (f *flow) overwrite(best *closeLine, data []byte, seq uint32) bool {
	if len(f.patches) > 0 {
		return false // said in an earlier segment
	}
	pt, ok := best.overwrite(data, seq)
	if ok {
		f.patches = append(f.patches, pt)
	}
	return ok
}

func (f *flow) answerHead() {
	method := f.pending[0]
	if f.resp.status == 101 || method == "CONNECT" || f.resp.decide(method) != nil {
		f.sync = syncOpaque
	}
}

func (f *flow) endAnswer(now time.Time) {
	if f.resp.status < 200 {
		return // an interim answer
	}
	f.pending = f.pending[1:]
	f.answers++
	f.busySince = now
}

// close begins the end of the connection: the FIN has the number seq.
func (f *flow) close(seq uint32, now time.Time) {
	f.phase, f.finSeq, f.finSent = flowClosing, seq, now
}

// serverWhileClosing keeps the server's stream in step with the FIN that the client
// has been told of.
func (f *flow) serverWhileClosing(p segment) verdict {
	if f.serverFIN && len(p.payload()) == 0 && p.seq() == f.finSeq+1 {
		return pass // both FINs are one by now
	}
	if after(p.end(), f.finSeq) {
		return discard // data after the end
	}
	v := f.repatch(p)
	if p.has(flagFIN) {
		if p.end() == f.finSeq {
			f.serverFIN = true // its own FIN, with the number of ours
		}
		return v
	}
	if len(p.payload()) == 0 && p.seq() == f.finSeq {
		p.setSeq(f.finSeq + 1) // for the client the FIN has a number
		return passChanged
	}
	if len(p.payload()) > 0 && p.end() == f.finSeq && f.closedAfterAnswer {
		p.setFlag(flagFIN) // the last bytes are sent again
		return passChanged
	}
	return v
}
