package apply

import (
	"slices"
	"sync"

	"imago.dev/imago/transfer/rows"
)

// copyState is how far the first copy of one table is.
type copyState struct {
	planning sync.Mutex // held while the end of the next chunk is looked up

	todo     []span   // not yet in a chunk, in order
	flying   []*chunk // being copied
	done     []span   // copied; neighbours are one
	next     int64    // number of the next chunk
	copied   bool     // nothing is left to do
	verified bool     // and all of it was compared

	unverified []*chunk // copied, to be compared
	comparing  int
	chunks     int // copied

	// touched are the keys that the stream changed before the table was verified:
	// the copy leaves them out, and so does its comparison.
	touched map[string]struct{}
	resumed []span // what the state had done, until todo is made of it

	// delta is what the stream added to the number of rows.
	delta    int64
	compared bool // at least one row was compared, and the state says so
}

// chunk is a range of one table.
type chunk struct {
	t    *table
	n    int64
	span span
	rows uint64 // copied
	done chan struct{}
}

// where tells what the copy did about a key.
type where uint8

const (
	ahead  where = iota // not copied, and nobody is at it
	flying              // being copied now
	behind              // copied
)

// add puts a span to the done ones. The bytes of bounds are equal where spans meet.
func (s *copyState) add(n span) {
	s.done = append(s.done, n)
	for {
		joined := false
		for i := 0; i < len(s.done) && !joined; i++ {
			for j := range s.done {
				if i != j && s.done[i].hi != nil && s.done[j].lo != nil && sameKey(s.done[i].hi, s.done[j].lo) {
					s.done[i].hi = s.done[j].hi
					s.done = slices.Delete(s.done, j, j+1)
					joined = true
					break
				}
			}
		}
		if !joined {
			return
		}
	}
}

func sameKey(a, b []rows.Cell) bool {
	return slices.EqualFunc(a, b, func(x, y rows.Cell) bool { return string(x) == string(y) })
}

// bounds are all the ends of spans that are done or being copied.
func (s *copyState) bounds() [][]rows.Cell {
	var all [][]rows.Cell
	add := func(k []rows.Cell) {
		if k != nil && !slices.ContainsFunc(all, func(o []rows.Cell) bool { return sameKey(o, k) }) {
			all = append(all, k)
		}
	}
	for _, d := range s.done {
		add(d.lo)
		add(d.hi)
	}
	for _, c := range s.flying {
		add(c.span.lo)
		add(c.span.hi)
	}
	return all
}

// locate finds the place of a key, given how it compares with a bound: -1, 0 or 1.
func (s *copyState) locate(compare func(bound []rows.Cell) int) (where, *chunk) {
	in := func(p span) bool {
		return (p.lo == nil || compare(p.lo) > 0) && (p.hi == nil || compare(p.hi) <= 0)
	}
	for _, c := range s.flying {
		if in(c.span) {
			return flying, c
		}
	}
	if slices.ContainsFunc(s.done, in) {
		return behind, nil
	}
	return ahead, nil
}

// gaps are what lies between done spans, in order: what a table that is gone on
// with has left to copy. compare orders bounds.
func gaps(done []span, compare func(a, b []rows.Cell) (int, error)) ([]span, error) {
	begins, ends := map[string]bool{}, map[string]bool{}
	for _, s := range done {
		begins[boundName(s.lo)] = true
		ends[boundName(s.hi)] = true
	}
	if len(done) == 0 {
		return []span{{}}, nil
	}
	// Where something ends and nothing begins, a gap opens; where something begins
	// and nothing ends, it closes. In order they take turns.
	var open, closing [][]rows.Cell
	for _, s := range done {
		if s.hi != nil && !begins[boundName(s.hi)] {
			open = append(open, s.hi)
		}
		if s.lo != nil && !ends[boundName(s.lo)] {
			closing = append(closing, s.lo)
		}
	}
	var failed error
	order := func(a, b []rows.Cell) int {
		n, err := compare(a, b)
		if err != nil {
			failed = err
		}
		return n
	}
	slices.SortFunc(open, order)
	slices.SortFunc(closing, order)
	if failed != nil {
		return nil, failed
	}
	if !begins["-"] {
		open = append([][]rows.Cell{nil}, open...)
	}
	var out []span
	for i, lo := range open {
		g := span{lo: lo}
		if i < len(closing) {
			g.hi = closing[i]
		}
		out = append(out, g)
	}
	return out, nil
}

func boundName(k []rows.Cell) string {
	if k == nil {
		return "-"
	}
	return "=" + string(appendKey(nil, k))
}
