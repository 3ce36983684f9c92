package convert

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// Convert makes objects anew, inside the caller's open transaction. What the
// server or the program refuses is in Result.Rejected, and its old rows stay; all
// other errors end the transaction's use.
func (p *Prepared) Convert(ctx context.Context, conn *client.Conn, keys [][]rows.Cell) (Result, error) {
	s, err := begin(ctx, conn, p.db.New)
	if err != nil {
		return Result{}, p.wrap("convert", err)
	}
	defer s.end()
	keys = distinct(keys)
	res, err := p.convert(s, keys)
	res.Objects = len(keys)
	return res, p.wrap("convert", err)
}

func (p *Prepared) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("conversion %q: %s: %w", p.conv.Name, doing, err)
}

// convert tries all objects at once. When some are refused it begins anew without
// them, so that an object is never refused for rows which a later one removes.
func (p *Prepared) convert(s *session, keys [][]rows.Cell) (Result, error) {
	var res Result
	for len(keys) > 0 {
		if _, err := s.exec("SAVEPOINT imago_convert"); err != nil {
			return res, err
		}
		n, bad, err := p.attempt(s, keys)
		if errors.Is(err, errEntangled) {
			err = nil
			if len(keys) > 1 {
				return p.oneByOne(s, keys, res)
			}
		}
		if err != nil {
			return res, err
		}
		if len(bad) == 0 {
			res.Rows += n
			_, err := s.exec("RELEASE SAVEPOINT imago_convert")
			return res, err
		}
		if _, err := s.exec("ROLLBACK TO SAVEPOINT imago_convert"); err != nil {
			return res, err
		}
		res.Rejected = append(res.Rejected, bad...)
		left := without(keys, rejectedKeys(bad))
		if len(left) == len(keys) {
			return res, fmt.Errorf("objects that nobody asked for were refused: %s", bad[0].Reason)
		}
		keys = left
	}
	return res, nil
}

// errEntangled: an object cannot be made that the new table cannot tell from one
// that was asked for.
var errEntangled = errors.New("another object with the same key in the new table cannot be made")

func (p *Prepared) oneByOne(s *session, keys [][]rows.Cell, res Result) (Result, error) {
	if _, err := s.exec("ROLLBACK TO SAVEPOINT imago_convert"); err != nil {
		return res, err
	}
	for i := range keys {
		one, err := p.convert(s, keys[i:i+1])
		res.Rows += one.Rows
		res.Rejected = append(res.Rejected, one.Rejected...)
		if err != nil {
			return res, err
		}
	}
	return res, nil
}

// attempt makes objects and tells how many rows it wrote. If some are refused, what
// it did is worth nothing.
func (p *Prepared) attempt(s *session, keys [][]rows.Cell) (int, []Rejected, error) {
	f, err := p.newFilling(s)
	if err != nil {
		return 0, nil, err
	}
	if bad, err := f.put(keys); err != nil || len(bad) > 0 {
		return 0, bad, err
	}
	if p.conv.Add {
		return p.insert(s, keys, p.addMissing)
	}
	if p.key.orderly {
		return p.replace(s, keys)
	}
	more, bad, err := f.widen(keys)
	if err != nil {
		return 0, nil, err
	}
	n := 0
	if len(bad) == 0 {
		n, bad, err = p.replace(s, append(keys[:len(keys):len(keys)], more...))
		if err != nil {
			return 0, nil, err
		}
	}
	if unasked := without(rejectedKeys(bad), keys); len(unasked) > 0 {
		first := bad[slices.IndexFunc(bad, func(r Rejected) bool { return id(r.Key) == id(unasked[0]) })]
		reason := fmt.Sprintf("%v: %s: %s", errEntangled, p.key.show(p.conv.Key, first.Key), first.Reason)
		return 0, []Rejected{{Key: keys[0], Reason: clean(reason)}}, errEntangled
	}
	return n, bad, nil
}

func rejectedKeys(rejected []Rejected) [][]rows.Cell {
	keys := make([][]rows.Cell, len(rejected))
	for i, r := range rejected {
		keys[i] = r.Key
	}
	return keys
}

// replace sets the rows of objects in the target to those aside. Rows that are
// there already are not touched; the others go first, so that nothing which moves
// from one row to another is ever there twice.
func (p *Prepared) replace(s *session, keys [][]rows.Cell) (int, []Rejected, error) {
	if p.auto != nil {
		q := rows.QuoteName(p.auto.Name)
		_, err := s.exec(fmt.Sprintf("UPDATE %s n JOIN %s t ON %s SET n.%s=t.%s WHERE n.%s IS NULL", p.aside.name, p.targetName(), p.sameIdentity(), q, q, q))
		if err != nil {
			return 0, nil, err
		}
	}
	for from := 0; from < len(keys); from += selectBatch {
		part := keys[from:min(from+selectBatch, len(keys))]
		_, err := s.exec(fmt.Sprintf("DELETE t FROM %s t LEFT JOIN %s n ON %s WHERE %s AND %s",
			p.targetName(), p.aside.name, p.sameRow(), p.key.in(p.targetPlace(), part), p.absent("n")))
		if err != nil {
			return 0, nil, err
		}
	}
	return p.insert(s, keys, p.insertMissing)
}

// insert writes the rows aside, first of all objects at once.
func (p *Prepared) insert(s *session, keys [][]rows.Cell, do func(*session, string) (int, error)) (int, []Rejected, error) {
	n, err := do(s, "TRUE")
	data, ok := asData(err)
	if !ok {
		return n, nil, err
	}
	// Narrowing inserts what can be, so of two objects that want the same the
	// second one is refused.
	bad, err := narrow(keys, func(some [][]rows.Cell) ([]Rejected, error) {
		if len(some) > selectBatch {
			return nil, data // longer than a condition may be, as if it had been refused
		}
		_, err := do(s, p.key.in(p.asidePlace(), some))
		return nil, err
	})
	if err == nil && len(bad) == 0 {
		err = fmt.Errorf("the rows of several objects together cannot be inserted: %w", data)
	}
	return 0, bad, err
}

func (p *Prepared) insertMissing(s *session, condition string) (int, error) {
	columns := p.asideColumns()
	r, err := s.exec(fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s n LEFT JOIN %s t ON %s WHERE %s AND %s",
		p.targetName(), list("", columns), list("n.", columns), p.aside.name, p.targetName(), p.sameRow(), p.absent("t"), condition))
	if err != nil {
		return 0, err
	}
	return int(r.AffectedRows), nil
}

// addMissing inserts the rows of objects of which the target has none.
func (p *Prepared) addMissing(s *session, condition string) (int, error) {
	r, err := s.exec(fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s n WHERE NOT EXISTS (SELECT 1 FROM %s t WHERE %s) AND %s",
		p.targetName(), p.writtenList(""), p.writtenList("n."), p.aside.name, p.targetName(), p.sameKey(), condition))
	if err != nil {
		return 0, err
	}
	return int(r.AffectedRows), nil
}
