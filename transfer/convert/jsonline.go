package convert

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-mysql-org/go-mysql/mysql"

	"imago.dev/imago/transfer/rows"
)

// value is a value of a selected row as JSON.
type value []byte

// binarySet is the number of the collation that bytes have.
const binarySet = 63

// kind says how a selected column's values are written as JSON.
func (c *selectedColumn) kind() rows.Kind {
	switch c.typ {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG,
		mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_YEAR:
		return rows.Int
	case mysql.MYSQL_TYPE_BIT:
		return rows.Bit
	case mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE:
		return rows.Double
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET,
		mysql.MYSQL_TYPE_TINY_BLOB, mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB, mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_GEOMETRY:
		if c.set == binarySet {
			return rows.Bytes
		}
		return rows.Text
	}
	// Decimals, dates and times are ASCII, and as text lose nothing.
	return rows.Date
}

// expression selects the column in a form that value can write.
func (c *selectedColumn) expression() string {
	name := "c." + rows.QuoteName(c.name)
	switch c.kind() {
	case rows.Text:
		return "CONVERT(" + name + " USING utf8mb4)"
	case rows.Bit:
		return "CAST(" + name + " AS UNSIGNED)"
	case rows.Double:
		return "CAST(" + name + " AS DOUBLE)"
	default:
		return name
	}
}

func (c *selectedColumn) value(raw []byte) value {
	switch kind := c.kind(); {
	case raw == nil:
		return value("null")
	case kind == rows.Int || kind == rows.Bit || kind == rows.Double:
		return number(raw)
	case kind == rows.Bytes || !utf8.Valid(raw):
		return encodeBytes(raw)
	}
	return encodeText(string(raw))
}

// number drops the zeros that ZEROFILL puts in front, which JSON has not.
func number(raw []byte) value {
	for len(raw) > 1 && raw[0] == '0' && raw[1] >= '0' && raw[1] <= '9' {
		raw = raw[1:]
	}
	return bytes.Clone(raw)
}

func encodeBytes(raw []byte) value {
	return value(`{"base64":"` + base64.StdEncoding.EncodeToString(raw) + `"}`)
}

func encodeText(s string) value {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // of a string it cannot fail
	return bytes.TrimSpace(b.Bytes())
}

// line is what a program is asked.
func (p *Prepared) line(o *object) []byte {
	b := []byte(`{"key":{`)
	for i, name := range p.conv.Key {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, encodeText(name)...), ':'), o.rows[0][p.selectedIndex(name)]...)
	}
	b = append(b, `},"rows":[`...)
	for i, row := range o.rows {
		if i > 0 {
			b = append(b, ',')
		}
		for j, v := range row {
			sep := byte('{')
			if j > 0 {
				sep = ','
			}
			b = append(b, sep)
			b = append(append(append(b, encodeText(p.selected[j].name)...), ':'), v...)
		}
		b = append(b, '}')
	}
	return append(b, "]}\n"...)
}

func (p *Prepared) selectedIndex(name string) int {
	for i := range p.selected {
		if strings.EqualFold(p.selected[i].name, name) {
			return i
		}
	}
	return -1
}

// answer is what a program says: rows as literals of the written columns, or why
// there are none.
type answer struct {
	rows   [][][]byte
	reject string
}

// parseAnswer reads an answer. A fault in it is the program's, not the object's.
func (p *Prepared) parseAnswer(line []byte, o *object) (*answer, error) {
	var said struct {
		Rows   []map[string]any `json:"rows"`
		Reject *string          `json:"reject"`
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	d.DisallowUnknownFields()
	if err := d.Decode(&said); err != nil {
		return nil, fmt.Errorf("its answer %q is not of the form {\"rows\":[…]} or {\"reject\":\"…\"}: %w", short(line), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("its answer %q goes on behind the object", short(line))
	}
	switch {
	case said.Reject != nil && said.Rows != nil, said.Reject == nil && said.Rows == nil:
		return nil, fmt.Errorf("its answer %q must have either rows or reject", short(line))
	case said.Reject != nil:
		reason := clean(*said.Reject)
		if reason == "" {
			reason = "the program gave no reason"
		}
		return &answer{reject: reason}, nil
	}
	a := &answer{}
	for _, row := range said.Rows {
		literals, err := p.answeredRow(row, o)
		if err != nil {
			return nil, err
		}
		a.rows = append(a.rows, literals)
		for _, l := range literals {
			o.bytes += len(l)
		}
	}
	return a, nil
}

func short(line []byte) string {
	if len(line) > 200 {
		return clean(string(line[:200])) + "…"
	}
	return clean(string(line))
}

// answeredRow gives the written columns of a row. What the program leaves out has
// its default, and the key its value.
func (p *Prepared) answeredRow(row map[string]any, o *object) ([][]byte, error) {
	literals := make([][]byte, len(p.written))
	used := 0
	for i, c := range p.written {
		v, given := lookup(row, c.Name)
		if given {
			used++
		}
		if p.keyIndex(c.Name) >= 0 {
			asked := o.rows[0][p.selectedIndex(c.Name)].decode()
			if given && !sameValue(v, asked) {
				return nil, fmt.Errorf("it answers with %s = %v where it was asked about %v: are its answers out of order?", c.Name, v, asked)
			}
			v, given = asked, true
		}
		literal, err := literalOf(c, v, given)
		if err != nil {
			return nil, err
		}
		literals[i] = literal
	}
	if used != len(row) {
		for name := range row {
			if _, err := findColumn(p.target, name); err != nil {
				return nil, fmt.Errorf("it answers with %q: %w", clean(name), err)
			}
		}
		return nil, errors.New("it answers with a column that the server generates, or with one twice")
	}
	return literals, nil
}

func lookup(row map[string]any, name string) (any, bool) {
	if v, ok := row[name]; ok {
		return v, true
	}
	for k, v := range row {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return nil, false
}

// decode is the value as it comes back from JSON.
func (v value) decode() any {
	var a any
	d := json.NewDecoder(bytes.NewReader(v))
	d.UseNumber()
	_ = d.Decode(&a) // it was written here
	return a
}

// sameValue tells whether a value of an answer is the one that was asked about.
func sameValue(v, asked any) bool {
	if m, ok := asked.(map[string]any); ok {
		n, ok := v.(map[string]any)
		return ok && m["base64"] == n["base64"]
	}
	if asked == nil || v == nil {
		return asked == nil && v == nil
	}
	return fmt.Sprint(asked) == fmt.Sprint(v)
}

// literalOf is the SQL of a value that a program gives a column.
func literalOf(c *rows.Column, v any, given bool) ([]byte, error) {
	if !given {
		if c.AutoIncrement {
			return []byte("NULL"), nil
		}
		return []byte("DEFAULT"), nil
	}
	text := &rows.Column{Kind: rows.Text, Charset: "utf8mb4"}
	switch v := v.(type) {
	case nil:
		return []byte("NULL"), nil
	case bool:
		return strconv.AppendInt(nil, int64(map[bool]int{true: 1}[v]), 10), nil
	case json.Number:
		if c.Kind == rows.Text || c.Kind == rows.Bytes || c.Kind == rows.JSON {
			return rows.AppendLiteral(nil, text, rows.Cell(v)), nil
		}
		return []byte(v), nil
	case string:
		if c.Kind == rows.Bytes {
			return rows.AppendLiteral(nil, &rows.Column{Kind: rows.Bytes}, rows.Cell(v)), nil
		}
		return rows.AppendLiteral(nil, text, append(rows.Cell{}, v...)), nil
	case map[string]any:
		s, ok := v["base64"].(string)
		if ok && len(v) == 1 {
			raw, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				return nil, fmt.Errorf("column %q: base64: %w", c.Name, err)
			}
			return rows.AppendLiteral(nil, &rows.Column{Kind: rows.Bytes}, append(rows.Cell{}, raw...)), nil
		}
	}
	return nil, fmt.Errorf("column %q is answered with %T: only null, true, numbers, texts and {\"base64\":\"…\"} are values; JSON is given as a text", c.Name, v)
}
