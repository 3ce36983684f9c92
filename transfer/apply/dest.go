package apply

import (
	"bytes"
	"strconv"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// dest is one table of the target that takes the rows of a table of the source: the
// new version's own, or the exact copy that conversions read.
type dest struct {
	sql  string // its name
	src  *rows.Table
	cols []int // columns of the source that are written
	// unique are columns of the source in unique keys: a row that changes one is
	// removed and written anew, after all removals.
	unique map[int]bool
	// always are columns that an UPDATE names in any case, so that the server does
	// not set them by itself.
	always map[int]bool

	names    []string // by column of the source, quoted
	keyNames []string
	keyCols  []*rows.Column
	insert   string

	// The columns compared are cols, each through a form.
	forms  []form
	list   string         // selects them here
	parse  []*rows.Column // what is known of the selected values
	source string         // selects them on the clone
	// keyAt are the places of the key in what is selected, in the source's form.
	keyAt []int
	// sameOrder: a range of keys is the same here and on the source.
	sameOrder bool
	converts  bool // a form needs the server
}

// form brings a value of both sides into one that can be compared.
type form uint8

const (
	asIs     form = iota
	number        // without zeros behind the point
	floating      // as a 64-bit number
	moment        // a date with its time
	unicode       // in utf8mb4, by the server
)

func newDest(src, dst *rows.Table, name rows.Name) *dest {
	d := &dest{sql: name.SQL(), src: src, unique: map[int]bool{}, always: map[int]bool{},
		keyCols: columns(src, src.Key), names: make([]string, len(src.Columns))}
	var names, list, source []string
	for i := range src.Columns {
		c := &src.Columns[i]
		d.names[i] = rows.QuoteName(c.Name)
		j := dst.Column(c.Name)
		if c.Generated || j < 0 || dst.Columns[j].Generated {
			continue
		}
		to := &dst.Columns[j]
		f := formOf(c, to)
		d.cols, d.forms, d.parse = append(d.cols, i), append(d.forms, f), append(d.parse, to)
		names = append(names, d.names[i])
		if f == unicode {
			d.converts = true
			list = append(list, "CONVERT("+d.names[i]+" USING utf8mb4)")
			source = append(source, "CONVERT("+d.names[i]+" USING utf8mb4)")
		} else {
			list = append(list, selected(to))
			source = append(source, selected(c))
		}
		if to.Kind == rows.Timestamp || to.Kind == rows.DateTime {
			d.always[i] = true
		}
	}
	d.insert = "INSERT INTO " + d.sql + " (" + strings.Join(names, ",") + ") VALUES "
	for _, unique := range append([][]int{dst.Key}, dst.Unique...) {
		for _, u := range unique {
			if i := src.Column(dst.Columns[u].Name); i >= 0 {
				d.unique[i] = true
			}
			if dst.Columns[u].Generated {
				// What it is made of is not known: any column may change it.
				for i := range src.Columns {
					d.unique[i] = true
				}
			}
		}
	}
	d.sameOrder = true
	for n, k := range src.Key {
		d.keyNames = append(d.keyNames, d.names[k])
		for at, i := range d.cols {
			if i == k {
				d.keyAt = append(d.keyAt, at)
				if n < orderable(src) {
					d.sameOrder = d.sameOrder && ordersAlike(&src.Columns[k], d.parse[at])
				}
			}
		}
	}
	// A key that is in another character set here is selected once more, as the
	// source has it.
	for n, at := range d.keyAt {
		if d.forms[at] == unicode {
			c := d.keyCols[n]
			list, source = append(list, "CONVERT("+d.keyNames[n]+" USING "+c.Charset+")"), append(source, d.keyNames[n])
			d.keyAt[n] = len(list) - 1
		}
	}
	d.list, d.source = strings.Join(list, ","), strings.Join(source, ",")
	return d
}

func selected(c *rows.Column) string { return rows.SelectList(&rows.Table{Columns: []rows.Column{*c}}) }

func textual(k rows.Kind) bool {
	return k == rows.Text || k == rows.Enum || k == rows.Set || k == rows.JSON
}

func charset(c *rows.Column) string {
	if c.Kind == rows.JSON {
		return "utf8mb4"
	}
	return c.Charset
}

func formOf(from, to *rows.Column) form {
	switch {
	case textual(from.Kind) && textual(to.Kind):
		a, b := charset(from), charset(to)
		if a == b || isUnicode(a) && isUnicode(b) {
			return asIs
		}
		return unicode
	case from.Kind == rows.Float && to.Kind == rows.Float:
		return asIs
	case from.Kind == rows.Float, from.Kind == rows.Double, to.Kind == rows.Double:
		return floating
	case from.Kind == rows.Date && (to.Kind == rows.DateTime || to.Kind == rows.Timestamp):
		return moment
	case to.Kind == rows.Decimal, to.Kind == rows.DateTime, to.Kind == rows.Timestamp, to.Kind == rows.Time:
		if from.Kind == to.Kind && from.Digits == to.Digits {
			return asIs
		}
		return number
	}
	return asIs
}

// isUnicode tells the character sets whose common characters have the same bytes.
func isUnicode(charset string) bool {
	switch charset {
	case "utf8", "utf8mb3", "utf8mb4", "ascii":
		return true
	}
	return false
}

func ordersAlike(from, to *rows.Column) bool {
	if textual(from.Kind) || textual(to.Kind) {
		return from.Kind == to.Kind && from.Collation == to.Collation
	}
	if from.Kind == to.Kind {
		return true
	}
	numeric := func(k rows.Kind) bool { return k == rows.Int || k == rows.Uint || k == rows.Decimal }
	return numeric(from.Kind) && numeric(to.Kind)
}

// append appends what is equal on both sides if the value is. c is the column that
// v was read from.
func (f form) append(dst []byte, v rows.Cell, c *rows.Column) []byte {
	if v == nil {
		return append(dst, 0)
	}
	var room [32]byte
	switch f {
	case number:
		v = trimFraction(v)
	case floating:
		bits := 64
		if c.Kind == rows.Float {
			bits = 32
		}
		if x, err := strconv.ParseFloat(string(v), bits); err == nil {
			v = rows.AppendFloat64(room[:0], x)
		}
	case moment:
		v = bytes.TrimSuffix(trimFraction(v), []byte(" 00:00:00"))
	case asIs, unicode:
	}
	return appendCell(dst, v)
}

func trimFraction(b []byte) []byte {
	if bytes.IndexByte(b, '.') < 0 {
		return b
	}
	return bytes.TrimRight(bytes.TrimRight(b, "0"), ".")
}

// unfitKey names a column of the key whose values have another form in the new
// database, so that its rows could not be told apart on both sides.
func (d *dest) unfitKey() string {
	for n, at := range d.keyAt {
		if at >= len(d.forms) {
			continue
		}
		if f := d.forms[at]; f != asIs && f != unicode {
			return d.keyCols[n].Name
		}
	}
	if len(d.keyAt) < len(d.keyNames) {
		return "of the key"
	}
	return ""
}
