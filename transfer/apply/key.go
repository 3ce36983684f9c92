package apply

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// A key is kept as keyID, its cells one after another if that is short, else their
// hash: the same bytes mean the same key, whatever the table's collation.
const longKey = 40

// appendKey appends the encoding of a key's cells.
func appendKey(dst []byte, key []rows.Cell) []byte {
	for _, v := range key {
		dst = appendCell(dst, v)
	}
	return dst
}

func appendCell(dst []byte, v rows.Cell) []byte {
	if v == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(v))+1)
	return append(dst, v...)
}

// decodeKey reads what appendKey wrote.
func decodeKey(b []byte) ([]rows.Cell, error) {
	var key []rows.Cell
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size)+1 {
			return nil, errors.New("a key in the state cannot be read")
		}
		b = b[size:]
		if n == 0 {
			key = append(key, nil)
			continue
		}
		key = append(key, rows.Cell(b[:n-1:n-1]))
		b = b[n-1:]
	}
	return key, nil
}

// shortened is the keyID of an encoded key, in b's memory or in a new one.
func shortened(b []byte) []byte {
	if len(b) <= longKey {
		return b
	}
	sum := sha256.Sum256(b)
	// No short key is as long as this.
	return append(append(make([]byte, 0, 42), "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"...), sum[:]...)
}

// columns are the columns of a list of indexes.
func columns(t *rows.Table, list []int) []*rows.Column {
	all := make([]*rows.Column, len(list))
	for i, c := range list {
		all[i] = &t.Columns[c]
	}
	return all
}

// appendEqual appends "(a=1 AND b=2)"; names are quoted.
func appendEqual(dst []byte, names []string, cols []*rows.Column, key []rows.Cell) []byte {
	for i := range names {
		if i > 0 {
			dst = append(dst, " AND "...)
		}
		dst = append(dst, names[i]...)
		if key[i] == nil {
			dst = append(dst, " IS NULL"...)
			continue
		}
		dst = append(dst, '=')
		dst = rows.AppendLiteral(dst, cols[i], key[i])
	}
	return dst
}

// appendIn appends a condition that is true for exactly the rows with these keys.
func appendIn(dst []byte, names []string, cols []*rows.Column, keys [][]rows.Cell) []byte {
	if len(names) == 1 {
		dst = append(dst, names[0]...)
		dst = append(dst, " IN ("...)
		for i, k := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = rows.AppendLiteral(dst, cols[0], k[0])
		}
		return append(dst, ')')
	}
	dst = append(dst, '(')
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, " OR "...)
		}
		dst = append(dst, '(')
		dst = appendEqual(dst, names, cols, k)
		dst = append(dst, ')')
	}
	return append(dst, ')')
}

// span is the range of keys behind lo up to and with hi; nil has no bound.
type span struct{ lo, hi []rows.Cell }

// appendSpan appends the condition of a span, "1" for all keys. The leading column
// stands alone as well, so that the optimizer sees a range.
func appendSpan(dst []byte, names []string, cols []*rows.Column, s span) []byte {
	if s.lo == nil && s.hi == nil {
		return append(dst, '1')
	}
	if s.lo != nil {
		dst = appendBound(dst, names, cols, s.lo, '>', "")
	}
	if s.hi != nil {
		if s.lo != nil {
			dst = append(dst, " AND "...)
		}
		dst = appendBound(dst, names, cols, s.hi, '<', "=")
	}
	return dst
}

// appendBound appends (a>=1 AND (a>1 OR (a=1 AND (b>2)))).
func appendBound(dst []byte, names []string, cols []*rows.Column, key []rows.Cell, op byte, last string) []byte {
	n := len(key)
	if n == 1 {
		dst = append(dst, names[0]...)
		dst = append(dst, op)
		dst = append(dst, last...)
		return rows.AppendLiteral(dst, cols[0], key[0])
	}
	dst = append(dst, '(')
	dst = append(dst, names[0]...)
	dst = append(dst, op, '=')
	dst = rows.AppendLiteral(dst, cols[0], key[0])
	dst = append(dst, " AND ("...)
	dst = append(dst, names[0]...)
	dst = append(dst, op)
	dst = rows.AppendLiteral(dst, cols[0], key[0])
	dst = append(dst, " OR ("...)
	dst = append(dst, names[0]...)
	dst = append(dst, '=')
	dst = rows.AppendLiteral(dst, cols[0], key[0])
	dst = append(dst, " AND "...)
	dst = appendBound(dst, names[1:], cols[1:], key[1:], op, last)
	return append(dst, ")))"...)
}

// orderable are the leading columns of a key whose order in an index is the order
// of comparisons in SQL; ranges are made of them.
func orderable(t *rows.Table) int {
	for i, c := range t.Key {
		col := &t.Columns[c]
		switch col.Kind {
		case rows.Int, rows.Uint, rows.Decimal, rows.Bit, rows.Date, rows.Time, rows.DateTime, rows.Timestamp,
			rows.Year, rows.Double, rows.UUID, rows.Inet4, rows.Inet6:
		case rows.Text, rows.Bytes:
			// An index of a TEXT or BLOB has only the beginning of its values.
			if kind := strings.ToLower(col.Type); strings.Contains(kind, "text") || strings.Contains(kind, "blob") {
				return i
			}
		default:
			return i
		}
	}
	return len(t.Key)
}

// appendOrdered appends a literal that compares with others of its column as the
// column's values do.
func appendOrdered(dst []byte, c *rows.Column, v rows.Cell) []byte {
	cast := ""
	switch c.Kind {
	case rows.Text:
		dst = rows.AppendLiteral(dst, c, v)
		dst = append(dst, " COLLATE "...)
		return append(dst, c.Collation...)
	case rows.Time:
		cast = "TIME(6)"
	case rows.Date:
		cast = "DATE"
	case rows.DateTime, rows.Timestamp:
		cast = "DATETIME(6)"
	case rows.UUID:
		cast = "UUID"
	case rows.Inet4:
		cast = "INET4"
	case rows.Inet6:
		cast = "INET6"
	default:
		return rows.AppendLiteral(dst, c, v)
	}
	dst = append(dst, "CAST("...)
	dst = rows.AppendLiteral(dst, c, v)
	dst = append(dst, " AS "...)
	dst = append(dst, cast...)
	return append(dst, ')')
}

// keyText is a key for a person.
func keyText(cols []*rows.Column, key []rows.Cell) string {
	var b []byte
	for i, v := range key {
		if i > 0 {
			b = append(b, ", "...)
		}
		if i < len(cols) {
			b = append(b, cols[i].Name...)
			b = append(b, '=')
			b = rows.AppendLiteral(b, cols[i], v)
			continue
		}
		b = append(b, v...)
	}
	if len(b) > 400 {
		b = append(b[:400], "…"...)
	}
	return strings.ToValidUTF8(string(b), "?")
}
