package rows

import (
	"bytes"
	"strings"
)

// CompareKeys orders two keys of a table as the server does. It answers only where
// that order is known here; false means that the server must be asked.
func CompareKeys(t *Table, a, b []Cell) (int, bool) {
	for i, c := range t.Key {
		if i >= len(a) || i >= len(b) || a[i] == nil || b[i] == nil {
			return 0, false
		}
		order, known := compareCells(&t.Columns[c], a[i], b[i])
		if !known {
			return 0, false
		}
		if order != 0 {
			return order, true
		}
	}
	return 0, true
}

func compareCells(c *Column, a, b Cell) (int, bool) {
	switch c.Kind {
	case Int, Uint, Bit:
		return compareIntegers(a, b), true
	case Bytes, Date, DateTime, Timestamp, Year:
		return bytes.Compare(a, b), true
	case Text:
		return compareText(c, a, b)
	}
	return 0, false
}

func compareIntegers(a, b Cell) int {
	minusA, minusB := a[0:min(1, len(a))], b[0:min(1, len(b))]
	negativeA, negativeB := string(minusA) == "-", string(minusB) == "-"
	switch {
	case negativeA && !negativeB:
		return -1
	case negativeB && !negativeA:
		return 1
	case negativeA:
		a, b = b[1:], a[1:]
	}
	if len(a) != len(b) {
		if len(a) < len(b) {
			return -1
		}
		return 1
	}
	return bytes.Compare(a, b)
}

// compareText knows the binary collations of character sets whose bytes sort as
// their characters.
func compareText(c *Column, a, b Cell) (int, bool) {
	switch c.Charset {
	case "utf8mb4", "utf8mb3", "utf8", "latin1", "ascii":
	default:
		return 0, false
	}
	switch {
	case strings.HasSuffix(c.Collation, "_nopad_bin"), c.Collation == "utf8mb4_0900_bin":
		return bytes.Compare(a, b), true
	case strings.HasSuffix(c.Collation, "_bin"):
		return comparePadded(a, b), true
	}
	return 0, false
}

// comparePadded compares as if the shorter one had spaces at its end.
func comparePadded(a, b Cell) int {
	n := min(len(a), len(b))
	if order := bytes.Compare(a[:n], b[:n]); order != 0 {
		return order
	}
	for _, x := range a[n:] {
		if x != ' ' {
			return int(x) - ' '
		}
	}
	for _, x := range b[n:] {
		if x != ' ' {
			return ' ' - int(x)
		}
	}
	return 0
}
