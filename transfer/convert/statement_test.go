package convert

import (
	"strings"
	"testing"
)

func TestParseStatement(t *testing.T) {
	db := Databases{Old: "o`ld", New: "new"}
	for _, c := range []struct{ in, want, fault string }{
		{in: "SELECT a FROM {old}.t", want: "SELECT a FROM `o``ld`.t"},
		{in: "SELECT a FROM {new}.t ; ", want: "SELECT a FROM `new`.t"},
		{in: "SELECT '{old} :id ;', \"it''s :id\", `:id` FROM x", want: "SELECT '{old} :id ;', \"it''s :id\", `:id` FROM x"},
		{in: "SELECT 'a\\'b :id', 'c''d :id' FROM x", want: "SELECT 'a\\'b :id', 'c''d :id' FROM x"},
		{in: "SELECT 1 -- :id; '\n, :id", want: "SELECT 1 \n, <id>"},
		{in: "SELECT 1 # :id; (\n, 2", want: "SELECT 1 \n, 2"},
		{in: "SELECT 1 -- the end )", want: "SELECT 1 \n"},
		{in: "SELECT 1--1", want: "SELECT 1--1"},
		{in: "SELECT /* :id ( */ 2", want: "SELECT   2"},
		{in: "SELECT :id, :key_2, @x := 1, a::b, '1:2', TIME'1:02'", want: "SELECT <id>, <key_2>, @x := 1, a::b, '1:2', TIME'1:02'"},
		{in: "SELECT `a``:id`", want: "SELECT `a``:id`"},
		{in: "SELECT {d '2026-01-01'}", want: "SELECT {d '2026-01-01'}"},
		{in: "", fault: "empty"},
		{in: " ;\n", fault: "empty"},
		{in: "SELECT 1; SELECT 2", fault: "has a ;"},
		{in: "SELECT 'a", fault: "' that is never closed"},
		{in: "SELECT 'a\\'", fault: "' that is never closed"},
		{in: "SELECT `a", fault: "` that is never closed"},
		{in: "SELECT (1", fault: "( without )"},
		{in: "SELECT 1)", fault: ") without ("},
		{in: "SELECT /* a", fault: "never closed"},
		{in: "SELECT /*! 1) */", fault: "would be run"},
		{in: "SELECT /*M! 1) */", fault: "would be run"},
		{in: "SELECT \x00", fault: "NUL"},
	} {
		s, err := parseStatement(c.in, db)
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%q: %v, want %q", c.in, err, c.fault)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		var b strings.Builder
		s.bind(&b, func(p string) string { return "<" + p + ">" })
		if b.String() != c.want {
			t.Errorf("%q:\n got %q\nwant %q", c.in, b.String(), c.want)
		}
	}
}

// FuzzParseStatement: what is accepted has balanced parentheses and nothing that
// ends the statement outside of quotes.
func FuzzParseStatement(f *testing.F) {
	for _, s := range []string{"SELECT a FROM {old}.t WHERE x=:id -- c\n AND (b='\\')')", "`a``b`;", "/*x*/#y\n:keys", "'é\\", "--", ":a:b::c@:d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		s, err := parseStatement(sql, Databases{Old: "o", New: "n"})
		if err != nil {
			return
		}
		var b strings.Builder
		s.bind(&b, func(string) string { return "NULL" })
		again, err := parseStatement(b.String(), Databases{Old: "o", New: "n"})
		if strings.TrimSpace(b.String()) == "" {
			return // nothing but comments: the server refuses it
		}
		if err != nil {
			t.Fatalf("%q became %q: %v", sql, b.String(), err)
		}
		if again.params {
			t.Fatalf("%q became %q, with parameters", sql, b.String())
		}
	})
}
