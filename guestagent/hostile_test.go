package guestagent

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/guestagent/wire"
)

// liar is a shell script deployed in the agent's place.
func liar(t *testing.T, s *Session, script string) {
	t.Helper()
	body := "#!/bin/sh\n[ \"$1\" = version ] && exit 0\n" + script + "\n"
	if err := s.Deploy(context.Background(), []byte(body)); err != nil {
		t.Fatal(err)
	}
}

// says is shell text that prints the frames given.
func says(t *testing.T, frames ...wire.Frame) string {
	t.Helper()
	var b bytes.Buffer
	w := wire.NewWriter(&b)
	for _, f := range frames {
		if err := w.Send(f.Kind, f.Payload); err != nil {
			t.Fatal(err)
		}
	}
	var oct strings.Builder
	for _, c := range b.Bytes() {
		fmt.Fprintf(&oct, "\\%03o", c)
	}
	return "printf '" + oct.String() + "'\n"
}

func frame(kind wire.Kind, payload string) wire.Frame {
	return wire.Frame{Kind: kind, Payload: []byte(payload)}
}

func TestHostileAgents(t *testing.T) {
	s := newSessionForTest(t)
	hello := frame(wire.KindHello, `{"version":2}`)
	sum := strings.Repeat("A", 43) + "="
	root := frame(wire.KindEntry, `{"path":"Lg==","kind":"dir"}`)
	evil := func(path string) wire.Frame {
		return frame(wire.KindEntry, fmt.Sprintf(`{"path":%q,"kind":"file","sha256":%q}`, encode64(path), sum))
	}
	for name, c := range map[string]struct {
		script string
		call   func() error
		want   error
		text   string
	}{
		"a login shell that talks":    {"echo Welcome; cat >/dev/null", nil, ErrNotAgent, "Welco"},
		"another version":             {says(t, frame(wire.KindHello, `{"version":9}`)) + "cat >/dev/null", nil, ErrNotAgent, "version 9"},
		"it dies at once":             {"echo 'no memory \033[2J' >&2; exit 9", nil, ErrNotAgent, "no memory"},
		"it dies in the middle":       {says(t, hello), nil, ErrNotAgent, "without a result"},
		"a frame of four gigabytes":   {says(t, hello) + "printf '\\002\\377\\377\\377\\377'; cat /dev/zero", nil, ErrNotAgent, "at most"},
		"an endless stream":           {says(t, hello) + "cat /dev/zero", nil, ErrNotAgent, ""},
		"acknowledges what none sent": {says(t, hello, frame(wire.KindStdinAck, "")) + "cat >/dev/null", nil, wire.ErrProtocol, ""},
		"a result that is no JSON":    {says(t, hello, frame(wire.KindResult, "{")), nil, wire.ErrProtocol, ""},
		"a tree entry from a step":    {says(t, hello, root) + "cat >/dev/null", nil, wire.ErrProtocol, ""},
	} {
		t.Run(name, func(t *testing.T) {
			liar(t, s, c.script)
			_, err := s.Run(context.Background(), Step{Name: "lie", Script: "true"}, nil)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\x1b") {
				t.Fatalf("got %q", err)
			}
		})
	}
	for name, path := range map[string]string{"up": "../etc/passwd", "absolute": "/etc/passwd", "inside up": "a/../../x", "a directory not named": "no/x", "NUL": "a\x00b", "dot": "."} {
		t.Run("a tree with a path "+name, func(t *testing.T) {
			liar(t, s, says(t, hello, root, evil(path), frame(wire.KindResult, "{}"))+"cat >/dev/null")
			var bad *PathError
			if err := s.Tree(context.Background(), "/x", func(e Entry) error {
				if e.Path != "." {
					t.Errorf("handed over %q", e.Path)
				}
				return nil
			}); !errors.As(err, &bad) {
				t.Fatalf("got %v", err)
			}
		})
	}
	t.Run("memory stays bounded", func(t *testing.T) {
		// One line of 200 MB through the real agent.
		if err := s.Deploy(context.Background(), agentBinary(t)); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n := 0
		_, err := s.Run(context.Background(), Step{Name: "flood", Script: "head -c 200000000 /dev/zero"}, func(o Output) { n += len(o.Text) })
		runtime.ReadMemStats(&after)
		if err != nil || n != 0 || after.HeapSys > before.HeapSys+64<<20 {
			t.Fatalf("%v; %d bytes shown; heap from %d to %d", err, n, before.HeapSys, after.HeapSys)
		}
	})
}

func encode64(s string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	bits := ""
	for _, c := range []byte(s) {
		bits += fmt.Sprintf("%08b", c)
	}
	out := ""
	for i := 0; i < len(bits); i += 6 {
		n := 0
		for _, b := range (bits + "00000")[i : i+6] {
			n = n*2 + int(b-'0')
		}
		out += string(digits[n])
	}
	return out + strings.Repeat("=", (4-len(out)%4)%4)
}

func TestAgentThatNeverAnswersEndsWithTheContext(t *testing.T) {
	s := newSessionForTest(t)
	liar(t, s, "sleep 600")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := s.Run(ctx, Step{Name: "mute", Script: "true"}, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 5*time.Second {
		t.Fatalf("got %v after %s", err, time.Since(begin))
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[31mred\x1b[0m \x1b]0;title\x07x\x1bPq\x1b\\y\x9bz\u202e")
	f.Fuzz(func(t *testing.T, in string) {
		out := Clean(in)
		for _, r := range out {
			if r != '\n' && r != '\t' && !showable(r) {
				t.Fatalf("%q holds %q", out, r)
			}
		}
		if again := Clean(out); again != out {
			t.Fatalf("%q became %q, then %q", in, out, again)
		}
	})
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":                     "plain\ttext\n",
		"\x1b[1;31mred\x1b[0m":              "red",
		"\x1b]0;title\x07after":             "after",
		"\x1b]8;;http://x\x1b\\link":        "link",
		"\x1b]unfinished\nnext line":        "\nnext line",
		"\x1b(Bcharset \x1b7saved":          "charset saved",
		"bell\x07 back\x08 del\x7f nul\x00": "bell back del nul",
		"c1 \u009b31m":                      "c1 31m",
		"bad \xff\xc3":                      "bad \ufffd\ufffd",
		"turned \u202eright\u2066":          "turned right",
		"\x1b":                              "", "\x1b[": "", "\x1b[31": "",
		"größer 日本": "größer 日本",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestShownLines(t *testing.T) {
	var got []string
	l := shownLines{emit: func(s string) { got = append(got, s) }}
	for _, p := range []string{"a\r", "\nb\n\nc 10%\rc 20%\r\r\n", strings.Repeat("x", shownLine+1), "\n", "tail"} {
		l.write([]byte(p))
	}
	l.end()
	want := []string{"a", "b", "", "c 10%", "c 20%", strings.Repeat("x", shownLine), "x", "tail"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Fatalf("got %.200q", got)
	}
}

// FuzzOrder: whatever entries a guest sends, those accepted stay below the root
// and never go back.
func FuzzOrder(f *testing.F) {
	f.Add("a\na/b\na.b\n../x")
	f.Fuzz(func(t *testing.T, in string) {
		o := orderCheck{}
		if err := o.entry(Entry{Path: ".", Kind: KindDir}, false); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for p := range strings.SplitSeq(in, "\n") {
			if o.entry(Entry{Path: p, Kind: KindDir}, false) != nil {
				return
			}
			for part := range strings.SplitSeq(p, "/") {
				if part == "" || part == "." || part == ".." {
					t.Fatalf("accepted %q", p)
				}
			}
			if seen[p] {
				t.Fatalf("accepted %q twice (%s)", p, hex.EncodeToString([]byte(p)))
			}
			seen[p] = true
		}
	})
}
