package apply

import (
	"fmt"
	"slices"
	"strings"

	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/rows"
)

// planner decides what becomes of each table of the source.
type planner struct {
	e      *Engine
	target *conn
	fresh  bool // the target's tables must be empty
	faults []error
}

func (p *planner) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Errorf(format, args...))
}

func (p *planner) run() {
	e := p.e
	into, adds := map[string]bool{}, map[string]bool{}
	for _, c := range e.cfg.Conversions {
		if c.Add {
			adds[c.Into] = true
		} else {
			into[c.Into] = true
		}
		if e.targetTable(c.Into) == nil {
			p.fault("conversion into %q: the new database %q has no such table", c.Into, e.cfg.To)
		}
		for _, f := range c.From {
			t := e.source.Table(rows.Name{Database: e.cfg.From, Table: f.Table})
			switch {
			case t == nil:
				p.fault("conversion into %q: the old database %q has no table %q", c.Into, e.cfg.From, f.Table)
			case slices.Contains(e.cfg.Skip, f.Table):
				p.fault("conversion into %q reads table %q, which is to be skipped", c.Into, f.Table)
			default:
				e.isShadow[f.Table] = true
			}
		}
	}
	for _, s := range e.cfg.Skip {
		if e.source.Table(rows.Name{Database: e.cfg.From, Table: s}) == nil {
			p.fault("table %q, which is to be skipped, is not in database %q", s, e.cfg.From)
		}
	}
	for name := range into {
		p.mustBeEmpty(name)
		p.fitTarget(name)
	}
	for name := range adds {
		p.fitTarget(name)
	}
	for _, src := range e.source.Tables {
		if !slices.Contains(e.cfg.Skip, src.Table) {
			// Add to a table that the conversion reads as well is no copy of it.
			made := into[src.Table] || slices.ContainsFunc(e.cfg.Conversions, func(c convert.Conversion) bool {
				return c.Into == src.Table && slices.ContainsFunc(c.From, func(f convert.From) bool { return f.Table == src.Table })
			})
			p.table(src, made, adds[src.Table])
		}
	}
	if len(e.tables) == 0 && len(p.faults) == 0 {
		p.fault("database %q has no table to transfer", e.cfg.From)
	}
	p.cascades()
}

func (p *planner) table(src *rows.Table, made, added bool) {
	e := p.e
	dst := e.targetTable(src.Table)
	identity, shadow := dst != nil && !made, e.isShadow[src.Table]
	if identity {
		if ok, why := convert.Keeps(src, dst); !ok {
			identity = false
			p.fault("table %q changed (%s), and no conversion makes it: add one, or skip the table", src.Table, strings.Join(why, "; "))
			return
		}
	}
	if !identity && !shadow {
		if made {
			p.fault("table %q is made by a conversion that does not read it: skip it, or add it to what the conversion reads", src.Table)
		} else {
			p.fault("table %q is neither in the new database %q nor read by a conversion: skip it, or add a conversion", src.Table, e.cfg.To)
		}
		return
	}
	if src.Unfit != "" {
		p.fault("table %q cannot be transferred: %s", src.Table, src.Unfit)
		return
	}
	if len(src.Key) == 0 {
		p.fault("table %q has no key: add a primary key, or a unique one without NULLs, or skip the table", src.Table)
		return
	}
	for _, k := range src.Key {
		switch c := &src.Columns[k]; c.Kind {
		case rows.Float, rows.JSON, rows.Geometry, rows.Unsupported:
			p.fault("table %q has a key with column %q of type %s, whose values cannot be looked up: add another key or skip the table", src.Table, c.Name, c.Type)
			return
		}
	}
	t := newTable(len(e.tables), src)
	e.tables = append(e.tables, t)
	e.byName[src.Name] = t
	if identity {
		p.fitTarget(src.Table)
		if !added {
			p.mustBeEmpty(src.Table)
		}
		t.added = added
		t.identity = newDest(src, dst, dst.Name)
		if c := t.identity.unfitKey(); c != "" {
			p.fault("table %q has another type of key column %q in the new database: add a conversion or skip the table", src.Table, c)
		}
		t.dests = append(t.dests, t.identity)
	}
	if shadow {
		t.dests = append(t.dests, newDest(src, src, rows.Name{Database: e.shadow, Table: src.Table}))
	}
}

// fitTarget refuses what would change written rows behind our back.
func (p *planner) fitTarget(name string) {
	dst := p.e.targetTable(name)
	if dst == nil {
		return
	}
	if len(dst.Triggers) > 0 {
		p.fault("the new table %q has triggers (%s), which would run a second time for changes that production's already made: drop them until the switch is done",
			name, strings.Join(dst.Triggers, ", "))
	}
	if !strings.EqualFold(dst.Engine, "InnoDB") {
		p.fault("the new table %q has engine %s, which has no transactions: change it to InnoDB", name, dst.Engine)
	}
}

func (p *planner) mustBeEmpty(name string) {
	dst := p.e.targetTable(name)
	if dst == nil || !p.fresh {
		return
	}
	n, err := p.target.exec("SELECT 1 FROM " + dst.SQL() + " LIMIT 1")
	switch {
	case err != nil:
		p.fault("look whether the new table %q is empty: %w", name, err)
	case n > 0:
		p.fault("the new table %q has rows already: empty it first", name)
	}
}

func (e *Engine) targetTable(name string) *rows.Table {
	return e.target.Table(rows.Name{Database: e.cfg.To, Table: name})
}
