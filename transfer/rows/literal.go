package rows

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// QuoteName puts a name of a table, column or database into backquotes.
func QuoteName(s string) string {
	return "`" + strings.ReplaceAll(s, "`", "``") + "`"
}

// SQL is the table's name for a statement.
func (n Name) SQL() string { return QuoteName(n.Database) + "." + QuoteName(n.Table) }

// AppendLiteral appends the SQL literal that gives a column the value v. c is the
// column that the value comes from, whatever column it goes to: its character set
// says what the bytes mean. The connection must have begun with SessionSQL.
func AppendLiteral(dst []byte, c *Column, v Cell) []byte {
	if v == nil {
		return append(dst, "NULL"...)
	}
	switch c.Kind {
	case Int, Uint, Decimal, Bit:
		return append(dst, v...)
	case Float, Double:
		if string(v) == "-0" { // a number would lose its sign
			return append(dst, "'-0'"...)
		}
		if c.Kind == Double {
			return appendNumber(dst, v, 64)
		}
		// All digits of the 32-bit number: what the server itself would give a
		// DOUBLE column, and no second rounding on the way to a FLOAT one.
		return appendNumber(dst, v, 32)
	case Text, Enum, Set:
		return appendText(dst, c.Charset, v)
	case JSON:
		return appendText(dst, "utf8mb4", v)
	case Bytes, Geometry, Unsupported:
		dst = append(dst, "_binary"...)
		return appendQuoted(dst, v)
	case Inet4, Inet6, UUID:
		// Without a character set they would be taken for the bytes of the address.
		return appendText(dst, "latin1", v)
	case Date, Time, DateTime, Timestamp, Year:
	}
	return appendQuoted(dst, v)
}

// appendNumber appends a number that has so many bits, such that the server takes
// it for a DOUBLE of just that value.
func appendNumber(dst []byte, v Cell, bits int) []byte {
	f, err := strconv.ParseFloat(string(v), bits)
	if err != nil {
		return appendQuoted(dst, v)
	}
	return strconv.AppendFloat(dst, f, 'e', -1, 64)
}

// appendText appends a string of a character set.
func appendText(dst []byte, charset string, v Cell) []byte {
	if charset == "" || charset == "binary" {
		dst = append(dst, "_binary"...)
		return appendQuoted(dst, v)
	}
	dst = append(dst, '_')
	dst = append(dst, charset...)
	if !quotable(charset) {
		dst = append(dst, " X'"...)
		dst = hex.AppendEncode(dst, v)
		return append(dst, '\'')
	}
	return appendQuoted(dst, v)
}

// quotable tells whether a quote or backslash in such a string is always one: the
// second byte of a character of sjis, gbk or big5 may look like a backslash, and
// ucs2 has a quote in the half of many characters.
func quotable(charset string) bool {
	switch charset {
	case "big5", "sjis", "cp932", "gbk", "gb2312", "gb18030", "ujis", "eucjpms", "euckr",
		"ucs2", "utf16", "utf16le", "utf32":
		return false
	}
	return true
}

func appendQuoted(dst []byte, v []byte) []byte {
	dst = append(dst, '\'')
	from := 0
	for i, b := range v {
		var escape byte
		switch b {
		case '\'', '\\':
			escape = b
		case 0:
			escape = '0'
		default:
			continue
		}
		dst = append(dst, v[from:i]...)
		dst = append(dst, '\\', escape)
		from = i + 1
	}
	dst = append(dst, v[from:]...)
	return append(dst, '\'')
}
