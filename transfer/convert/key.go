package convert

import (
	"fmt"
	"math/big"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// objectKey is what the key of a conversion's objects is made of.
type objectKey struct {
	parts []keyPart
	// orderly: the new table sorts and tells apart the keys as the old ones do, so
	// that one range means the same objects on both sides.
	orderly bool
	// driven: all old tables sort the keys alike, so that a range means the same
	// objects in each of them.
	driven bool
	// spelled: two keys that differ here may be the same to the old tables.
	spelled bool
}

// keyPart is one column of the key.
type keyPart struct {
	// col says how a cell is written; it is no column of any table.
	col rows.Column
	// asText: the column has labels, which servers sort by number but compare with
	// a text as text; it is compared as text throughout.
	asText bool
	// mixed: the old tables do not sort it alike.
	mixed    bool
	nullable bool
}

// place is where the columns of a key stand in a statement.
type place struct {
	alias string
	names []string
	// plus is what the last column lacks to be the key.
	plus int64
}

func (k *objectKey) expr(pl place, i int) string {
	name := rows.QuoteName(pl.names[i])
	if pl.alias != "" {
		name = pl.alias + "." + name
	}
	if k.parts[i].asText {
		return "CONVERT(" + name + " USING utf8mb4)"
	}
	return name
}

// against is the literal that a column in a place is compared with.
func (k *objectKey) against(pl place, i int, v rows.Cell) string {
	if pl.plus == 0 || i < len(k.parts)-1 {
		return k.literal(i, v)
	}
	return string(add(v, -pl.plus))
}

// add adds to a whole number; what is none stays as it is.
func add(v rows.Cell, plus int64) rows.Cell {
	n, ok := new(big.Int).SetString(string(v), 10)
	if v == nil || plus == 0 || !ok {
		return v
	}
	return rows.Cell(n.Add(n, big.NewInt(plus)).String())
}

func (k *objectKey) literal(i int, v rows.Cell) string {
	return string(rows.AppendLiteral(nil, &k.parts[i].col, v))
}

// read are the expressions that give the cells of a key, from a column of any
// table or of a SELECT.
func (k *objectKey) read(pl place) string {
	exprs := make([]string, len(k.parts))
	for i, part := range k.parts {
		exprs[i] = k.expr(pl, i)
		if pl.plus != 0 && i == len(k.parts)-1 {
			exprs[i] = fmt.Sprintf("CAST(%s AS DECIMAL(30))+(%d)", exprs[i], pl.plus)
		}
		switch part.col.Kind {
		case rows.Text:
			// As bytes, so that DISTINCT does not take two spellings for one.
			exprs[i] = "BINARY CONVERT(" + exprs[i] + " USING " + part.col.Charset + ")"
		case rows.Bit:
			exprs[i] = "CAST(" + exprs[i] + " AS UNSIGNED)"
		default:
		}
	}
	return strings.Join(exprs, ",")
}

// cells are the cells of a row of read.
func (k *objectKey) cells(values [][]byte) ([]rows.Cell, error) {
	if len(values) < len(k.parts) {
		return nil, fmt.Errorf("%d values for a key of %d columns", len(values), len(k.parts))
	}
	key := make([]rows.Cell, len(k.parts))
	for i := range k.parts {
		cell, err := rows.ParseText(&k.parts[i].col, values[i])
		if err != nil {
			return nil, fmt.Errorf("read a key: %w", err)
		}
		if cell != nil {
			cell = append(rows.Cell{}, cell...)
		}
		key[i] = cell
	}
	return key, nil
}

// is is the condition for one object.
func (k *objectKey) is(pl place, key []rows.Cell) string {
	terms := make([]string, len(k.parts))
	for i := range k.parts {
		terms[i] = k.equal(pl, i, key[i])
	}
	return "(" + strings.Join(terms, " AND ") + ")"
}

func (k *objectKey) equal(pl place, i int, v rows.Cell) string {
	if v == nil {
		return isNull(k.expr(pl, i))
	}
	return k.expr(pl, i) + "=" + k.against(pl, i, v)
}

// in is the condition for some objects.
func (k *objectKey) in(pl place, keys [][]rows.Cell) string {
	if len(keys) == 0 {
		return "(FALSE)"
	}
	var terms, list []string
	for _, key := range keys {
		if len(k.parts) == 1 && key[0] != nil {
			list = append(list, k.against(pl, 0, key[0]))
			continue
		}
		terms = append(terms, k.is(pl, key))
	}
	if len(list) > 0 {
		terms = append(terms, k.expr(pl, 0)+" IN ("+strings.Join(list, ",")+")")
	}
	return "(" + strings.Join(terms, " OR ") + ")"
}

// between is the condition for a range: behind after, up to and with upto; nil is
// no limit. NULL sorts before everything.
func (k *objectKey) between(pl place, after, upto []rows.Cell) string {
	conditions := "TRUE"
	if after != nil {
		conditions = k.behind(pl, after)
	}
	if upto != nil {
		conditions += " AND " + k.notBehind(pl, upto)
	}
	return "(" + conditions + ")"
}

func (k *objectKey) behind(pl place, after []rows.Cell) string {
	var terms []string
	prefix := ""
	for i, v := range after {
		greater := k.expr(pl, i) + ">" + k.against(pl, i, v)
		if v == nil {
			greater = "NOT " + isNull(k.expr(pl, i))
		}
		terms = append(terms, "("+prefix+greater+")")
		prefix += k.equal(pl, i, v) + " AND "
	}
	cond := "(" + strings.Join(terms, " OR ") + ")"
	if len(after) > 1 && after[0] != nil {
		// Says nothing new but to the optimizer, which sees a range here.
		cond = "(" + k.expr(pl, 0) + ">=" + k.against(pl, 0, after[0]) + " AND " + cond + ")"
	}
	return cond
}

func (k *objectKey) notBehind(pl place, upto []rows.Cell) string {
	var terms []string
	prefix := ""
	for i, v := range upto {
		op := "<"
		if i == len(upto)-1 {
			op = "<="
		}
		terms = append(terms, "("+prefix+k.less(pl, i, op, v)+")")
		prefix += k.equal(pl, i, v) + " AND "
	}
	cond := "(" + strings.Join(terms, " OR ") + ")"
	if len(upto) > 1 {
		cond = "(" + k.less(pl, 0, "<=", upto[0]) + " AND " + cond + ")"
	}
	return cond
}

func (k *objectKey) less(pl place, i int, op string, v rows.Cell) string {
	switch {
	case v == nil && op == "<=":
		return isNull(k.expr(pl, i))
	case v == nil:
		return "FALSE"
	case k.parts[i].nullable:
		return "(" + k.expr(pl, i) + op + k.against(pl, i, v) + " OR " + isNull(k.expr(pl, i)) + ")"
	}
	return k.expr(pl, i) + op + k.against(pl, i, v)
}

// anyNull is the condition for rows that have no whole key.
func (k *objectKey) anyNull(pl place) string {
	terms := make([]string, len(k.parts))
	for i := range k.parts {
		terms[i] = isNull(k.expr(pl, i))
	}
	return "(" + strings.Join(terms, " OR ") + ")"
}

// isNull is not written IS NULL, which in a date column that cannot be NULL finds
// the zero dates.
func isNull(expr string) string { return "(" + expr + " <=> NULL)" }

// order is what Next sorts by.
func (k *objectKey) order(pl place) string {
	exprs := make([]string, len(k.parts))
	for i := range k.parts {
		exprs[i] = k.expr(pl, i)
	}
	return strings.Join(exprs, ",")
}

// id is a key as a map's key.
func id(key []rows.Cell) string {
	var b strings.Builder
	for _, c := range key {
		if c == nil {
			b.WriteString("N")
			continue
		}
		fmt.Fprintf(&b, "%d:%s", len(c), c)
	}
	return b.String()
}

// distinct drops keys that come again.
func distinct(keys [][]rows.Cell) [][]rows.Cell {
	seen := make(map[string]bool, len(keys))
	out := keys[:0:0]
	for _, key := range keys {
		if i := id(key); !seen[i] {
			seen[i] = true
			out = append(out, key)
		}
	}
	return out
}

// without drops the keys that are in others.
func without(keys, others [][]rows.Cell) [][]rows.Cell {
	gone := make(map[string]bool, len(others))
	for _, key := range others {
		gone[id(key)] = true
	}
	out := keys[:0:0]
	for _, key := range keys {
		if !gone[id(key)] {
			out = append(out, key)
		}
	}
	return out
}

// show is a key in a message.
func (k *objectKey) show(names []string, key []rows.Cell) string {
	terms := make([]string, len(key))
	for i, v := range key {
		value := "NULL"
		if v != nil {
			value = clean(string(v))
		}
		terms[i] = names[i] + "=" + value
	}
	return strings.Join(terms, ", ")
}
