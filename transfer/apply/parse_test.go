package apply

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/transfer/rows"
)

func FuzzDecodeKey(f *testing.F) {
	f.Add(appendKey(nil, []rows.Cell{rows.Cell("a"), nil, {}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := decodeKey(b)
		if err != nil {
			return
		}
		again, err := decodeKey(appendKey(nil, key))
		if err != nil || len(key) != len(again) || !sameKey(key, again) {
			t.Errorf("%q came back as %q, %v", key, again, err)
		}
	})
}

// said is a server that says something whatever it is told.
type said struct{ *bytes.Reader }

func (said) Write(b []byte) (int, error)      { return len(b), nil }
func (said) Close() error                     { return nil }
func (said) LocalAddr() net.Addr              { return nil }
func (said) RemoteAddr() net.Addr             { return nil }
func (said) SetDeadline(time.Time) error      { return nil }
func (said) SetReadDeadline(time.Time) error  { return nil }
func (said) SetWriteDeadline(time.Time) error { return nil }

func FuzzResult(f *testing.F) {
	packet := func(p string) string {
		return string([]byte{byte(len(p)), byte(len(p) >> 8), 0, 1}) + p
	}
	f.Add([]byte(packet("\x00\x05\x00\x02\x00\x00\x00")))
	f.Add([]byte(packet("\xff\x26\x04#23000Duplicate entry")))
	f.Add([]byte(packet("\x01") + packet("def") + packet("\xfe\x00\x00\x02\x00") + packet("\x03abc") + packet("\xfb") + packet("\xfe\x00\x00\x0a\x00")))
	f.Add([]byte(packet("\x01") + packet("def") + packet("\xfe\x00\x00\x02\x00") + packet("\xfc\xff\xffabc")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 3 && b[2] > 1 {
			return // megabytes that never come
		}
		c := &conn{raw: said{bytes.NewReader(b)}, buf: make([]byte, 16)}
		for range 10 {
			_, _, err := c.result(func(v [][]byte) error {
				if len(v) > len(b) {
					t.Errorf("%d values of %d bytes", len(v), len(b))
				}
				return nil
			})
			if err != nil && code(err) == 0 {
				return
			}
		}
	})
}

func TestStripCreate(t *testing.T) {
	got := stripCreate("CREATE TABLE `a` (\n  `id` int(11) NOT NULL,\n  `CONSTRAINT` int,\n  PRIMARY KEY (`id`),\n  CONSTRAINT `f` FOREIGN KEY (`id`) REFERENCES `b` (`id`),\n  CONSTRAINT `c` CHECK (`id` > 0)\n) ENGINE=InnoDB")
	want := "CREATE TABLE `a` (\n  `id` int(11) NOT NULL,\n  `CONSTRAINT` int,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB"
	if got != want {
		t.Errorf("%s", got)
	}
}

func TestGaps(t *testing.T) {
	k := func(s string) []rows.Cell {
		if s == "" {
			return nil
		}
		return []rows.Cell{rows.Cell(s)}
	}
	compare := func(a, b []rows.Cell) (int, error) { return strings.Compare(string(a[0]), string(b[0])), nil }
	for _, c := range []struct{ done, want string }{
		{"", "-"}, {"-", ""}, {"-c", "c-"}, {"c-", "-c"}, {"b-c", "-b c-"}, {"-b d-f", "b-d f-"}, {"x- a-b", "-a b-x"}, {"-b b-c c-", ""}, {"-b c-d d-e", "b-c e-"},
	} {
		var done []span
		for _, s := range strings.Fields(c.done) {
			lo, hi, _ := strings.Cut(s, "-")
			done = append(done, span{k(lo), k(hi)})
		}
		list, err := gaps(done, compare)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range list {
			text := func(b []rows.Cell) string {
				if b == nil {
					return ""
				}
				return string(b[0])
			}
			got = append(got, text(g.lo)+"-"+text(g.hi))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q leaves %q, want %q", c.done, got, c.want)
		}
		// Whatever the order, done spans that meet are one.
		for range 3 {
			var s copyState
			for _, d := range done {
				s.add(d)
			}
			if again, err := gaps(s.done, compare); err != nil || len(again) != len(list) {
				t.Errorf("%q: joined to %v, which leaves %v", c.done, s.done, again)
			}
			slices.Reverse(done)
		}
	}
}

func TestThrottle(t *testing.T) {
	var th throttle
	th.set(1000, -1)
	began := time.Now()
	for range 4 {
		if err := th.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		th.take(50, 1<<30)
	}
	if d := time.Since(began); d < 100*time.Millisecond || d > 400*time.Millisecond {
		t.Errorf("200 rows at 1000 a second took %v", d)
	}
	if n := th.piece(5000, 100); n != 50 {
		t.Errorf("pieces of %d rows", n)
	}
	th.set(0, -1)
	waited := make(chan error)
	go func() { waited <- th.wait(t.Context()) }()
	select {
	case <-waited:
		t.Error("closed, but open")
	case <-time.After(30 * time.Millisecond):
	}
	th.set(-1, -1)
	if err := <-waited; err != nil {
		t.Error(err)
	}
}
