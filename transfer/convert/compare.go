package convert

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// CompareRange converts a range aside and compares it with the table: how many
// objects were compared, and those that differ. The range that ends with the last
// object has no end here: what the table has behind it is different, too. With Add,
// it looks only for objects that are missing.
//
// On a connection without a snapshot of its own, an object that is changed
// meanwhile is looked at again before it is called different.
func (p *Prepared) CompareRange(ctx context.Context, conn *client.Conn, after, upto []rows.Cell) (compared int, different [][]rows.Cell, err error) {
	s, err := begin(ctx, conn, p.db.New)
	if err != nil {
		return 0, nil, p.wrap("compare a range", err)
	}
	defer s.end()
	compared, different, err = p.compareRange(s, after, upto)
	return compared, different, p.wrap("compare a range", err)
}

// CompareObjects does the same for single objects.
func (p *Prepared) CompareObjects(ctx context.Context, conn *client.Conn, keys [][]rows.Cell) (different [][]rows.Cell, err error) {
	s, err := begin(ctx, conn, p.db.New)
	if err != nil {
		return nil, p.wrap("compare objects", err)
	}
	defer s.end()
	different, err = p.compareObjects(s, distinct(keys))
	return different, p.wrap("compare objects", err)
}

func (p *Prepared) compareRange(s *session, after, upto []rows.Cell) (int, [][]rows.Cell, error) {
	compared, err := p.count(s, after, upto)
	if err != nil {
		return 0, nil, err
	}
	if after == nil {
		if err := p.wholeKeys(s); err != nil {
			return 0, nil, err
		}
	}
	if last, err := p.last(s, upto); err != nil {
		return 0, nil, err
	} else if last {
		upto = nil
	}
	suspects, err := p.suspects(s, after, upto)
	if err == nil && len(suspects) == 0 {
		err = p.aside.drop(s)
	}
	if err != nil || len(suspects) == 0 {
		return compared, nil, err
	}
	if err := p.named(s, suspects); err != nil {
		return compared, nil, err
	}
	different, err := p.compareObjects(s, suspects)
	return compared, different, err
}

// last tells whether no old table names an object behind a key.
func (p *Prepared) last(s *session, upto []rows.Cell) (bool, error) {
	if upto == nil {
		return true, nil
	}
	for i := range p.from {
		f := &p.from[i]
		if f.Via != "" {
			continue
		}
		n, err := s.number(fmt.Sprintf("SELECT COUNT(*) FROM (SELECT 1 FROM %s f WHERE %s LIMIT 1) f", f.name(p.db), p.key.between(f.place(), upto, nil)))
		if err != nil || n > 0 {
			return false, err
		}
	}
	return true, nil
}

// suspects are objects of a range that seem to differ, and those whose rows the
// SELECT gives though no old table names them.
func (p *Prepared) suspects(s *session, after, upto []rows.Cell) ([][]rows.Cell, error) {
	if !p.asSet() || !p.key.orderly || !p.key.driven {
		keys, err := p.objects(s, after, upto)
		if err != nil {
			return nil, err
		}
		different, err := p.compareObjects(s, keys)
		if err != nil || p.conv.Add || after != nil {
			return different, err
		}
		extra, err := p.unnamed(s, "SELECT DISTINCT "+p.key.read(p.targetPlace())+" FROM "+p.targetName()+" t", "t")
		return distinct(append(different, extra...)), err
	}
	if err := p.aside.clear(s); err != nil {
		return nil, err
	}
	err := p.fillWhere(s, nil, p.key.between(p.selectPlace(), after, upto))
	if _, data := asData(err); data {
		return p.objects(s, after, upto)
	}
	if err != nil {
		return nil, err
	}
	keys, err := p.differences(s, p.key.between(p.targetPlace(), after, upto))
	if err != nil {
		return nil, err
	}
	strangers, err := p.unnamed(s, "SELECT DISTINCT "+p.key.read(p.asidePlace())+" FROM "+p.aside.name+" n", "n")
	return distinct(append(keys, strangers...)), err
}

// unnamed adds to a query of keys that no old table may have them.
func (p *Prepared) unnamed(s *session, query, alias string) ([][]rows.Cell, error) {
	sep := " WHERE "
	for i := range p.from {
		f := &p.from[i]
		if f.Via != "" {
			continue
		}
		query += sep + "NOT EXISTS (SELECT 1 FROM " + f.name(p.db) + " f WHERE " + p.sameObject(f, "f", alias, p.conv.Key) + ")"
		sep = " AND "
	}
	return p.keysOf(s, query)
}

// sameObject joins a row of an old table with one that has an object's key in the
// columns names. A text is put into the old column's set first, so that its index
// can be used.
func (p *Prepared) sameObject(f *fromTable, old, other string, names []string) string {
	terms := make([]string, len(names))
	for i, name := range names {
		c := &f.table.Columns[f.columns[i]]
		expr := other + "." + rows.QuoteName(name)
		switch {
		case p.key.parts[i].asText:
			expr = "CONVERT(" + expr + " USING utf8mb4)"
		case classOf(c) == texts:
			expr = "CONVERT(" + expr + " USING " + c.Charset + ") COLLATE " + c.Collation
		case f.Plus != 0 && i == len(names)-1:
			expr = fmt.Sprintf("CAST(%s AS DECIMAL(30))-(%d)", expr, f.Plus)
		}
		terms[i] = p.key.expr(place{alias: old, names: f.Key}, i) + " <=> " + expr
	}
	return strings.Join(terms, " AND ")
}

// named refuses a SELECT with keys that no old table has: a change would never
// reach such an object. It looks once more, since rows may have come and gone.
func (p *Prepared) named(s *session, keys [][]rows.Cell) error {
	if !p.asSet() {
		return nil
	}
	for from := 0; from < len(keys); from += selectBatch {
		part := keys[from:min(from+selectBatch, len(keys))]
		if err := p.aside.clear(s); err != nil {
			return err
		}
		err := p.fillWhere(s, nil, p.key.in(p.selectPlace(), part))
		if _, data := asData(err); data {
			continue // refused objects are told apart below
		}
		if err != nil {
			return err
		}
		strangers, err := p.unnamed(s, "SELECT DISTINCT "+p.key.read(p.asidePlace())+" FROM "+p.aside.name+" n", "n")
		if err != nil {
			return err
		}
		if len(strangers) > 0 {
			return fmt.Errorf("the SELECT gives rows of the object %s, which no table of from has: a change would not reach it", p.key.show(p.conv.Key, strangers[0]))
		}
	}
	return nil
}

func (p *Prepared) compareObjects(s *session, keys [][]rows.Cell) ([][]rows.Cell, error) {
	var different [][]rows.Cell
	const atOnce = 10 * selectBatch
	for from := 0; from < len(keys); from += atOnce {
		some, err := p.compareSome(s, keys[from:min(from+atOnce, len(keys))])
		if err != nil {
			return nil, err
		}
		different = append(different, some...)
	}
	return distinct(different), p.aside.drop(s)
}

func (p *Prepared) compareSome(s *session, keys [][]rows.Cell) ([][]rows.Cell, error) {
	f, err := p.newFilling(s)
	if err != nil {
		return nil, err
	}
	// What cannot be made cannot be what is there.
	rejected, err := f.put(keys)
	if err != nil {
		return nil, err
	}
	different := rejectedKeys(rejected)
	keys = without(keys, different)
	if !p.key.orderly && !p.conv.Add {
		more, bad, err := f.widen(keys)
		if err != nil {
			return nil, err
		}
		different = append(different, rejectedKeys(bad)...)
		keys = append(keys, more...)
	}
	for from := 0; from < len(keys) || from == 0; from += selectBatch {
		part := keys[from:min(from+selectBatch, len(keys))]
		some, err := p.extra(s, p.key.in(p.targetPlace(), part))
		if err != nil {
			return nil, err
		}
		different = append(different, some...)
	}
	missing, err := p.missing(s)
	return append(different, missing...), err
}

// differences are the objects whose rows aside are not those of the target.
func (p *Prepared) differences(s *session, condition string) ([][]rows.Cell, error) {
	extra, err := p.extra(s, condition)
	if err != nil {
		return nil, err
	}
	missing, err := p.missing(s)
	return distinct(append(extra, missing...)), err
}

// extra are the objects that have rows in the target which are not aside.
func (p *Prepared) extra(s *session, condition string) ([][]rows.Cell, error) {
	if p.conv.Add {
		return nil, nil
	}
	return p.keysOf(s, fmt.Sprintf("SELECT DISTINCT %s FROM %s t LEFT JOIN %s n ON %s WHERE %s AND %s",
		p.key.read(p.targetPlace()), p.targetName(), p.aside.name, p.sameRow(), p.absent("n"), condition))
}

// missing are the objects that have rows aside which are not in the target.
func (p *Prepared) missing(s *session) ([][]rows.Cell, error) {
	n := p.key.read(p.asidePlace())
	if p.conv.Add {
		return p.keysOf(s, fmt.Sprintf("SELECT DISTINCT %s FROM %s n WHERE NOT EXISTS (SELECT 1 FROM %s t WHERE %s)", n, p.aside.name, p.targetName(), p.sameKey()))
	}
	return p.keysOf(s, fmt.Sprintf("SELECT DISTINCT %s FROM %s n LEFT JOIN %s t ON %s WHERE %s",
		n, p.aside.name, p.targetName(), p.sameRow(), p.absent("t")))
}

func (p *Prepared) keysOf(s *session, sql string) ([][]rows.Cell, error) {
	var keys [][]rows.Cell
	err := s.query(sql, func(values [][]byte) error {
		key, err := p.key.cells(values)
		keys = append(keys, key)
		return err
	})
	return keys, err
}
