// Package scaffold writes the part of a plan that says how tables become the new
// version's: it compares two schemas and leaves to the user only what truly
// changed.
//
// It reads no database and changes nothing; it owns the words, not the rules: what
// counts as kept is convert.Keeps.
package scaffold

import (
	"fmt"
	"slices"
	"strings"

	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/rows"
)

// Report is what two schemas have in common and what not. Tables are in the order
// of their names.
type Report struct {
	// Kept need nothing: their rows go over as they are.
	Kept []Kept
	// Changed need a conversion.
	Changed []Changed
	// Renamed are new tables that look like an old one which is gone.
	Renamed []Changed
	// Gone are only in the old database, New only in the new one.
	Gone, New []string
	// Unfit are tables that cannot be transferred, with the reason.
	Unfit []Kept
	// Skipped were left out by the plan.
	Skipped []string
}

// Kept is a table with what may be said of it.
type Kept struct {
	Table string
	Notes []string
}

// Changed is a table of the new database that a conversion must make.
type Changed struct {
	Why      []string
	Old, New *rows.Table
}

// Compare sets the tables of two schemas against each other by name, without
// those that a plan skips.
func Compare(source, target *rows.Schema, skip []string) *Report {
	r := &Report{}
	gone := map[string]*rows.Table{}
	for _, old := range sorted(source) {
		name := old.Name.Table
		now := find(target, name)
		switch reason := unfit(old); {
		case slices.Contains(skip, name):
			r.Skipped = append(r.Skipped, name)
		case reason != "":
			r.Unfit = append(r.Unfit, Kept{name, []string{reason}})
		case now == nil:
			gone[name] = old
			r.Gone = append(r.Gone, name)
		default:
			r.both(old, now)
		}
	}
	for _, now := range sorted(target) {
		if find(source, now.Name.Table) != nil {
			continue
		}
		if old := resembling(now, gone); old != nil {
			r.Renamed = append(r.Renamed, Changed{[]string{fmt.Sprintf("%q is gone and has much the same columns", old.Name.Table)}, old, now})
			r.Gone = slices.DeleteFunc(r.Gone, func(s string) bool { return s == old.Name.Table })
			delete(gone, old.Name.Table)
			continue
		}
		r.New = append(r.New, now.Name.Table)
	}
	return r
}

func (r *Report) both(old, now *rows.Table) {
	if ok, why := convert.Keeps(old, now); !ok {
		r.Changed = append(r.Changed, Changed{why, old, now})
		return
	}
	r.Kept = append(r.Kept, Kept{old.Name.Table, notes(old, now)})
}

func sorted(s *rows.Schema) []*rows.Table {
	tables := slices.Clone(s.Tables)
	slices.SortFunc(tables, func(a, b *rows.Table) int { return strings.Compare(a.Name.Table, b.Name.Table) })
	return tables
}

func find(s *rows.Schema, name string) *rows.Table {
	i := slices.IndexFunc(s.Tables, func(t *rows.Table) bool { return t.Name.Table == name })
	if i < 0 {
		return nil
	}
	return s.Tables[i]
}

// unfit says why a table's rows cannot be transferred.
func unfit(t *rows.Table) string {
	if t.Unfit != "" {
		return t.Unfit
	}
	for _, c := range t.Columns {
		if c.Kind == rows.Unsupported {
			return fmt.Sprintf("column %q has type %s, whose values cannot be transferred", c.Name, c.Type)
		}
	}
	if len(t.Key) == 0 {
		return "it has neither a primary key nor a unique one without NULLs"
	}
	return ""
}

// resembling finds the table that is gone and shares most columns, by name, and at
// least half of all that either has.
func resembling(now *rows.Table, gone map[string]*rows.Table) *rows.Table {
	var best *rows.Table
	most := 0
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range gone {
			if !yield(n) {
				return
			}
		}
	}) {
		old := gone[name]
		shared := 0
		for _, c := range old.Columns {
			if now.Column(c.Name) >= 0 {
				shared++
			}
		}
		if all := len(old.Columns) + len(now.Columns) - shared; shared > most && 2*shared >= all {
			best, most = old, shared
		}
	}
	return best
}

// notes are differences that need nothing but should be known.
func notes(old, now *rows.Table) []string {
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	for i := range now.Columns {
		c := &now.Columns[i]
		j := old.Column(c.Name)
		if j < 0 {
			note("new column %q gets %s", c.Name, fills(c))
			continue
		}
		was := &old.Columns[j]
		if was.Type != c.Type {
			note("%q was %s, is %s", c.Name, was.Type, c.Type)
		}
		switch {
		case was.Charset != c.Charset:
			note("%q was in %s, is in %s", c.Name, was.Charset, c.Charset)
		case was.Collation != c.Collation:
			note("%q was compared by %s, is by %s", c.Name, was.Collation, c.Collation)
		}
		if was.Generated != c.Generated || was.Nullable != c.Nullable && c.Nullable {
			note("%q %s", c.Name, map[bool]string{true: "may be NULL now", false: "is computed differently"}[c.Nullable && !was.Nullable])
		}
	}
	for _, c := range old.Columns {
		if now.Column(c.Name) < 0 {
			note("generated column %q is gone", c.Name)
		}
	}
	for _, u := range now.Unique {
		if names := columnNames(now, u); !hasUnique(old, names) {
			note("the key (%s) is unique now: rows that share one stop the transfer", strings.Join(names, ", "))
		}
	}
	if len(now.Triggers) > 0 {
		note("the new table has triggers that will run: %s", strings.Join(now.Triggers, ", "))
	}
	return notes
}

// fills says what a column that is not given gets.
func fills(c *rows.Column) string {
	switch {
	case c.Generated:
		return "what it is computed from"
	case c.AutoIncrement:
		return "the next number"
	case c.Default != nil:
		return "its default " + *c.Default
	}
	return "NULL"
}

func columnNames(t *rows.Table, index []int) []string {
	names := make([]string, len(index))
	for i, c := range index {
		names[i] = t.Columns[c].Name
	}
	return names
}

func hasUnique(t *rows.Table, names []string) bool {
	for _, u := range append([][]int{t.Key}, t.Unique...) {
		has := columnNames(t, u)
		if len(u) > 0 && !slices.ContainsFunc(has, func(n string) bool {
			return !slices.ContainsFunc(names, func(m string) bool { return strings.EqualFold(m, n) })
		}) {
			return true
		}
	}
	return false
}
