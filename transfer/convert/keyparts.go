package convert

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"imago.dev/imago/transfer/rows"
)

// class groups the kinds whose values can be compared with one another.
type class string

const (
	numbers class = "a number"
	texts   class = "text"
	octets  class = "bytes"
	dates   class = "a date"
	single  class = "of its own kind"
	notAKey class = "no key"
)

func classOf(c *rows.Column) class {
	switch c.Kind {
	case rows.Int, rows.Uint, rows.Decimal, rows.Bit, rows.Year:
		return numbers
	case rows.Text, rows.Enum, rows.Set:
		return texts
	case rows.Bytes:
		return octets
	case rows.Date, rows.DateTime, rows.Timestamp:
		return dates
	case rows.Time, rows.Inet4, rows.Inet6, rows.UUID:
		return single
	case rows.Unsupported, rows.Float, rows.Double, rows.JSON, rows.Geometry:
	}
	return notAKey
}

// keyPartOf finds the common form of a key column: from are the old tables'
// columns, the first one of the table that drives the conversion, and target is
// the new table's.
func keyPartOf(from []*rows.Column, target *rows.Column) (keyPart, bool, error) {
	first := from[0]
	part := keyPart{col: rows.Column{Name: target.Name, Type: first.Type, Kind: first.Kind, Charset: first.Charset, Collation: first.Collation, Digits: first.Digits}}
	part.nullable = target.Nullable
	if classOf(first) == notAKey {
		return part, false, fmt.Errorf("column %q has type %s, which cannot name an object", first.Name, first.Type)
	}
	for _, c := range from {
		part.nullable = part.nullable || c.Nullable
		if classOf(c) != classOf(first) || classOf(c) == single && c.Kind != first.Kind {
			return part, false, fmt.Errorf("column %q of type %s cannot be compared with column %q of type %s: both are to hold the same key", c.Name, c.Type, first.Name, first.Type)
		}
	}
	part.mixed = !alike(from)
	orderly := !part.mixed && classOf(first) == classOf(target) && (classOf(first) != single || first.Kind == target.Kind)
	switch classOf(first) {
	case numbers:
		part.number(from)
	case texts:
		same, err := part.text(from, target)
		return part, orderly && same, err
	case dates:
		// Text of either kind is compared as a date by the server.
		part.col.Kind = rows.DateTime
	case octets, single, notAKey:
	}
	return part, orderly, nil
}

// alike tells whether columns sort their values in the same way.
func alike(columns []*rows.Column) bool {
	return !slices.ContainsFunc(columns, func(c *rows.Column) bool {
		return c.Charset != columns[0].Charset || c.Collation != columns[0].Collation ||
			(c.Kind == rows.Enum || c.Kind == rows.Set) != (columns[0].Kind == rows.Enum || columns[0].Kind == rows.Set)
	})
}

// number chooses a kind whose literals are bare digits.
func (p *keyPart) number(from []*rows.Column) {
	integers := !slices.ContainsFunc(from, func(c *rows.Column) bool { return c.Kind == rows.Decimal })
	switch {
	case !integers:
		p.col.Kind = rows.Decimal
	case p.col.Kind == rows.Year:
		p.col.Kind = rows.Uint
	}
}

// text chooses a character set that all tables' keys are written in, and tells
// whether all columns sort alike.
func (p *keyPart) text(from []*rows.Column, target *rows.Column) (bool, error) {
	all := append(slices.Clone(from), target)
	labels := func(c *rows.Column) bool { return c.Kind == rows.Enum || c.Kind == rows.Set }
	p.asText = slices.ContainsFunc(all, labels)
	sameSet := !slices.ContainsFunc(from, func(c *rows.Column) bool { return c.Charset != from[0].Charset })
	sameOrder := !slices.ContainsFunc(all, func(c *rows.Column) bool { return c.Charset != from[0].Charset || c.Collation != from[0].Collation })
	p.col.Kind = rows.Text
	if sameSet && !p.asText {
		return sameOrder, nil
	}
	for _, c := range from {
		if !transcodable(c.Charset) {
			return false, fmt.Errorf("column %q has character set %s, and the same key is elsewhere in another: only ascii, latin1 and utf8 can be mixed", c.Name, c.Charset)
		}
	}
	p.col.Charset, p.col.Collation = "utf8mb4", ""
	// As text in utf8mb4 they all sort by its default collation.
	return sameOrder || p.asText && !slices.ContainsFunc(all, func(c *rows.Column) bool { return !labels(c) }), nil
}

func transcodable(charset string) bool {
	return slices.Contains([]string{"ascii", "latin1", "utf8", "utf8mb3", "utf8mb4"}, charset)
}

// transcode turns a cell of an old table's key column into the common form.
func (p *keyPart) transcode(c *rows.Column, v rows.Cell) rows.Cell {
	if v == nil {
		return nil
	}
	if p.col.Kind == rows.Text && p.col.Charset == "utf8mb4" && c.Charset == "latin1" {
		return latin1(v)
	}
	return slices.Clone(v)
}

// latin1 is what servers mean by it: Windows' code page 1252, and the control
// characters of ISO 8859-1 where that has none.
func latin1(v []byte) []byte {
	out := make([]byte, 0, len(v)+8)
	for _, b := range v {
		r := rune(b)
		if b >= 0x80 && b < 0xa0 {
			r = windows[b-0x80]
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

var windows = [32]rune{
	0x20ac, 0x81, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160, 0x2039, 0x152, 0x8d, 0x17d, 0x8f,
	0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x2dc, 0x2122, 0x161, 0x203a, 0x153, 0x9d, 0x17e, 0x178,
}

// compare orders two keys where the order is known here.
func (k *objectKey) compare(a, b []rows.Cell) (int, bool) {
	t := rows.Table{}
	for i, part := range k.parts {
		if part.asText {
			return 0, false
		}
		t.Columns = append(t.Columns, part.col)
		t.Key = append(t.Key, i)
	}
	return rows.CompareKeys(&t, a, b)
}

// findColumn finds a column and tells what there is if it does not.
func findColumn(t *rows.Table, name string) (*rows.Column, error) {
	if i := t.Column(name); i >= 0 {
		return &t.Columns[i], nil
	}
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return nil, fmt.Errorf("table %q has no column %q; it has %s", t.Name.Table, name, strings.Join(names, ", "))
}

// findTable finds a table by its name alone: a schema is of one database here.
func findTable(s *rows.Schema, name string) *rows.Table {
	for _, t := range s.Tables {
		if t.Name.Table == name {
			return t
		}
	}
	return nil
}
