package convert

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// Keeps tells whether a table's rows fit the target's table as they are: the same
// columns, more columns that need no value, wider types, another collation, a
// character set that holds all of the old one's. If not, why says each reason.
func Keeps(source, target *rows.Table) (ok bool, why []string) {
	if target.Unfit != "" {
		why = append(why, "the new table is "+target.Unfit)
	}
	for i := range source.Columns {
		old := &source.Columns[i]
		j := target.Column(old.Name)
		switch {
		case j >= 0:
			if reason := KeepsColumn(old, &target.Columns[j]); reason != "" {
				why = append(why, reason)
			}
		case !old.Generated:
			why = append(why, fmt.Sprintf("column %q is gone", old.Name))
		}
	}
	for i := range target.Columns {
		c := &target.Columns[i]
		if source.Column(c.Name) < 0 && !c.Generated && !c.Nullable && c.Default == nil && !c.AutoIncrement {
			why = append(why, fmt.Sprintf("column %q is new and has no default", c.Name))
		}
	}
	if reason := keepsKeys(source, target); reason != "" {
		why = append(why, reason)
	}
	return len(why) == 0, why
}

// keepsKeys: rows are found by the old table's key in the new one, so that must be
// a key there.
func keepsKeys(source, target *rows.Table) string {
	if len(source.Key) == 0 {
		return ""
	}
	for _, index := range append([][]int{target.Key}, target.Unique...) {
		if len(index) == len(source.Key) && !slices.ContainsFunc(source.Key, func(i int) bool {
			j := target.Column(source.Columns[i].Name)
			return j < 0 || !slices.Contains(index, j)
		}) {
			return ""
		}
	}
	names := make([]string, len(source.Key))
	for i, c := range source.Key {
		names[i] = source.Columns[c].Name
	}
	return "its key (" + strings.Join(names, ", ") + ") is none of the new table"
}

// KeepsColumn says why a column cannot take all of another's values; empty: it can.
func KeepsColumn(old, now *rows.Column) string {
	differs := func(what string) string {
		return fmt.Sprintf("column %q %s: %s is now %s", old.Name, what, old.Type, now.Type)
	}
	switch {
	case old.Kind == rows.Unsupported || now.Kind == rows.Unsupported:
		return differs("has a type that is not supported")
	case now.Generated && !old.Generated:
		return fmt.Sprintf("column %q is generated now", old.Name)
	case now.Generated:
		return ""
	case old.Generated && (now.Nullable || now.Default != nil):
		return fmt.Sprintf("column %q was generated and is stored now, and would be empty", old.Name)
	case old.Generated:
		return fmt.Sprintf("column %q was generated and is stored now", old.Name)
	case old.Nullable && !now.Nullable:
		return fmt.Sprintf("column %q may no longer be NULL", old.Name)
	}
	if !holds(old, now) {
		return differs("does not take all values")
	}
	if isText(old) && isText(now) && !charsetHolds(old.Charset, now.Charset) {
		return fmt.Sprintf("column %q changed its character set from %s to %s, which lacks characters", old.Name, old.Charset, now.Charset)
	}
	return ""
}

func isText(c *rows.Column) bool {
	return c.Kind == rows.Text || c.Kind == rows.Enum || c.Kind == rows.Set
}

// holds tells whether a column takes every value of another exactly.
func holds(old, now *rows.Column) bool {
	switch old.Kind {
	case rows.Int, rows.Uint:
		return integerHolds(old, now)
	case rows.Decimal:
		return now.Kind == rows.Decimal && decimalHolds(old, now)
	case rows.Float:
		return now.Kind == rows.Float && plainFloat(old, now) || now.Kind == rows.Double && plainFloat(now, now)
	case rows.Double:
		return now.Kind == rows.Double && plainFloat(old, now)
	case rows.Bit:
		return now.Kind == rows.Bit && length(now, 1) >= length(old, 1)
	case rows.Text:
		return textHolds(old, now)
	case rows.Bytes:
		return bytesHold(old, now)
	case rows.Date:
		return now.Kind == rows.Date || now.Kind == rows.DateTime
	case rows.Time, rows.DateTime:
		return now.Kind == old.Kind && now.Digits >= old.Digits
	case rows.Timestamp:
		// A zero or early DATETIME has no TIMESTAMP; the other way all have one, in UTC.
		return now.Kind == rows.Timestamp && now.Digits >= old.Digits
	case rows.Enum:
		return now.Kind == rows.Enum && labelsHold(old.Labels, now.Labels)
	case rows.Set:
		return now.Kind == rows.Set && labelsHold(old.Labels, now.Labels)
	case rows.JSON, rows.Geometry, rows.UUID, rows.Inet4, rows.Inet6, rows.Year:
		return now.Kind == old.Kind
	case rows.Unsupported:
	}
	return false
}

// integerBits are the sizes of the integer types.
var integerBits = map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}

func integerHolds(old, now *rows.Column) bool {
	if now.Kind == rows.Decimal {
		precision, scale := decimal(now)
		digits := map[int]int{8: 3, 16: 5, 24: 8, 32: 10, 64: 20}[integerBits[word(old)]]
		return digits > 0 && precision-scale >= digits && (old.Kind == rows.Uint || !unsigned(now))
	}
	a, b := integerBits[word(old)], integerBits[word(now)]
	switch {
	case a == 0 || b == 0:
		return false
	case old.Kind == now.Kind:
		return b >= a
	}
	return old.Kind == rows.Uint && now.Kind == rows.Int && b > a
}

func decimalHolds(old, now *rows.Column) bool {
	p, s := decimal(old)
	q, t := decimal(now)
	return t >= s && q-t >= p-s && (unsigned(old) || !unsigned(now))
}

// plainFloat: without digits of its own, which would round, or with the same.
func plainFloat(old, now *rows.Column) bool {
	args := func(c *rows.Column) string { _, a, _ := strings.Cut(c.Type, "("); return a }
	return (args(now) == "" || args(now) == args(old)) && (unsigned(old) || !unsigned(now) || old == now)
}

func textHolds(old, now *rows.Column) bool {
	switch {
	case now.Kind == rows.Bytes, now.Kind != rows.Text:
		return false
	case trims(now) != trims(old) && trims(now):
		return false // CHAR drops spaces at the end
	case fixedSize(now) > 0:
		// Sizes of the TEXT types are in bytes, and another character set may need more.
		return textBytes(old) > 0 && fixedSize(now) >= textBytes(old)*growth(old, now)
	}
	return chars(old) > 0 && chars(now) >= chars(old)
}

func bytesHold(old, now *rows.Column) bool {
	fixed := func(c *rows.Column) bool { return word(c) == "binary" }
	if now.Kind != rows.Bytes || fixed(now) && (!fixed(old) || length(old, 1) != length(now, 1)) {
		return false // BINARY fills up with zero bytes
	}
	size := func(c *rows.Column) int { return max(fixedSize(c), length(c, 0)) }
	return size(old) > 0 && size(now) >= size(old)
}

// labelsHold: all labels are still there; a column finds them by their text.
func labelsHold(old, now []string) bool {
	return !slices.ContainsFunc(old, func(l string) bool { return !slices.Contains(now, l) })
}

func trims(c *rows.Column) bool { return word(c) == "char" }

// fixedSize is the size in bytes of the types that have one by name.
func fixedSize(c *rows.Column) int {
	return map[string]int{"tinytext": 1<<8 - 1, "tinyblob": 1<<8 - 1, "text": 1<<16 - 1, "blob": 1<<16 - 1,
		"mediumtext": 1<<24 - 1, "mediumblob": 1<<24 - 1, "longtext": 1<<32 - 1, "longblob": 1<<32 - 1, "json": 1<<32 - 1}[word(c)]
}

// chars is how many characters fit in any case; a TEXT in another set is counted
// by bytes elsewhere.
func chars(c *rows.Column) int {
	if n := fixedSize(c); n > 0 {
		return n
	}
	return length(c, 1)
}

// textBytes is how many bytes a column may hold.
func textBytes(c *rows.Column) int {
	if n := fixedSize(c); n > 0 {
		return n
	}
	return length(c, 1) * widest(c.Charset)
}

// growth is how much longer a text may become in another character set.
func growth(old, now *rows.Column) int {
	switch {
	case old.Charset == now.Charset, old.Charset == "ascii", strings.HasPrefix(old.Charset, "utf8") && strings.HasPrefix(now.Charset, "utf8"):
		return 1
	case fixedSize(old) == 0:
		// length(old) characters of the new set, whose bytes were counted in the old one's.
		return (widest(now.Charset) + widest(old.Charset) - 1) / widest(old.Charset)
	case fixedSize(old) == 1<<32-1:
		return 1 // nothing is longer than LONGTEXT
	}
	return widest(now.Charset)
}

func widest(charset string) int {
	switch charset {
	case "ascii", "latin1", "latin2", "latin5", "latin7", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866",
		"dec8", "geostd8", "greek", "hebrew", "hp8", "keybcs2", "koi8r", "koi8u", "macce", "macroman", "swe7", "tis620", "armscii8", "binary":
		return 1
	case "utf8", "utf8mb3", "eucjpms", "ujis":
		return 3
	case "big5", "cp932", "euckr", "gb2312", "gbk", "sjis", "ucs2":
		return 2
	}
	return 4
}

// charsetHolds tells whether every text of a character set exists in another.
func charsetHolds(old, now string) bool {
	utf8 := func(s string) bool { return s == "utf8" || s == "utf8mb3" }
	switch {
	case old == now, utf8(old) && utf8(now), old == "ascii" && (now != "swe7" && now != "binary" && now != ""):
		return true
	case now == "utf8mb4", now == "utf16", now == "utf16le", now == "utf32", now == "gb18030" && utf8(old):
		return old != "binary" && old != ""
	case utf8(now), now == "ucs2":
		return !slices.Contains([]string{"utf8mb4", "utf16", "utf16le", "utf32", "gb18030", "binary", ""}, old)
	}
	return false
}

var typeWord = regexp.MustCompile(`^[a-z0-9]+`)

// word is a type's name without what stands behind it.
func word(c *rows.Column) string { return typeWord.FindString(strings.ToLower(c.Type)) }

func unsigned(c *rows.Column) bool { return strings.Contains(strings.ToLower(c.Type), "unsigned") }

var typeArgs = regexp.MustCompile(`\((\d+)(?:,(\d+))?\)`)

func length(c *rows.Column, absent int) int {
	m := typeArgs.FindStringSubmatch(c.Type)
	if m == nil {
		return absent
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return absent
	}
	return n
}

func decimal(c *rows.Column) (precision, scale int) {
	m := typeArgs.FindStringSubmatch(c.Type)
	if m == nil {
		return 10, 0
	}
	precision, _ = strconv.Atoi(m[1])
	scale, _ = strconv.Atoi(m[2])
	return precision, scale
}
