package binlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/google/go-cmp/cmp"

	"imago.dev/imago/transfer/rows"
)

// wire counts and cuts the connections of a Config.
type wire struct {
	mu     sync.Mutex
	down   bool
	conns  []net.Conn
	dialed int
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialed++
	if w.down {
		return nil, errors.New("the cable is out")
	}
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		w.conns = append(w.conns, c)
	}
	return c, err
}

// cut closes all connections; down keeps new ones from being made.
func (w *wire) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// shopServer has a database "shop" with one table, and another database.
func shopServer(t *testing.T, args ...string) (*server, *client.Conn, *rows.Schema) {
	t.Helper()
	s := startServer(t, "", append(append([]string{"--max-allowed-packet=128M"}, args...), logged...)...)
	conn := s.connect(t)
	run(t, conn, "CREATE DATABASE shop", "CREATE DATABASE other", "CREATE TABLE shop.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB)",
		"CREATE TABLE other.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)")
	return s, conn, readSchema(t, conn, "shop")
}

// purge takes away all of the log but its end. No replica may be connected.
func purge(t *testing.T, conn *client.Conn) {
	t.Helper()
	var dumps []string
	for range 100 {
		dumps = nil
		if err := rows.Query(conn, "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND='Binlog Dump'", func(v [][]byte) error {
			dumps = append(dumps, string(v[0]))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(dumps) == 0 {
			break
		}
		for _, id := range dumps {
			_, _ = conn.Execute("KILL " + id)
		}
		time.Sleep(20 * time.Millisecond)
	}
	run(t, conn, "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
	var file string
	if err := rows.Query(conn, "SHOW MASTER STATUS", func(v [][]byte) error {
		file = string(v[0])
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for range 100 { // the server still writes down that the former is closed
		run(t, conn, "PURGE BINARY LOGS TO '"+file+"'")
		n := 0
		if err := rows.Query(conn, "SHOW BINARY LOGS", func([][]byte) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the log is not purged")
}

// stream runs Stream until the test ends it; the transactions go to the channel.
func stream(t *testing.T, cfg Config, from rows.Position, schema *rows.Schema) (<-chan *rows.Txn, <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	src, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	txns, ended := make(chan *rows.Txn, 10000), make(chan error, 1)
	go func() {
		ended <- src.Stream(ctx, from, schema, func(txn *rows.Txn) error {
			txns <- txn
			return nil
		})
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		for range ended {
		}
		_ = src.Close()
	})
	return txns, ended
}

func receive(t *testing.T, txns <-chan *rows.Txn, ended <-chan error) *rows.Txn {
	t.Helper()
	select {
	case txn := <-txns:
		return txn
	case err := <-ended:
		t.Fatalf("the stream ended: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("no transaction came")
	}
	return nil
}

func endOf(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the stream does not end")
	}
	return nil
}

// TestPurged is gh-ost 629: a gap is fatal, at the start and after a new connection.
func TestPurged(t *testing.T) {
	t.Parallel()
	s, conn, schema := shopServer(t)
	old := position(t, conn)
	run(t, conn, "INSERT INTO shop.t (v) VALUES ('a')")
	purge(t, conn)
	if _, err := follow(t, s, s.config(), old, schema); !errors.Is(err, ErrPurged) {
		t.Errorf("begun at a place that is gone: %v", err)
	}

	var w wire
	cfg := s.config()
	cfg.Dial = w.dial
	txns, ended := stream(t, cfg, position(t, conn), schema)
	run(t, conn, "INSERT INTO shop.t (v) VALUES ('b')")
	if got := show(receive(t, txns, ended)); got != "insert t 2,b" {
		t.Errorf("received %q", got)
	}
	w.cut(true)
	run(t, conn, "INSERT INTO shop.t (v) VALUES ('lost')")
	purge(t, conn)
	run(t, conn, "INSERT INTO shop.t (v) VALUES ('after the gap')")
	w.cut(false)
	if err := endOf(t, ended); !errors.Is(err, ErrPurged) || errors.Is(err, ErrStale) {
		t.Errorf("connected again after a gap: %v", err)
	}
	select {
	case txn := <-txns:
		if len(txn.Changes) > 0 {
			t.Errorf("handed over across the gap: %s", show(txn))
		}
	default:
	}

	// A position of another history.
	other := rows.Position{GTID: "0-1-999999"}
	if _, err := follow(t, s, s.config(), other, schema); err != nil {
		t.Errorf("follow: %v", err) // the test's helper sees that it is reached already
	}
	_, ended = stream(t, s.config(), other, schema)
	if err := endOf(t, ended); !errors.Is(err, ErrPurged) {
		t.Errorf("a position that never was: %v", err)
	}
}

// TestReconnect cuts the connection again and again; each transaction comes once
// and in order.
func TestReconnect(t *testing.T) {
	t.Parallel()
	s, conn, schema := shopServer(t)
	from := position(t, conn)
	var w wire
	cfg := s.config()
	cfg.Dial = w.dial
	txns, ended := stream(t, cfg, from, schema)
	const most = 600
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 15 {
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
			w.cut(false)
		}
	}()
	for i := range most {
		run(t, conn, "BEGIN", fmt.Sprintf("INSERT INTO shop.t VALUES (%d,REPEAT('x',%d))", i+1, 1+rand.IntN(20000)), fmt.Sprintf("UPDATE shop.t SET v='%d' WHERE id=%d", i, i+1), "COMMIT")
	}
	<-done
	for i := 0; i < most; {
		txn := receive(t, txns, ended)
		if len(txn.Changes) == 0 {
			continue
		}
		if len(txn.Changes) != 2 || string(txn.Changes[0].After[0]) != fmt.Sprint(i+1) || string(txn.Changes[1].After[1]) != fmt.Sprint(i) {
			t.Fatalf("transaction %d is %.200s", i, show(txn))
		}
		i++
	}
	if w.dialed < 4 {
		t.Errorf("connected only %d times", w.dialed)
	}
}

// TestSilence: a server that says nothing, not even a heartbeat.
func TestSilence(t *testing.T) {
	t.Parallel()
	s, conn, schema := shopServer(t)
	cfg := s.config()
	cfg.Silence = 900 * time.Millisecond
	txns, ended := stream(t, cfg, position(t, conn), schema)
	run(t, conn, "INSERT INTO shop.t (v) VALUES ('a')")
	receive(t, txns, ended)
	// Quiet is not silent.
	select {
	case err := <-ended:
		t.Fatalf("ended while the server was only quiet: %v", err)
	case <-time.After(2 * cfg.Silence):
	}
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err := endOf(t, ended)
	if d := time.Since(began); !errors.Is(err, ErrStale) || d > 3*cfg.Silence {
		t.Errorf("after %v: %v", d, err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// A receiver that takes its time is no silence.
	src, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	from := position(t, conn)
	run(t, conn, "INSERT INTO shop.t (v) VALUES ('slow')", "INSERT INTO shop.t (v) VALUES ('next')")
	n, enough := 0, errors.New("enough")
	err = src.Stream(t.Context(), from, schema, func(txn *rows.Txn) error {
		n += len(txn.Changes)
		if n == 2 {
			return enough
		}
		time.Sleep(2 * cfg.Silence)
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("a slow receiver: %v", err)
	}
}

// TestOthersWrite: the position goes on while only others write, quickly when the
// log pauses and each second when it does not.
func TestOthersWrite(t *testing.T) {
	t.Parallel()
	s, conn, schema := shopServer(t)
	txns, ended := stream(t, s.config(), position(t, conn), schema)
	run(t, conn, "INSERT INTO other.t (v) VALUES (1)")
	began := time.Now()
	txn := receive(t, txns, ended)
	if d := time.Since(began); len(txn.Changes) != 0 || txn.Position.GTID != position(t, conn).GTID || d > 500*time.Millisecond {
		t.Errorf("after %v: %+v, production at %s", d, txn, position(t, conn).GTID)
	}
	if !strings.HasPrefix(txn.Position.File, "bin.0") || txn.Position.At == 0 || time.Since(txn.Committed) > time.Minute {
		t.Errorf("transaction %+v", txn)
	}
	for time.Since(began) < 2500*time.Millisecond {
		run(t, conn, "INSERT INTO other.t (v) VALUES (2)")
	}
	if n := len(txns); n < 1 {
		t.Errorf("%d positions in two seconds", n)
	}
}

// TestLargeEvents: rows that take more than one packet of the protocol.
func TestLargeEvents(t *testing.T) {
	t.Parallel()
	s, conn, schema := shopServer(t)
	from := position(t, conn)
	sizes := []int{1<<24 - 200, 1<<24 - 60, 1<<24 - 1, 1 << 24, 40 << 20}
	for _, n := range sizes {
		run(t, conn, fmt.Sprintf("INSERT INTO shop.t (v) VALUES (REPEAT('x',%d))", n))
	}
	list, err := follow(t, s, s.config(), from, schema)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range sizes {
		if i >= len(list) || len(list[i].Changes[0].After[1]) != n {
			t.Fatalf("row %d of %d", i, len(list))
		}
	}
	cfg := s.config()
	cfg.MaxTxnBytes = 30 << 20
	if _, err := follow(t, s, cfg, from, schema); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "31457280") {
		t.Errorf("an event above the limit: %v", err)
	}
	run(t, conn, "TRUNCATE other.t")
	from = position(t, conn)
	run(t, conn, "BEGIN")
	for range 40 {
		run(t, conn, "INSERT INTO shop.t (v) VALUES (REPEAT('x',1000000))")
	}
	run(t, conn, "COMMIT")
	if _, err := follow(t, s, cfg, from, schema); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a transaction above the limit: %v", err)
	}
}

// TestServerRestarts: production goes down with a transaction open, and comes back.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	s, conn, schema := shopServer(t)
	txns, ended := stream(t, s.config(), position(t, conn), schema)
	run(t, conn, "INSERT INTO shop.t (v) VALUES ('a')", "BEGIN", "INSERT INTO shop.t (v) VALUES ('never')")
	s.kill(t)
	s.start(t)
	conn = s.connect(t)
	run(t, conn, "INSERT INTO shop.t VALUES (100,'b')")
	var got []string
	for len(got) < 2 {
		if txn := receive(t, txns, ended); len(txn.Changes) > 0 {
			got = append(got, show(txn))
		}
	}
	// In peace this time; and an administrator ends the connection.
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.gone(t)
	s.start(t)
	conn = s.connect(t)
	run(t, conn, "INSERT INTO shop.t VALUES (101,'c')")
	for len(got) < 3 {
		if txn := receive(t, txns, ended); len(txn.Changes) > 0 {
			got = append(got, show(txn))
		}
	}
	run(t, conn, "KILL "+ask(t, conn, "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND='Binlog Dump'"), "INSERT INTO shop.t VALUES (102,'d')")
	for len(got) < 4 {
		if txn := receive(t, txns, ended); len(txn.Changes) > 0 {
			got = append(got, show(txn))
		}
	}
	if diff := cmp.Diff([]string{"insert t 1,a", "insert t 100,b", "insert t 101,c", "insert t 102,d"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestEncrypted: the server deciphers its log before it sends it.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("1;770A8A65DA156D24EE2A093277530142\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, conn, schema := shopServer(t, "--plugin-load-add=file_key_management", "--file-key-management-filename="+keys, "--encrypt-binlog=ON")
	from := position(t, conn)
	run(t, conn, "INSERT INTO shop.t (v) VALUES ('secret')", "FLUSH BINARY LOGS", "INSERT INTO shop.t (v) VALUES ('more')")
	list, err := follow(t, s, s.config(), from, schema)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || show(list[0]) != "insert t 1,secret" {
		t.Errorf("%d transactions", len(list))
	}
}

// TestSource asks what the switch asks.
func TestSource(t *testing.T) {
	t.Parallel()
	s, conn, _ := shopServer(t)
	src, err := Open(t.Context(), s.config())
	if err != nil {
		t.Fatal(err)
	}
	if src.Flavor() != "mariadb" {
		t.Errorf("flavor %q", src.Flavor())
	}
	before, err := src.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run(t, conn, "INSERT INTO shop.t (id,v) VALUES (41,'a')")
	after, err := src.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if forward, err := Reached(after, before); !forward || err != nil {
		t.Errorf("%s before %s: %v", after.GTID, before.GTID, err)
	}
	if back, err := Reached(before, after); back || err != nil {
		t.Errorf("%s after %s: %v", after.GTID, before.GTID, err)
	}
	counters, err := src.Counters(t.Context())
	if diff := cmp.Diff(map[string]uint64{"t": 42}, counters); diff != "" || err != nil {
		t.Error(diff, err)
	}
	run(t, conn, "BEGIN", "UPDATE shop.t SET v='open'")
	open, err := src.OpenTransactions(t.Context())
	if err != nil || len(open) != 1 || !strings.Contains(open[0], "root") {
		t.Errorf("open transactions %q, %v", open, err)
	}
	run(t, conn, "COMMIT")
	time.Sleep(200 * time.Millisecond)
	if open, err = src.OpenTransactions(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("open transactions %q, %v", open, err)
	}
	// A lost connection is made anew.
	s.kill(t)
	s.start(t)
	if _, err := src.Position(t.Context()); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	if _, err := src.Position(t.Context()); err == nil {
		t.Error("a closed source answers")
	}
}
