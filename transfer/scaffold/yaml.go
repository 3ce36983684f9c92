package scaffold

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/rows"
)

// WriteYAML writes the plan's part: which tables are skipped and how others are
// made, with what is left to do marked by TODO, and why in comments.
func (r *Report) WriteYAML(w io.Writer) error {
	y := &writer{}
	y.kept(r.Kept)
	y.skip(r)
	y.conversions(r)
	y.newTables(r.New)
	if _, err := w.Write(y.b.Bytes()); err != nil {
		return fmt.Errorf("write the plan's part: %w", err)
	}
	return nil
}

type writer struct{ b bytes.Buffer }

func (y *writer) line(format string, args ...any) { fmt.Fprintf(&y.b, format+"\n", args...) }

// comment writes a text that may hold anything as a comment of one line.
func (y *writer) comment(indent, format string, args ...any) {
	y.line("%s# %s", indent, printable(fmt.Sprintf(format, args...)))
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

func (y *writer) kept(kept []Kept) {
	if len(kept) == 0 {
		y.comment("", "No table goes over as it is.")
		return
	}
	y.comment("", "These %d tables go over as they are:", len(kept))
	var plain []string
	for _, k := range kept {
		if len(k.Notes) == 0 {
			plain = append(plain, k.Table)
		}
	}
	y.wrapped(plain)
	for _, k := range kept {
		for i, n := range k.Notes {
			lead := k.Table + ": "
			if i > 0 {
				lead = strings.Repeat(" ", len(k.Table)+2)
			}
			y.comment("", "  %s%s", lead, n)
		}
	}
}

func (y *writer) wrapped(names []string) {
	line := ""
	for _, n := range names {
		if line != "" && len(line)+len(n) > 100 {
			y.comment("", "  %s", line)
			line = ""
		}
		if line != "" {
			line += ", "
		}
		line += n
	}
	if line != "" {
		y.comment("", "  %s", line)
	}
}

func (y *writer) skip(r *Report) {
	if len(r.Skipped)+len(r.Gone)+len(r.Unfit) == 0 {
		y.line("skip: []")
		return
	}
	y.line("skip:")
	for _, name := range r.Skipped {
		y.line("  - %s", scalar(name))
	}
	for _, k := range r.Unfit {
		y.line("  - %s  # TODO: cannot be transferred: %s", scalar(k.Table), printable(strings.Join(k.Notes, "; ")))
	}
	for _, name := range r.Gone {
		y.line("  - %s  # TODO: is not in the new database; take it out of here if a conversion reads it", scalar(name))
	}
}

func (y *writer) conversions(r *Report) {
	if len(r.Changed)+len(r.Renamed) == 0 {
		y.line("conversions: []")
		return
	}
	y.line("conversions:")
	for _, c := range r.Changed {
		y.conversion(c)
	}
	for _, c := range r.Renamed {
		y.conversion(c)
	}
}

func (y *writer) conversion(c Changed) {
	for _, why := range c.Why {
		y.comment("  ", "%s: %s", c.New.Name.Table, why)
	}
	if unused := missing(c.Old, c.New); len(unused) > 0 {
		y.comment("  ", "TODO: the new table has no place for %s", strings.Join(unused, ", "))
	}
	key := objectKey(c.Old, c.New)
	y.line("  - into: %s", scalar(c.New.Name.Table))
	y.line("    key: [%s]", scalars(key))
	y.line("    from:")
	y.line("      - {table: %s, key: [%s]}", scalar(c.Old.Name.Table), scalars(key))
	y.sql("    select: ", selectFor(c.Old, c.New))
}

// objectKey are the columns that name a row on both sides: the new table's key,
// else the old one's.
func objectKey(old, now *rows.Table) []string {
	for _, side := range [][2]*rows.Table{{now, old}, {old, now}} {
		names := columnNames(side[0], side[0].Key)
		if len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return side[1].Column(n) < 0 }) {
			return names
		}
	}
	return []string{"TODO"}
}

// missing are the old columns that the new table lacks.
func missing(old, now *rows.Table) []string {
	var names []string
	for _, c := range old.Columns {
		if now.Column(c.Name) < 0 && !c.Generated {
			names = append(names, c.Name+" ("+c.Type+")")
		}
	}
	return names
}

// selectFor lists the columns of both sides, and TODO where there is nothing to
// select: the server refuses that by name until it is replaced.
func selectFor(old, now *rows.Table) string {
	type item struct{ sql, remark string }
	var items []item
	var left []string
	for i := range now.Columns {
		c := &now.Columns[i]
		j := old.Column(c.Name)
		switch {
		case c.Generated:
		case j >= 0 && convert.KeepsColumn(&old.Columns[j], c) == "":
			items = append(items, item{"o." + rows.QuoteName(old.Columns[j].Name) + alias(old.Columns[j].Name, c.Name), ""})
		case j >= 0:
			remark := "TODO: " + convert.KeepsColumn(&old.Columns[j], c)
			items = append(items, item{"o." + rows.QuoteName(old.Columns[j].Name) + alias(old.Columns[j].Name, c.Name), remark})
		case c.Nullable || c.Default != nil || c.AutoIncrement:
			left = append(left, fmt.Sprintf("TODO: new column %s (%s) gets %s unless it is given here", c.Name, c.Type, fills(c)))
		default:
			items = append(items, item{"TODO AS " + rows.QuoteName(c.Name), "new: " + c.Type + " without default"})
		}
	}
	var b strings.Builder
	b.WriteString("SELECT\n")
	for i, it := range items {
		b.WriteString("  " + it.sql)
		if i < len(items)-1 {
			b.WriteByte(',')
		}
		if it.remark != "" {
			b.WriteString("  -- " + printable(it.remark))
		}
		b.WriteByte('\n')
	}
	for _, l := range left {
		b.WriteString("  -- " + printable(l) + "\n")
	}
	b.WriteString("FROM {old}." + rows.QuoteName(old.Name.Table) + " o\n")
	return b.String()
}

func alias(was, is string) string {
	if was == is {
		return ""
	}
	return " AS " + rows.QuoteName(is)
}

// sql writes a text of several lines as a block, or quoted where a name in it
// would break that.
func (y *writer) sql(lead, sql string) {
	if strings.ContainsFunc(sql, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) || strings.Contains(sql, "\n\n") {
		y.line("%s%s", lead, quoted(sql))
		return
	}
	y.line("%s|", lead)
	for l := range strings.Lines(sql) {
		y.b.WriteString("      " + l)
	}
}

func (y *writer) newTables(names []string) {
	if len(names) == 0 {
		return
	}
	y.comment("", "Only in the new database, and left as its installer made them unless a conversion fills them:")
	y.wrapped(names)
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// scalar is a name as YAML reads it back.
func scalar(name string) string {
	reserved := []string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
	if plainName.MatchString(name) && !slices.Contains(reserved, strings.ToLower(name)) {
		return name
	}
	return quoted(name)
}

func scalars(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = scalar(n)
	}
	return strings.Join(out, ", ")
}

// quoted is a JSON string, which is one of YAML, too.
func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // of a string it cannot fail
	return strings.TrimSpace(b.String())
}
