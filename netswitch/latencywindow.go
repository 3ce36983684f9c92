package netswitch

import (
	"math/bits"
	"time"
)

// LatencyWindow is what clients felt whose requests began between From and At.
type LatencyWindow struct {
	From, At      time.Time // At stays behind when the probe cannot see production
	P50, P90, P99 time.Duration
	Requests      int           // answered; 0 with a recent At is a quiet time, not an unknown one
	Waiting       int           // without an answer yet, whenever they began
	Oldest        time.Duration // how long the longest of these waits
	Dropped       uint64        // since the probe's start: packets and connections that it missed; production missed none
	Frames        uint64        // since the probe's start: packets of the backends that it saw; 0 may mean a wrong interface
	// Buckets is the distribution behind the quantiles, in ascending order. Requests
	// that still wait are in it once they wait longer than 99 % of answers took, so that a
	// production that answers nothing is not taken for a quiet one.
	Buckets []LatencyBucket
}

// LatencyBucket counts requests that took about Latency.
type LatencyBucket struct {
	Latency time.Duration
	Count   int
}

// Idle tells that no client wanted anything.
func (w LatencyWindow) Idle() bool { return w.Requests == 0 && len(w.Buckets) == 0 }

const (
	latencySlot  = 250 * time.Millisecond
	latencySlots = 240 // a minute
	// Buckets are powers of two of microseconds, each cut into 32: 3 % wide. The last ones hold all above a minute.
	latencySub     = 5
	latencyBuckets = 27 << latencySub
)

// latencyRecord keeps the last minute in slots, by when a request began.
type latencyRecord struct {
	epoch time.Time
	slots [latencySlots]latencyCount
}

type latencyCount struct {
	number int64 // which slot since epoch this is
	n      int
	counts [latencyBuckets]uint32
}

func newLatencyRecord(now time.Time) *latencyRecord {
	return &latencyRecord{epoch: now.Add(-latencySlots * latencySlot)}
}

func (r *latencyRecord) number(t time.Time) int64 { return int64(t.Sub(r.epoch) / latencySlot) }

func (r *latencyRecord) add(start time.Time, took time.Duration) {
	n := r.number(start)
	if n < 0 {
		return
	}
	s := &r.slots[n%latencySlots]
	if s.number > n {
		return // it took longer than a minute
	}
	if s.number < n {
		*s = latencyCount{number: n}
	}
	s.n++
	s.counts[latencyBucket(took)]++
}

// since adds up the slots that begin at or after from, up to now.
func (r *latencyRecord) since(from, now time.Time, into *latencyCount) {
	first := int64((from.Sub(r.epoch) + latencySlot - 1) / latencySlot)
	last := r.number(now)
	for n := max(first, last-latencySlots+1, 0); n <= last; n++ {
		s := &r.slots[n%latencySlots]
		if s.number != n || s.n == 0 {
			continue
		}
		into.n += s.n
		for i, c := range s.counts {
			into.counts[i] += c
		}
	}
}

// latencyBucket is where a time is counted; bucketTime is the middle of a bucket.
func latencyBucket(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < 1<<latencySub {
		return int(us)
	}
	shift := bits.Len64(us) - 1 - latencySub
	return min((shift+1)<<latencySub+int(us>>shift)-1<<latencySub, latencyBuckets-1)
}

func bucketTime(i int) time.Duration {
	if i < 1<<latencySub {
		return time.Duration(i)*time.Microsecond + time.Microsecond/2
	}
	shift := i>>latencySub - 1
	low := uint64(1<<latencySub+i&(1<<latencySub-1)) << shift
	return time.Duration(2*low+1<<shift) * time.Microsecond / 2
}

// quantile is the time below which a part q of all counted lies.
func (c *latencyCount) quantile(q float64) time.Duration {
	rank := uint64(q * float64(c.n))
	var sum uint64
	for i, n := range c.counts {
		if sum += uint64(n); n > 0 && sum > rank {
			return bucketTime(i)
		}
	}
	return 0
}

// Window tells about the last ten seconds.
func (p *LatencyProbe) Window() LatencyWindow { return p.Since(time.Now().Add(-10 * time.Second)) }

// Since tells about requests that began at or after from, at most a minute ago
// and in steps of a quarter of a second; one that began before is never counted.
func (p *LatencyProbe) Since(from time.Time) LatencyWindow {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	w := LatencyWindow{At: p.liveAt(now), Frames: p.frames, Dropped: p.dropped + p.flows.refused}
	w.From = from
	if from.After(w.At) {
		w.From = w.At // a window has no end before its beginning, also when the probe is blind
	}
	for _, port := range p.ports {
		w.Dropped += port.ring.drops()
	}
	var c latencyCount
	p.record.since(from, now, &c)
	w.Requests = c.n
	most := c.quantile(0.99)
	for start := range p.flows.waiting {
		age := now.Sub(start)
		w.Waiting++
		w.Oldest = max(w.Oldest, age)
		if !start.Before(from) && age > most {
			c.n++
			c.counts[latencyBucket(age)]++
		}
	}
	w.P50, w.P90, w.P99 = c.quantile(0.5), c.quantile(0.9), c.quantile(0.99)
	for i, n := range c.counts {
		if n > 0 {
			w.Buckets = append(w.Buckets, LatencyBucket{bucketTime(i), int(n)})
		}
	}
	return w
}

// liveAt is until when all that should be watched was watched.
func (p *LatencyProbe) liveAt(now time.Time) time.Time {
	if p.trouble != nil || len(p.ports) == 0 {
		return p.seenAt
	}
	at := now
	for _, port := range p.ports {
		if port.alive.Before(at) {
			at = port.alive
		}
	}
	if at.After(p.seenAt) {
		p.seenAt = at
	}
	return p.seenAt
}
