package apply

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

// bench is a production whose clone and log a test makes itself: what is written
// to it goes to the "production" database and, as transactions, to the stream.
type bench struct {
	t      testing.TB
	server *dbtest.Server // has the clone "old" and the target "new"
	c      *client.Conn
	cfg    Config
	seq    int
}

func newBench(t *testing.T, server *dbtest.Server, schema ...string) *bench {
	t.Helper()
	b := &bench{t: t, server: server, c: server.Connect(t)}
	suffix := strings.ToLower(strings.NewReplacer("/", "_", " ", "_", "#", "_", "-", "_", ",", "", "(", "", ")", "").Replace(t.Name()))
	old, now := "old_"+suffix, "new_"+suffix
	if len(now) > 50 {
		old, now = old[:50], now[:50]
	}
	b.cfg = Config{Set: t.Name(), Run: "run", From: old, To: now, Start: at(0), OverlapUntil: at(0), Workers: 2,
		Source: Server{"unix", server.Socket, "root", ""}, Target: Server{"unix", server.Socket, "root", ""}}
	for _, db := range []string{old, now} {
		b.exec("CREATE DATABASE " + db + " CHARACTER SET utf8mb4")
		for _, s := range schema {
			b.exec("USE "+db, s)
		}
	}
	return b
}

func at(n int) rows.Position {
	if n == 0 {
		return rows.Position{}
	}
	return rows.Position{GTID: fmt.Sprintf("0-1-%d", n)}
}

func (b *bench) exec(statements ...string) {
	b.t.Helper()
	for _, s := range statements {
		s = strings.ReplaceAll(strings.ReplaceAll(s, "{old}", b.cfg.From), "{new}", b.cfg.To)
		if _, err := b.c.Execute(s); err != nil {
			b.t.Fatalf("%.300s: %v", s, err)
		}
	}
}

func (b *bench) rows(query string) []string {
	b.t.Helper()
	query = strings.ReplaceAll(strings.ReplaceAll(query, "{old}", b.cfg.From), "{new}", b.cfg.To)
	return b.server.Rows(b.t, b.c, query)
}

func (b *bench) name(table string) rows.Name { return rows.Name{Database: b.cfg.From, Table: table} }

// row makes a row of texts; "NULL" is none.
func row(values ...string) rows.Row {
	r := make(rows.Row, len(values))
	for i, v := range values {
		if v != "NULL" {
			r[i] = rows.Cell(v)
		}
	}
	return r
}

func (b *bench) ins(table string, after rows.Row) rows.Change {
	return rows.Change{Table: b.name(table), Op: rows.Insert, After: after}
}

func (b *bench) del(table string, before rows.Row) rows.Change {
	return rows.Change{Table: b.name(table), Op: rows.Delete, Before: before}
}

func (b *bench) upd(table string, before, after rows.Row) rows.Change {
	return rows.Change{Table: b.name(table), Op: rows.Update, Before: before, After: after}
}

// txn is the next transaction.
func (b *bench) txn(changes ...rows.Change) *rows.Txn {
	b.seq++
	return &rows.Txn{ID: at(b.seq).GTID, Position: at(b.seq), Committed: time.Now(), Changes: changes}
}

// running is an engine at work.
type running struct {
	*Engine
	t      testing.TB
	in     chan *rows.Txn
	done   chan error
	cancel context.CancelFunc
	once   sync.Once
	err    error
}

func (b *bench) open() *running {
	b.t.Helper()
	return start(b.t, b.prepare())
}

func (b *bench) prepare() *Engine {
	b.t.Helper()
	e, err := Open(b.t.Context(), b.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

func start(t testing.TB, e *Engine) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Engine: e, t: t, in: make(chan *rows.Txn, 64), done: make(chan error, 1), cancel: cancel}
	go func() { r.done <- e.Run(ctx, r.in) }()
	t.Cleanup(func() { r.cancel(); r.wait() })
	return r
}

func (r *running) wait() error {
	r.once.Do(func() {
		select {
		case r.err = <-r.done:
		case <-time.After(20 * time.Second):
			r.cancel()
			<-r.done
			r.t.Error("the engine went on")
		}
	})
	return r.err
}

func (r *running) send(txns ...*rows.Txn) {
	r.t.Helper()
	for _, txn := range txns {
		select {
		case r.in <- txn:
		case <-r.sched.ended:
			r.t.Fatalf("the engine ended: %v", r.wait())
		}
	}
}

func (r *running) settle(n int) Verified {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	v, err := r.Settle(ctx, at(n), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// close ends the engine by closing its stream.
func (r *running) close() {
	r.t.Helper()
	close(r.in)
	if err := r.wait(); err != nil {
		r.t.Fatal(err)
	}
}

// same compares two tables by the server, whole.
func (b *bench) same(query string) {
	b.t.Helper()
	old := b.rows(strings.ReplaceAll(query, "{db}", "{old}"))
	now := b.rows(strings.ReplaceAll(query, "{db}", "{new}"))
	if a, z := strings.Join(old, "\n"), strings.Join(now, "\n"); a != z {
		b.t.Errorf("%s: the databases differ:\n%.2000s\n---\n%.2000s", query, a, z)
	}
}
