package convert

import (
	"fmt"

	"imago.dev/imago/transfer/rows"
)

// Objects in one statement. More would have the optimizer give up on the list.
const (
	selectBatch  = 200
	programBatch = 50
)

// filling puts the rows of objects aside, object by object or many at once.
type filling struct {
	p    *Prepared
	s    *session
	done [][]rows.Cell // that were put aside or rejected before
}

// newFilling begins with nothing aside.
func (p *Prepared) newFilling(s *session) (*filling, error) {
	return &filling{p: p, s: s}, p.aside.clear(s)
}

// put puts objects aside and names those that could not be made.
func (f *filling) put(keys [][]rows.Cell) ([]Rejected, error) {
	size := selectBatch
	if f.p.pool != nil {
		size = programBatch
	}
	if f.p.perObject() {
		size = 1
	}
	var rejected []Rejected
	for len(keys) > 0 {
		n := min(size, len(keys))
		bad, err := narrow(keys[:n], f.some)
		if err != nil {
			return nil, err
		}
		rejected, keys = append(rejected, bad...), keys[n:]
	}
	return rejected, nil
}

// narrow halves a set of objects until those that the server refuses stand alone.
// do must leave nothing behind when it fails with a data error.
func narrow(keys [][]rows.Cell, do func([][]rows.Cell) ([]Rejected, error)) ([]Rejected, error) {
	rejected, err := do(keys)
	data, ok := asData(err)
	switch {
	case !ok:
		return rejected, err
	case len(keys) == 1:
		return []Rejected{{Key: keys[0], Reason: data.reason()}}, nil
	}
	half := len(keys) / 2
	first, err := narrow(keys[:half], do)
	if err != nil {
		return nil, err
	}
	second, err := narrow(keys[half:], do)
	return append(first, second...), err
}

func (f *filling) some(keys [][]rows.Cell) ([]Rejected, error) {
	var rejected []Rejected
	var err error
	if f.p.pool != nil {
		rejected, err = f.byProgram(keys)
	} else {
		err = f.bySelect(keys)
	}
	if _, data := asData(err); err == nil || data && len(keys) == 1 {
		f.done = append(f.done, keys...)
	}
	return rejected, err
}

// where is the condition for objects. Of two spellings of a key which the old
// tables take for the same, one was perhaps put aside before.
func (f *filling) where(keys [][]rows.Cell) string {
	pl := f.p.selectPlace()
	cond := f.p.key.in(pl, keys)
	if f.p.key.spelled && len(f.done) > 0 {
		cond += " AND " + f.p.key.in(pl, f.done) + " IS NOT TRUE"
	}
	return cond
}

func (f *filling) bySelect(keys [][]rows.Cell) error {
	if err := f.p.fillWhere(f.s, keys, f.where(keys)); err != nil {
		return err
	}
	return nil
}

// fillWhere lets the server put rows aside. One statement does all or nothing.
func (p *Prepared) fillWhere(s *session, keys [][]rows.Cell, condition string) error {
	_, err := s.exec(fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s c WHERE %s",
		p.aside.name, p.writtenList(""), p.writtenList("c."), p.derived(keys), condition))
	return err
}

// widen puts aside the objects, too, that the new table cannot tell from some of
// keys, or the old ones cannot: with another collation, the rows of one object here
// may be those of two there. Afterwards no row of the target is looked at whose
// object is not aside. It gives the additional objects.
func (f *filling) widen(keys [][]rows.Cell) (more [][]rows.Cell, rejected []Rejected, err error) {
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		seen[id(key)] = true
	}
	for look := keys; len(look) > 0; {
		found, err := f.spellings(look, seen)
		if err != nil {
			return nil, nil, err
		}
		bad, err := f.put(found)
		if err != nil {
			return nil, nil, err
		}
		rejected, more, look = append(rejected, bad...), append(more, found...), found
	}
	return more, rejected, nil
}

// spellings are the keys that rows aside and the target's rows of objects have,
// without those that were seen before.
func (f *filling) spellings(keys [][]rows.Cell, seen map[string]bool) ([][]rows.Cell, error) {
	p, found := f.p, [][]rows.Cell(nil)
	add := func(values [][]byte) error {
		key, err := p.key.cells(values)
		if err == nil && !seen[id(key)] {
			seen[id(key)] = true
			found = append(found, key)
		}
		return err
	}
	if err := f.s.query("SELECT DISTINCT "+p.key.read(p.asidePlace())+" FROM "+p.aside.name+" n", add); err != nil {
		return nil, err
	}
	t := p.targetPlace()
	for from := 0; from < len(keys); from += selectBatch {
		part := keys[from:min(from+selectBatch, len(keys))]
		if err := f.s.query("SELECT DISTINCT "+p.key.read(t)+" FROM "+p.targetName()+" t WHERE "+p.key.in(t, part), add); err != nil {
			return nil, err
		}
	}
	return found, nil
}
