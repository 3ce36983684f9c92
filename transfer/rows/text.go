package rows

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// SelectList are the expressions, separated by commas and in the order of the
// columns, whose values in the text protocol ParseText understands. Generated
// columns are NULL: nobody writes them.
func SelectList(t *Table) string {
	var b strings.Builder
	for i := range t.Columns {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(selectExpression(&t.Columns[i]))
	}
	return b.String()
}

func selectExpression(c *Column) string {
	name := QuoteName(c.Name)
	switch {
	case c.Generated:
		return "NULL"
	case c.Kind == Float, c.Kind == Double && strings.Contains(c.Type, "("):
		// A FLOAT is sent with six digits, and DOUBLE(M,D) with D of them.
		return "CAST(" + name + " AS DOUBLE)"
	case c.Kind == Bit:
		return "CAST(" + name + " AS UNSIGNED)"
	}
	return name
}

// ParseText gives the canonical form of a value of the text protocol that was
// selected with SelectList; nil is NULL. The result may be raw itself.
func ParseText(c *Column, raw []byte) (Cell, error) {
	if raw == nil {
		return nil, nil
	}
	switch c.Kind {
	case Int, Uint, Bit:
		for len(raw) > 1 && raw[0] == '0' { // ZEROFILL
			raw = raw[1:]
		}
		return raw, nil
	case Decimal:
		return CanonicalDecimal(raw), nil
	case Float, Double:
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", c.Name, err)
		}
		if c.Kind == Float {
			return AppendFloat32(nil, float32(f)), nil
		}
		return AppendFloat64(nil, f), nil
	case Inet4, Inet6:
		a, err := netip.ParseAddr(string(raw))
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", c.Name, err)
		}
		return a.AppendTo(nil), nil
	case Unsupported:
		return nil, fmt.Errorf("column %q has type %s, whose values cannot be transferred", c.Name, c.Type)
	case Text, Bytes, Date, Time, DateTime, Timestamp, Year, Enum, Set, JSON, Geometry, UUID:
	}
	return raw, nil
}

// AppendFloat32 appends the canonical form of a FLOAT.
func AppendFloat32(dst []byte, f float32) []byte {
	return strconv.AppendFloat(dst, float64(f), 'g', -1, 32)
}

// AppendFloat64 appends the canonical form of a DOUBLE.
func AppendFloat64(dst []byte, f float64) []byte { return strconv.AppendFloat(dst, f, 'g', -1, 64) }

// CanonicalDecimal takes away zeros that ZEROFILL put in front and the sign of a
// zero. The result shares memory with d.
func CanonicalDecimal(d []byte) []byte {
	negative := len(d) > 0 && d[0] == '-'
	digits := d
	if negative {
		digits = d[1:]
		if len(bytes.Trim(digits, "0.")) == 0 {
			return CanonicalDecimal(digits)
		}
		if len(digits) > 1 && digits[0] == '0' && digits[1] != '.' {
			return append([]byte{'-'}, CanonicalDecimal(digits)...)
		}
		return d
	}
	for len(digits) > 1 && digits[0] == '0' && digits[1] != '.' {
		digits = digits[1:]
	}
	return digits
}
