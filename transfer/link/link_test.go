package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

func TestMain(m *testing.M) {
	// A database server that starts clears what it finds of others among temporary files.
	dir, err := os.MkdirTemp("", "link")
	if err != nil {
		panic(err)
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

var quiet = slog.New(slog.DiscardHandler)

func position(n int) rows.Position {
	if n == 0 {
		return rows.Position{}
	}
	return rows.Position{GTID: fmt.Sprintf("0-1-%d", n)}
}

func insert(n int, id, text string) *rows.Txn {
	return &rows.Txn{ID: position(n).GTID, Position: position(n), Committed: time.Now(), Changes: []rows.Change{
		{Table: rows.Name{Database: "old", Table: "t"}, Op: rows.Insert, After: rows.Row{rows.Cell(id), rows.Cell(text)}}}}
}

// pair is both ends of a stream, with an engine served at one.
func pair(t *testing.T, silence time.Duration) (net.Conn, chan error) {
	host, guest := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- serve(context.Background(), guest, guest, quiet, silence) }()
	t.Cleanup(func() { _ = host.Close() })
	return host, done
}

func TestLink(t *testing.T) {
	db := dbtest.Start(t, "--tmpdir="+t.TempDir())
	c := db.Connect(t)
	fresh := func(t *testing.T, n int) apply.Config {
		db.Exec(t, c, "DROP DATABASE IF EXISTS old", "DROP DATABASE IF EXISTS new", "DROP DATABASE IF EXISTS imago",
			"CREATE DATABASE old", "CREATE DATABASE new", "CREATE TABLE old.t (id INT PRIMARY KEY, v LONGTEXT)", "CREATE TABLE new.t (id INT PRIMARY KEY, v LONGTEXT)")
		if n > 0 {
			db.Exec(t, c, "USE old", fmt.Sprintf("INSERT INTO old.t SELECT seq, 'old' FROM seq_1_to_%d", n))
		}
		s := apply.Server{Network: "unix", Address: db.Socket, User: "root"}
		return apply.Config{Set: "s", Run: "r", From: "old", To: "new", Source: s, Target: s}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	settle := func(t *testing.T, l *Client, n int) {
		t.Helper()
		if _, err := l.Settle(ctx, position(n), nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("whole", func(t *testing.T) {
		cfg := fresh(t, 100)
		host, done := pair(t, silence)
		l, err := Dial(ctx, host, cfg, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if l.Position() != position(0) {
			t.Errorf("begins at %v", l.Position())
		}
		long := strings.Repeat("x", 5<<20)
		for i := 1; i <= 3; i++ {
			if err := l.Send(ctx, insert(i, fmt.Sprint(1000+i), long)); err != nil {
				t.Fatal(err)
			}
		}
		for i := 4; i <= 2000; i++ {
			if err := l.Send(ctx, insert(i, fmt.Sprint(1000+i), "new")); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, l, 2000)
		v, err := l.Settle(ctx, position(2000), map[string]uint64{})
		if err != nil || v.Rows != 100 || v.Changes != 2000 {
			t.Errorf("proof %+v, error %v", v, err)
		}
		if got := db.Rows(t, c, "SELECT COUNT(*), MAX(LENGTH(v)) FROM new.t"); got[0] != fmt.Sprintf("2100|%d", len(long)) {
			t.Errorf("rows: %v", got)
		}
		waitFor(t, func() bool { p, _ := l.Progress(); return p.Transactions == 2000 && p.CopyDone })
		short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		defer stop()
		if _, err := l.Settle(short, position(2001), nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "0-1-2000") {
			t.Errorf("settle of what is not there: %v", err)
		}
		if r, err := l.Rejected(ctx); err != nil || len(r) > 0 {
			t.Errorf("rejected: %v, %v", r, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := l.Err(); err != nil {
			t.Error(err)
		}
		// And on.
		host, done = pair(t, silence)
		if l, err = Dial(ctx, host, cfg, quiet); err != nil {
			t.Fatal(err)
		}
		if l.Position() != position(2000) {
			t.Errorf("goes on at %v", l.Position())
		}
		if err := l.Send(ctx, insert(2001, "1", "there already")); err != nil {
			t.Fatal(err)
		}
		<-l.Done()
		if err := l.Err(); !errors.Is(err, apply.ErrConflict) || !strings.Contains(err.Error(), "`t`") {
			t.Errorf("conflict: %v", err)
		}
		if err := l.Send(ctx, insert(2002, "9", "")); !errors.Is(err, apply.ErrConflict) {
			t.Errorf("send after the end: %v", err)
		}
		if _, err := l.Settle(ctx, position(2002), nil); !errors.Is(err, apply.ErrConflict) {
			t.Errorf("settle after the end: %v", err)
		}
		_ = l.Close()
		if err := <-done; !errors.Is(err, apply.ErrConflict) {
			t.Error(err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		cfg := fresh(t, 0)
		db.Exec(t, c, "CREATE TABLE old.nokey (a INT)", "CREATE TABLE new.nokey (a INT)", "CREATE TABLE old.gone (a INT PRIMARY KEY)")
		host, done := pair(t, silence)
		_, err := Dial(ctx, host, cfg, quiet)
		if !errors.Is(err, apply.ErrRefused) || !strings.Contains(err.Error(), `"nokey" has no key`) || !strings.Contains(err.Error(), `"gone"`) {
			t.Errorf("%v", err)
		}
		if err := <-done; !errors.Is(err, apply.ErrRefused) {
			t.Error(err)
		}
	})
	t.Run("silent host", func(t *testing.T) {
		cfg := fresh(t, 20000)
		cfg.ChunkRows = 100
		host, done := pair(t, 300*time.Millisecond)
		out := &sender{w: host}
		if err := out.sendJSON(kindOpen, cfg); err != nil {
			t.Fatal(err)
		}
		if k, _, err := readFrame(host, nil); err != nil || k != kindOpened {
			t.Fatal(k, err)
		}
		go func() { _ = out.sendJSON(kindRate, rateMessage{2000, -1}) }()
		copied := func() uint64 {
			for {
				k, payload, err := readFrame(host, nil)
				if err != nil {
					t.Fatal(err)
				}
				if k != kindProgress {
					continue
				}
				var p apply.Progress
				if err := decode(payload, &p); err != nil {
					t.Fatal(err)
				}
				return p.RowsCopied
			}
		}
		var last uint64
		same := 0
		waitFor(t, func() bool {
			n := copied()
			if n == last && n > 0 {
				same++
			} else {
				same = 0
			}
			last = n
			return same > 4
		})
		if last >= 20000 {
			t.Errorf("all was copied though the host was silent")
		}
		go func() { _ = out.send(kindPing, nil) }()
		waitFor(t, func() bool { return copied() > last })
		_ = host.Close()
		if err := <-done; err != nil {
			t.Errorf("the host went away: %v", err)
		}
	})
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for range 2000 {
		if what() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it did not come to that")
}

func TestServeEnds(t *testing.T) {
	for name, in := range map[string]string{
		"nothing": "", "half a header": "O\x00\x00", "unknown kind": "?\x00\x00\x00\x01x", "too long": "O\xff\xff\xff\xff",
		"not an opening": "P\x00\x00\x00\x00", "bad JSON": "O\x00\x00\x00\x01x",
	} {
		err := Serve(t.Context(), strings.NewReader(in), io.Discard, quiet)
		if gone := in == "" || name == "half a header"; (err == nil) != gone {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// stream is a stream whose other end has said all it will.
type stream struct {
	io.Reader
	io.Writer
}

func (stream) Close() error { return nil }

func FuzzClient(f *testing.F) {
	frame := func(k kind, payload string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{byte(k)}, uint32(len(payload))), payload...)
	}
	f.Add(frame(kindOpened, `{"gtid":"0-1-1"}`))
	f.Add(append(frame(kindOpened, `{}`), frame(kindTaken, "\x00\x00\x00\x00\x00\x00\x00\x00")...))
	f.Add(append(frame(kindOpened, `{}`), frame(kindTaken, "\xff\x00\x00\x00\x00\x00\x00\x00")...))
	f.Add(append(frame(kindOpened, `{}`), frame(kindOpened, `{}`)...))
	f.Add(append(frame(kindProgress, `{"tables":3}`), frame(kindOpened, `{}`)...))
	f.Add(frame(kindFailed, `{"code":"conflict","text":"x"}`))
	f.Add(frame(kindFailed, `null`))
	f.Add(frame(kindClosed, ""))
	f.Add(append(frame(kindOpened, `{}`), frame(kindAnswer, `{"id":1,"failure":{}}`)...))
	f.Add(frame(kindTxn, ``))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := Dial(t.Context(), stream{bytes.NewReader(in), io.Discard}, apply.Config{}, quiet)
		if err != nil {
			return
		}
		_ = l.Send(t.Context(), insert(1, "1", "x"))
		_, _ = l.Settle(t.Context(), position(1), nil)
		<-l.Done()
		_ = l.Close()
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("T\x00\x00\x00\x01at\x00\x00\x00\x01b"))
	f.Add([]byte("R\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		for {
			k, payload, err := readFrame(r, nil)
			if err != nil {
				return
			}
			var out bytes.Buffer
			if err := (&sender{w: &out}).send(k, payload); err != nil {
				t.Fatal(err)
			}
			k2, back, err := readFrame(&out, nil)
			if err != nil || k2 != k || !bytes.Equal(back, payload) {
				t.Fatalf("%c %q came back as %c %q, %v", k, payload, k2, back, err)
			}
		}
	})
}
