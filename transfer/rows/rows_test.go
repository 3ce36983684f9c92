package rows

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func cells(values ...any) []Cell {
	list := make([]Cell, len(values))
	for i, v := range values {
		if s, ok := v.(string); ok {
			list[i] = Cell(s)
			if s == "" {
				list[i] = Cell{}
			}
		}
	}
	return list
}

func TestLiterals(t *testing.T) {
	cases := []struct {
		column Column
		cell   Cell
		want   string
	}{
		{Column{Kind: Int}, nil, "NULL"},
		{Column{Kind: Text, Charset: "utf8mb4"}, nil, "NULL"},
		{Column{Kind: Int}, Cell("-5"), "-5"},
		{Column{Kind: Decimal}, Cell("-1.50"), "-1.50"},
		{Column{Kind: Bit}, Cell("257"), "257"},
		{Column{Kind: Float}, Cell("0.1"), "1.0000000149011612e-01"},
		{Column{Kind: Double}, Cell("0.1"), "1e-01"},
		{Column{Kind: Double}, Cell("-0"), "'-0'"},
		{Column{Kind: Text, Charset: "latin1"}, Cell("it's \\ \x00 \xe9"), "_latin1'it\\'s \\\\ \\0 \xe9'"},
		{Column{Kind: Text, Charset: "sjis"}, Cell("\x95\x5c'"), "_sjis X'955c27'"},
		{Column{Kind: Text, Charset: "gbk"}, Cell("\x81\x5c"), "_gbk X'815c'"},
		{Column{Kind: Text, Charset: "ucs2"}, Cell("\x00'"), "_ucs2 X'0027'"},
		{Column{Kind: Text, Charset: "utf8mb4"}, Cell{}, "_utf8mb4''"},
		{Column{Kind: Enum, Charset: "utf8mb3"}, Cell("a"), "_utf8mb3'a'"},
		{Column{Kind: Bytes}, Cell("\x00'\\\xff"), "_binary'\\0\\'\\\\\xff'"},
		{Column{Kind: Geometry}, Cell("\x01"), "_binary'\x01'"},
		{Column{Kind: Timestamp}, Cell("2026-01-01 00:00:00"), "'2026-01-01 00:00:00'"},
		{Column{Kind: UUID}, Cell("x"), "_latin1'x'"},
		{Column{Kind: Inet4}, Cell("1.2.3.4"), "_latin1'1.2.3.4'"},
	}
	for _, c := range cases {
		if got := string(AppendLiteral(nil, &c.column, c.cell)); got != c.want {
			t.Errorf("%v %q: %s, want %s", c.column.Kind, c.cell, got, c.want)
		}
	}
	if got := (Name{"a`b", "c"}).SQL(); got != "`a``b`.`c`" {
		t.Error(got)
	}
}

func TestParseText(t *testing.T) {
	cases := []struct {
		kind      Kind
		raw, want string
		fails     bool
	}{
		{Uint, "00042", "42", false}, {Uint, "0000", "0", false}, {Int, "-5", "-5", false}, {Int, "0", "0", false},
		{Decimal, "00001.50", "1.50", false}, {Decimal, "0.00", "0.00", false}, {Decimal, "-0.00", "0.00", false}, {Decimal, "-0.10", "-0.10", false}, {Decimal, "000.5", "0.5", false}, {Decimal, "000", "0", false},
		{Float, "0.10000000149011612", "0.1", false}, {Float, "1e20", "1e+20", false}, {Double, "1e20", "1e+20", false}, {Double, "x", "", true},
		{Inet6, "::ffff:1.2.3.4", "::ffff:1.2.3.4", false}, {Inet6, "2001:DB8::0", "2001:db8::", false}, {Inet4, "1.2.3", "", true},
		{Text, "0001", "0001", false}, {Year, "0000", "0000", false}, {Unsupported, "x", "", true},
	}
	for _, c := range cases {
		got, err := ParseText(&Column{Name: "c", Kind: c.kind}, []byte(c.raw))
		if string(got) != c.want || (err != nil) != c.fails {
			t.Errorf("%v %q: %q, %v; want %q", c.kind, c.raw, got, err, c.want)
		}
	}
	if v, err := ParseText(&Column{Kind: Unsupported}, nil); v != nil || err != nil {
		t.Errorf("NULL is %q, %v", v, err)
	}
}

func TestSelectList(t *testing.T) {
	table := &Table{Columns: []Column{{Name: "a", Kind: Int}, {Name: "b`", Kind: Float}, {Name: "c", Kind: Text, Generated: true}, {Name: "d", Kind: Bit}, {Name: "e", Kind: Double, Type: "double(7,2)"}, {Name: "f", Kind: Double, Type: "double"}}}
	want := "`a`,CAST(`b``` AS DOUBLE),NULL,CAST(`d` AS UNSIGNED),CAST(`e` AS DOUBLE),`f`"
	if got := SelectList(table); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestLabels(t *testing.T) {
	cases := map[string][]string{
		"enum('a','b')":            {"a", "b"},
		"enum('')":                 {""},
		"set('it''s','a,b',')')":   {"it's", "a,b", ")"},
		`enum('a\\b','n\nl','\0')`: {`a\b`, "n\nl", "\x00"},
		"enum('a','b') /* what */": {"a", "b"},
		"enum('a":                  nil,
		"enum(":                    nil,
		"enum":                     nil,
		"enum('a' 'b')":            nil,
		`enum('a\`:                 nil,
		"enum('a',)":               nil,
		"enum('表','ソ')":            {"表", "ソ"},
	}
	for in, want := range cases {
		got, err := parseLabels(in)
		if !reflect.DeepEqual(got, want) || (err != nil) != (want == nil) {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzLabels(f *testing.F) {
	f.Add("enum('a','b''c')")
	f.Add(`set('\\','\'')`)
	f.Fuzz(func(t *testing.T, s string) {
		labels, err := parseLabels(s)
		if err == nil && len(labels) == 0 {
			t.Error("no labels and no error")
		}
	})
}

// FuzzLiteral: what is between the quotes cannot get out of them.
func FuzzLiteral(f *testing.F) {
	f.Add([]byte("it's"), true)
	f.Add([]byte("\\"), false)
	f.Fuzz(func(t *testing.T, v []byte, text bool) {
		c := Column{Kind: Bytes}
		if text {
			c = Column{Kind: Text, Charset: "utf8mb4"}
		}
		s := AppendLiteral(nil, &c, v)
		_, s, _ = bytes.Cut(s, []byte("'"))
		var back []byte
		for len(s) > 0 && s[0] != '\'' {
			if s[0] == '\\' {
				s = s[1:]
				if s[0] == '0' {
					s[0] = 0
				}
			}
			back = append(back, s[0])
			s = s[1:]
		}
		if v == nil {
			return
		}
		if string(s) != "'" || !bytes.Equal(back, v) {
			t.Errorf("%q comes back as %q, and %q after it", v, back, s)
		}
	})
}

func TestCompareKeys(t *testing.T) {
	table := func(c Column) *Table { return &Table{Columns: []Column{c}, Key: []int{0}} }
	cases := []struct {
		column Column
		a, b   string
		want   int
		known  bool
	}{
		{Column{Kind: Int}, "9", "10", -1, true}, {Column{Kind: Int}, "-9", "-10", 1, true}, {Column{Kind: Int}, "-1", "1", -1, true}, {Column{Kind: Int}, "5", "5", 0, true},
		{Column{Kind: Uint}, "18446744073709551615", "9", 1, true},
		{Column{Kind: Bytes}, "a", "a\x00", -1, true}, {Column{Kind: Date}, "2026-01-02", "2026-01-10", -1, true},
		{Column{Kind: Text, Charset: "utf8mb4", Collation: "utf8mb4_bin"}, "a", "a ", 0, true},
		{Column{Kind: Text, Charset: "utf8mb4", Collation: "utf8mb4_bin"}, "a", "a\x01", 1, true},
		{Column{Kind: Text, Charset: "utf8mb4", Collation: "utf8mb4_bin"}, "a\x01", "a", -1, true},
		{Column{Kind: Text, Charset: "utf8mb4", Collation: "utf8mb4_nopad_bin"}, "a", "a ", -1, true},
		{Column{Kind: Text, Charset: "utf8mb4", Collation: "utf8mb4_general_ci"}, "a", "b", 0, false},
		{Column{Kind: Text, Charset: "utf16", Collation: "utf16_bin"}, "a", "b", 0, false},
		{Column{Kind: Decimal}, "1.5", "1.5", 0, false}, {Column{Kind: UUID}, "a", "b", 0, false},
	}
	for _, c := range cases {
		got, known := CompareKeys(table(c.column), cells(c.a), cells(c.b))
		sign := func(n int) int { return max(-1, min(1, n)) }
		if sign(got) != c.want || known != c.known {
			t.Errorf("%v %q %q: %d %v, want %d %v", c.column, c.a, c.b, got, known, c.want, c.known)
		}
	}
	if _, known := CompareKeys(table(Column{Kind: Int}), []Cell{nil}, cells("1")); known {
		t.Error("a NULL has an order")
	}
	two := &Table{Columns: []Column{{Kind: Int}, {Kind: Int}}, Key: []int{1, 0}}
	if got, known := CompareKeys(two, cells("1", "2"), cells("1", "3")); got != -1 || !known {
		t.Error("the second column of a key does not count")
	}
}

func sample() *Txn {
	n, m := Name{"shop", "t"}, Name{"shop", "ü"}
	return &Txn{
		ID: "0-1-5", Position: Position{GTID: "0-1-5,1-1-1", File: "bin.000001", At: 1 << 40}, Committed: time.Unix(1763859600, 0), ForeignKeyChecksOff: true,
		Changes: []Change{
			{Table: n, Op: Insert, After: cells("1", nil, "")},
			{Table: m, Op: Update, Before: cells("1", nil, "x", ""), After: cells("1", "y", "x", "")},
			{Table: n, Op: Delete, Before: cells("1", nil, strings.Repeat("z", 300))},
		},
	}
}

func TestEncoding(t *testing.T) {
	for name, txn := range map[string]*Txn{"all": sample(), "empty": {}, "position": {ID: "x", Position: Position{GTID: "y"}}} {
		got, err := DecodeTxn(AppendTxn(nil, txn))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(txn, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	whole := AppendTxn(nil, sample())
	for n := range whole {
		if _, err := DecodeTxn(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes are a transaction", n, len(whole))
		}
	}
	if _, err := DecodeTxn(append(whole, 0)); err == nil {
		t.Error("a byte too many is none")
	}
	if _, err := DecodeTxn([]byte{encoding, 0xff, 0xff, 0xff, 0xff, 0x0f}); !errors.Is(err, errShort) {
		t.Errorf("a long string: %v", err)
	}
}

func FuzzDecodeTxn(f *testing.F) {
	f.Add(AppendTxn(nil, sample()))
	f.Add(AppendTxn(nil, &Txn{}))
	b, _ := hex.DecodeString("0100000000000000ffffffff0f")
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		txn, err := DecodeTxn(b)
		if err != nil {
			return
		}
		again, err := DecodeTxn(AppendTxn(nil, txn))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(txn, again); diff != "" {
			t.Error(diff)
		}
	})
}
