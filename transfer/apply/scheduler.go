package apply

import (
	"sync"

	"imago.dev/imago/transfer/rows"
)

// scheduler decides what is worked on next, and keeps the copy and the stream of
// changes apart: a key is changed by one of them at a time.
type scheduler struct {
	mu sync.Mutex

	overlap bool // the stream is still where the clone may be ahead of it
	active  *group
	changed chan struct{} // closed and made anew when there may be other work
	stopped bool
	applied uint64        // transactions of this Run's stream
	ended   chan struct{} // closed when Run is over
	// allVerified is set when no table needs the clone any more.
	allCopied, allVerified bool
}

// group is the transaction of the target in which changes are being applied.
type group struct{ done chan struct{} }

func (s *scheduler) init() {
	s.changed, s.ended = make(chan struct{}), make(chan struct{})
}

// news wakes up those who wait for work. s.mu is held.
func (s *scheduler) news() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *scheduler) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.news()
}

// begin says that changes are going to be written. s.mu is held.
func (s *scheduler) begin() *group {
	s.active = &group{done: make(chan struct{})}
	return s.active
}

// end says that they are, or never will be.
func (s *scheduler) end(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = nil
	close(g.done)
}

// summary works out allCopied and allVerified. s.mu is held.
func (e *Engine) summary() {
	s := &e.sched
	s.allCopied, s.allVerified = true, true
	for _, t := range e.tables {
		s.allCopied = s.allCopied && t.copy.copied
		s.allVerified = s.allVerified && t.copy.verified
	}
}

func (s *scheduler) progress(e *Engine, p *Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Tables, p.CopyDone, p.CloneNeeded = len(e.tables), s.allCopied, !s.allVerified
	for _, t := range e.tables {
		c := &t.copy
		p.ChunksDone += c.chunks
		p.ChunksKnown += c.chunks + len(c.flying)
		p.RowsTotal += t.src.Rows
		p.BytesTotal += uint64(float64(t.src.Rows) * t.rowBytes)
		if c.copied {
			p.TablesDone++
		}
		if c.verified {
			continue
		}
		n := uint64(1) // at least that it has none
		for _, u := range c.unverified {
			n += u.rows
		}
		if !c.copied {
			n += t.src.Rows
		}
		p.Unverified += n
	}
	if s.allCopied {
		p.RowsTotal, p.BytesTotal = p.RowsCopied, p.BytesCopied
	}
	p.RowsTotal = max(p.RowsTotal, p.RowsCopied)
	p.BytesTotal = max(p.BytesTotal, p.BytesCopied)
	for _, c := range e.convs {
		p.Rejected += uint64(len(c.rejected))
		p.Unverified += uint64(len(c.dirty))
		if c.phase != convLive || !c.verified {
			p.Unverified += 1 + c.objects - min(c.objects, c.compared)
		}
	}
}

// locations finds the places of keys of a table that is not copied yet. s.mu is held.
func (t *table) locations(ask func() (*conn, error), keys [][]rows.Cell) ([]where, []*chunk, error) {
	bounds := t.copy.bounds()
	orders, err := t.orders(ask, keys, bounds)
	if err != nil {
		return nil, nil, err
	}
	places, chunks := make([]where, len(keys)), make([]*chunk, len(keys))
	for i := range keys {
		places[i], chunks[i] = t.copy.locate(func(b []rows.Cell) int {
			for j := range bounds {
				if sameKey(bounds[j], b) {
					return orders[i][j]
				}
			}
			return 0
		})
	}
	return places, chunks, nil
}
