package convert

import (
	"fmt"
	"slices"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// findWritten settles which columns of the target are written and how its rows are
// told apart.
func (p *Prepared) findWritten() []error {
	var faults []error
	for _, name := range p.conv.Key {
		if !slices.ContainsFunc(p.selected, func(c selectedColumn) bool { return strings.EqualFold(c.name, name) }) {
			faults = append(faults, fmt.Errorf("the SELECT does not give the key's column %q", name))
		}
	}
	if p.conv.Program == nil {
		faults = append(faults, p.writtenBySelect()...)
	} else {
		for i := range p.target.Columns {
			if c := &p.target.Columns[i]; !c.Generated {
				p.written = append(p.written, c)
			}
		}
	}
	if len(faults) > 0 {
		return faults
	}
	if err := p.findIdentity(); err != nil && !p.conv.Add {
		faults = append(faults, err)
	}
	return faults
}

func (p *Prepared) writtenBySelect() []error {
	var faults []error
	for _, s := range p.selected {
		c, err := findColumn(p.target, s.name)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("the SELECT gives %q: %w", s.name, err))
		case c.Generated:
			faults = append(faults, fmt.Errorf("the SELECT gives %q, which the server generates", s.name))
		default:
			p.written = append(p.written, c)
		}
	}
	for i := range p.target.Columns {
		c := &p.target.Columns[i]
		if !c.Generated && !c.Nullable && !c.AutoIncrement && c.Default == nil && !slices.Contains(p.written, c) {
			faults = append(faults, fmt.Errorf("the SELECT does not give column %q of %q, which has no default", c.Name, p.conv.Into))
		}
	}
	return faults
}

// findIdentity prefers the target's own key; where the server gives that, another
// unique key does, and rows keep what they were given.
func (p *Prepared) findIdentity() error {
	for _, index := range append([][]int{p.target.Key}, p.target.Unique...) {
		var columns []*rows.Column
		for _, i := range index {
			columns = append(columns, &p.target.Columns[i])
		}
		if len(columns) == 0 || slices.ContainsFunc(columns, func(c *rows.Column) bool { return !p.gives(c) }) {
			continue
		}
		p.identity = columns
		for i := range p.target.Columns {
			if c := &p.target.Columns[i]; c.AutoIncrement && !slices.Contains(columns, c) && !p.selects(c) {
				p.auto = c
			}
		}
		return nil
	}
	return fmt.Errorf("the SELECT gives neither all columns of the key of %q nor all of a unique key: its rows could not be told apart", p.conv.Into)
}

func (p *Prepared) selects(c *rows.Column) bool {
	return p.conv.Program == nil && slices.Contains(p.written, c)
}

// gives tells whether every row will have a value for a column. A program is
// expected to leave an AUTO_INCREMENT column that is no key of objects to the server.
func (p *Prepared) gives(c *rows.Column) bool {
	if !slices.Contains(p.written, c) {
		return false
	}
	return p.conv.Program == nil || !c.AutoIncrement || p.keyIndex(c.Name) >= 0
}
