package gtid

import (
	"testing"

	"imago.dev/imago/transfer/rows"
)

func TestReached(t *testing.T) {
	const a, b = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
	cases := []struct {
		have, want string
		reached    bool
		fails      bool
	}{
		{"0-1-5", "0-1-5", true, false},
		{"0-1-6", "0-1-5", true, false},
		{"0-1-4", "0-1-5", false, false},
		{"0-1-10", "0-1-9", true, false},
		{"0-2-6", "0-1-5", true, false},
		{"0-2-5", "0-1-5", false, true},
		{"0-1-5,1-1-3", "1-1-3,0-1-5", true, false},
		{"0-1-5", "0-1-5,1-1-3", false, false},
		{"0-1-5,1-1-3", "0-1-5", true, false},
		{"0-1-5", "", true, false},
		{"", "0-1-5", false, false},
		{"0-1", "0-1-5", false, true},
		{"0-1-5,0-2-6", "0-1-5", false, true},
		{"0-1-99999999999999999999", "0-1-5", false, true},
		{a + ":1-5", a + ":1-5", true, false},
		{a + ":1-5", a + ":1-6", false, false},
		{a + ":1-5," + b + ":1-2", a + ":3", true, false},
		{a + ":1-5", b + ":1", false, false},
		{a + ":x", b + ":1", false, true},
	}
	for _, c := range cases {
		reached, err := Reached(rows.Position{GTID: c.have}, rows.Position{GTID: c.want})
		if reached != c.reached || (err != nil) != c.fails {
			t.Errorf("%q reached %q: %v, %v", c.have, c.want, reached, err)
		}
	}
}

func FuzzGTIDPosition(f *testing.F) {
	for _, s := range []string{"", "0-1-5", "0-1-5,1-2-7", "4294967295-1-18446744073709551615", " 0-1-1 , 2-1-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePosition(s)
		if err != nil {
			return
		}
		again, err := ParsePosition(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%q is %q, then %q: %v", s, p, again, err)
		}
	})
}
