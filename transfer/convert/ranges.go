package convert

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// Next is the end of the next range of about n objects behind a key; nil is the
// beginning. No objects is the end. Where the first table has no more objects the
// others are looked at, so that none is left out that only one of them names; if
// they sort in another way, what only they name belongs to the first range.
func (p *Prepared) Next(ctx context.Context, conn *client.Conn, after []rows.Cell, n int) (upto []rows.Cell, objects int, err error) {
	s, err := begin(ctx, conn, p.db.New)
	if err != nil {
		return nil, 0, p.wrap("find the next objects", err)
	}
	defer s.end()
	for i := range p.from {
		f := &p.from[i]
		if f.Via != "" || i > 0 && !p.key.driven {
			continue
		}
		pl := f.place()
		sql := fmt.Sprintf("SELECT %s FROM (SELECT DISTINCT %s FROM %s f WHERE %s ORDER BY %s LIMIT %d) f",
			p.key.read(pl), list("f.", f.keyColumns()), f.name(p.db), p.key.between(pl, after, nil), p.key.order(pl), max(n, 1))
		err := s.query(sql, func(values [][]byte) error {
			upto, err = p.key.cells(values)
			objects++
			return err
		})
		if err != nil || objects > 0 {
			return upto, objects, p.wrap("find the next objects", err)
		}
	}
	return nil, 0, nil
}

func (f *fromTable) place() place { return place{alias: "f", names: f.Key, plus: f.Plus} }

func (f *fromTable) keyColumns() []*rows.Column {
	columns := make([]*rows.Column, len(f.columns))
	for i, c := range f.columns {
		columns[i] = &f.table.Columns[c]
	}
	return columns
}

// objects are all objects that the old tables name in a range.
func (p *Prepared) objects(s *session, after, upto []rows.Cell) ([][]rows.Cell, error) {
	var keys [][]rows.Cell
	for i := range p.from {
		f := &p.from[i]
		if f.Via != "" {
			continue
		}
		condition := p.key.between(f.place(), after, upto)
		switch {
		case i > 0 && !p.key.driven && after != nil:
			continue
		case i > 0 && !p.key.driven:
			first := &p.from[0]
			condition = "NOT EXISTS (SELECT 1 FROM " + first.name(p.db) + " d WHERE " + p.sameObject(first, "d", "f", f.Key) + ")"
		}
		some, err := p.keysOf(s, "SELECT DISTINCT "+p.key.read(f.place())+" FROM "+f.name(p.db)+" f WHERE "+condition)
		if err != nil {
			return nil, err
		}
		keys = append(keys, some...)
	}
	return distinct(keys), nil
}

// ConvertRange makes the objects behind after up to and with upto, which were
// never made before, inside the caller's open transaction.
func (p *Prepared) ConvertRange(ctx context.Context, conn *client.Conn, after, upto []rows.Cell) (Result, error) {
	s, err := begin(ctx, conn, p.db.New)
	if err != nil {
		return Result{}, p.wrap("convert a range", err)
	}
	defer s.end()
	res, err := p.convertRange(s, after, upto)
	return res, p.wrap("convert a range", err)
}

func (p *Prepared) convertRange(s *session, after, upto []rows.Cell) (Result, error) {
	if after == nil {
		if err := p.wholeKeys(s); err != nil {
			return Result{}, err
		}
	}
	if p.asSet() {
		res, err := p.convertSet(s, after, upto)
		if _, data := asData(err); !data {
			return res, err
		}
		if _, err := s.exec("ROLLBACK TO SAVEPOINT imago_range"); err != nil {
			return Result{}, err
		}
	}
	keys, err := p.objects(s, after, upto)
	if err != nil {
		return Result{}, err
	}
	res, err := p.convert(s, keys)
	res.Objects = len(keys)
	return res, err
}

// asSet tells whether one statement can make a whole range.
func (p *Prepared) asSet() bool { return p.pool == nil && !p.stmt.params && p.sorted }

func (p *Prepared) convertSet(s *session, after, upto []rows.Cell) (Result, error) {
	var res Result
	if _, err := s.exec("SAVEPOINT imago_range"); err != nil {
		return res, err
	}
	var err error
	if res.Objects, err = p.count(s, after, upto); err != nil {
		return res, err
	}
	condition := p.key.between(p.selectPlace(), after, upto)
	if p.conv.Add {
		if err := p.aside.clear(s); err != nil {
			return res, err
		}
		if err := p.fillWhere(s, nil, condition); err != nil {
			return res, err
		}
		if res.Rows, err = p.addMissing(s, "TRUE"); err != nil {
			return res, err
		}
		return res, p.aside.drop(s)
	}
	r, err := s.exec(fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s c WHERE %s",
		p.targetName(), p.writtenList(""), p.writtenList("c."), p.derived(nil), condition))
	if err != nil {
		return res, err
	}
	res.Rows = int(r.AffectedRows)
	return res, nil
}

// count is the number of objects that the old tables name in a range.
func (p *Prepared) count(s *session, after, upto []rows.Cell) (int, error) {
	var parts []string
	for i := range p.from {
		f := &p.from[i]
		if f.Via != "" || i > 0 && !p.key.driven {
			continue
		}
		columns := list("f.", f.keyColumns())
		if f.Plus != 0 {
			columns = p.key.read(f.place())
		}
		parts = append(parts, fmt.Sprintf("SELECT DISTINCT %s FROM %s f WHERE %s", columns, f.name(p.db), p.key.between(f.place(), after, upto)))
	}
	return s.number("SELECT COUNT(*) FROM (" + strings.Join(parts, " UNION ") + ") f")
}

// wholeKeys refuses a SELECT with rows that belong to no object.
func (p *Prepared) wholeKeys(s *session) error {
	for _, part := range p.key.parts {
		if part.nullable {
			return nil // NULL is an object's key here
		}
	}
	if p.stmt.params {
		return nil
	}
	n, err := s.number(fmt.Sprintf("SELECT COUNT(*) FROM (SELECT 1 FROM %s c WHERE %s LIMIT 1) c", p.derived(nil), p.key.anyNull(p.selectPlace())))
	if err == nil && n > 0 {
		err = fmt.Errorf("the SELECT gives rows with NULL in the key %v: they would belong to no object", p.conv.Key)
	}
	return err
}
