package apply

import (
	"slices"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// cascade is what a foreign key with an action does to a child's rows when a row
// of its parent goes or gets another key. The server does it inside of its engine,
// and nothing of it is in the log; so it is done here again, by hand.
type cascade struct {
	child *table
	name  string
	// parent and own are the columns of the parent and the child, by index.
	parent, own        []int
	onDelete, onUpdate string
}

const (
	setNull   = "SET NULL"
	cascading = "CASCADE"
)

func acts(rule string) bool { return rule == cascading || rule == setNull }

// cascades finds the foreign keys with actions and refuses those that cannot be
// repeated.
func (p *planner) cascades() {
	e := p.e
	for _, child := range e.tables {
		for _, f := range child.src.ForeignKeys {
			if !f.Cascades() {
				continue
			}
			parent := e.byName[rows.Name{Database: f.Database, Table: f.Table}]
			if slices.Contains(e.cfg.Skip, f.Table) && f.Database == e.cfg.From || f.Database != e.cfg.From {
				p.fault("foreign key %q of table %q changes rows when %q.%q changes (ON DELETE %s, ON UPDATE %s), unseen by the log, and that table is not transferred: skip %q as well, or change the foreign key to RESTRICT on production",
					f.Name, child.src.Table, f.Database, f.Table, f.OnDelete, f.OnUpdate, child.src.Table)
				continue
			}
			if parent == nil { // which is a fault of its own
				continue
			}
			if e.isShadow[child.src.Table] {
				p.fault("foreign key %q of table %q changes its rows when %q changes (ON DELETE %s, ON UPDATE %s), unseen by the log; a conversion reads the table, so its objects would not be made anew: change the foreign key to RESTRICT on production",
					f.Name, child.src.Table, f.Table, f.OnDelete, f.OnUpdate)
				continue
			}
			c := &cascade{child: child, name: f.Name, onDelete: f.OnDelete, onUpdate: f.OnUpdate}
			for i := range f.Columns {
				c.own = append(c.own, child.src.Column(f.Columns[i]))
				c.parent = append(c.parent, parent.src.Column(f.References[i]))
			}
			if why := c.unfit(parent); why != "" {
				p.fault("foreign key %q of table %q cannot be repeated: %s", f.Name, child.src.Table, why)
				continue
			}
			parent.cascades = append(parent.cascades, c)
		}
	}
}

func (c *cascade) unfit(parent *table) string {
	if slices.Contains(c.own, -1) || slices.Contains(c.parent, -1) {
		return "a column of it is unknown"
	}
	for _, rule := range []string{c.onDelete, c.onUpdate} {
		if strings.EqualFold(rule, "SET DEFAULT") {
			return "SET DEFAULT is not known to this engine"
		}
	}
	if c.child.identity == nil {
		return "the table is not copied as it is"
	}
	d := c.child.identity
	for at, i := range d.cols {
		if (slices.Contains(c.own, i) || slices.Contains(c.child.src.Key, i)) && (d.forms[at] != asIs || !ordersAlike(&d.src.Columns[i], d.parse[at])) {
			return "column " + d.src.Columns[i].Name + " has another type, character set or collation in the new database"
		}
	}
	for _, i := range c.own {
		if !slices.Contains(d.cols, i) {
			return "column " + d.src.Columns[i].Name + " is not written"
		}
	}
	return ""
}
