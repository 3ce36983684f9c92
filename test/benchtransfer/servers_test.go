package benchtransfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/binlog"
	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

// wideTable has rows of about 230 bytes.
const wideTable = "CREATE TABLE wide (id BIGINT PRIMARY KEY AUTO_INCREMENT, a INT NOT NULL, name VARCHAR(64) NOT NULL, b VARCHAR(100), c TEXT, d DATETIME, e DOUBLE, f CHAR(1)) CHARACTER SET utf8mb4"

const ordersTable = "CREATE TABLE orders (id BIGINT PRIMARY KEY AUTO_INCREMENT, item BIGINT NOT NULL, note VARCHAR(100) NOT NULL) CHARACTER SET utf8mb4"

func fillWide(rows int) string {
	return fmt.Sprintf("INSERT INTO wide SELECT seq, seq*7 %% 100003, CONCAT('user ',seq), REPEAT(CHAR(97+seq%%26),60), REPEAT(MD5(seq),3), '2026-01-02 03:04:05', seq/3, IF(seq%%3,NULL,'x') FROM seq_1_to_%d", rows)
}

// servers are the machines of an upgrade, and two replicas as the peers.
type servers struct {
	t        testing.TB
	port     string
	rows     int            // of shop.wide
	prod     *dbtest.Server // with a log, reached by its replicas through a port
	clone    *dbtest.Server // holds what production's disk held
	target   *dbtest.Server
	replicas [2]*dbtest.Server
	// One connection to each, for set-up and questions.
	pc, cc, tc *client.Conn
	rc         [2]*client.Conn
}

// startServers gives target and replicas the same, durable settings.
func startServers(t testing.TB, n int) *servers {
	s := &servers{t: t, port: freePort(t), rows: n}
	durable := []string{"--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G"}
	s.prod = dbtest.Start(t, "--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M", "--log-bin=bin", "--server-id=1", "--binlog-format=row",
		"--skip-networking=0", "--bind-address=127.0.0.1", "--port="+s.port)
	s.clone = dbtest.Start(t, "--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M")
	s.target = dbtest.Start(t, durable...)
	for i := range s.replicas {
		s.replicas[i] = dbtest.Start(t, append(durable, fmt.Sprintf("--server-id=%d", i+2), "--skip-slave-start")...)
		s.rc[i] = s.replicas[i].Connect(t)
	}
	s.pc, s.cc, s.tc = s.prod.Connect(t), s.clone.Connect(t), s.target.Connect(t)
	s.clone.Exec(t, s.cc, "CREATE DATABASE shop", "USE shop", wideTable, ordersTable, fillWide(n))
	s.prod.Exec(t, s.pc, "CREATE USER r@'%' IDENTIFIED BY 'r'", "GRANT ALL ON *.* TO r@'%'")
	return s
}

// freePort is a port of the loopback that nobody has at this moment.
func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// empty makes the target as new, with some tables in its database.
func (s *servers) empty(tables ...string) {
	s.t.Helper()
	s.target.Exec(s.t, s.tc, "DROP DATABASE IF EXISTS new", "DROP DATABASE IF EXISTS imago_old_new", "DROP DATABASE IF EXISTS imago", "CREATE DATABASE new", "USE new")
	s.target.Exec(s.t, s.tc, tables...)
}

func onSocket(s *dbtest.Server) apply.Server {
	return apply.Server{Network: "unix", Address: s.Socket, User: "root"}
}

// log opens production's log for one database.
func (s *servers) log(database string) (*binlog.Source, *rows.Schema) {
	s.t.Helper()
	log, err := binlog.Open(s.t.Context(), binlog.Config{Address: "127.0.0.1:" + s.port, User: "r", Password: "r", Database: database})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = log.Close() })
	schema, err := rows.ReadSchema(s.t.Context(), s.pc, database)
	if err != nil {
		s.t.Fatal(err)
	}
	return log, schema
}

func position(t testing.TB, log *binlog.Source) rows.Position {
	t.Helper()
	at, err := log.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// transfer is an engine at work.
type transfer struct {
	*apply.Engine
	t    testing.TB
	in   chan *rows.Txn
	stop func() error // ends it and says what Run said
	done chan struct{}
	err  error
}

// open runs an engine whose copy begins at a rate of rows a second.
func open(t testing.TB, cfg apply.Config, rate int64) *transfer {
	t.Helper()
	e, err := apply.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	e.SetRate(rate, -1)
	ctx, cancel := context.WithCancel(context.Background())
	x := &transfer{Engine: e, t: t, in: make(chan *rows.Txn, 1024), done: make(chan struct{})}
	go func() {
		defer close(x.done)
		x.err = e.Run(ctx, x.in)
	}()
	x.stop = func() error { cancel(); <-x.done; return x.err }
	t.Cleanup(func() { _ = x.stop() })
	return x
}

// await looks each few milliseconds until the engine's progress is as wanted.
func (x *transfer) await(what string, reached func(apply.Progress) bool) {
	x.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !reached(x.Progress()); {
		select {
		case <-x.done:
			x.t.Fatalf("%s: the engine ended: %v", what, x.err)
		case <-time.After(3 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("%s: not in two minutes: %+v", what, x.Progress())
		}
	}
}

func (x *transfer) settle(at rows.Position) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := x.Settle(ctx, at, nil); err != nil {
		x.t.Fatal(err)
	}
}

// follow streams production's log into the engine until the returned function is called.
func (x *transfer) follow(log *binlog.Source, schema *rows.Schema) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- log.Stream(ctx, x.Position(), schema, func(txn *rows.Txn) error {
			select {
			case x.in <- txn:
				return nil
			case <-x.done:
				return x.err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			x.t.Errorf("the stream ended: %v", err)
		}
	}
}

// equal compares a table of some servers as a whole.
func equal(t testing.TB, what map[string][]string) {
	t.Helper()
	var first, name string
	for n, got := range what {
		if s := strings.Join(got, "\n"); first == "" {
			first, name = s, n
		} else if s != first {
			t.Errorf("%s has %s, %s has %s", name, first, n, s)
		}
	}
}
