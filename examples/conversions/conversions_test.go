// Package conversions_test runs the worked examples: each has an old schema with
// data, a new one, and the conversions between them, and is transferred while
// others write.
package conversions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/goccy/go-yaml"

	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/binlog"
	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

// plan is an example's part of a plan.
type plan struct {
	Skip        []string             `json:"skip"`
	Conversions []convert.Conversion `json:"conversions"`
}

// TestExamples runs each folder's example through the engine that a real upgrade
// uses, reading a real server's log.
func TestExamples(t *testing.T) {
	folders, err := filepath.Glob("*/conversions.yaml")
	if err != nil || len(folders) < 5 {
		t.Fatal(folders, err)
	}
	production := dbtest.Start(t, "--log-bin=bin", "--binlog-format=ROW", "--binlog-row-image=FULL", "--server-id=1")
	target := dbtest.Start(t)
	for _, f := range folders {
		t.Run(filepath.Dir(f), func(t *testing.T) {
			x := &example{t: t, dir: filepath.Dir(f), production: production, target: target}
			x.db = strings.ReplaceAll(x.dir, "-", "_")
			x.run()
		})
	}
}

type example struct {
	t                  *testing.T
	dir, db            string
	production, target *dbtest.Server
	plan               plan
	prod               *client.Conn // of production, in its database
	made               *client.Conn // of the target, in the new database
	source             *binlog.Source
	writers            sync.WaitGroup
	stop               chan struct{}
	writes             sync.Map // how often each writer went through load.sql
}

func (x *example) run() {
	x.readPlan()
	x.setUp()
	ctx, cancel := context.WithTimeout(x.t.Context(), 2*time.Minute)
	defer cancel()

	x.write(2)
	defer x.stopWriting()
	start := x.clone()
	engine := x.open(ctx, start)
	running := x.follow(ctx, engine)
	defer running()

	time.Sleep(700 * time.Millisecond) // of writes, while it copies and converts and behind that
	x.stopWriting()
	x.wantRejected(ctx, engine)
	x.mend(ctx, engine)
	v := x.settle(ctx, engine)
	if v.Objects == 0 {
		x.t.Errorf("nothing was compared: %+v", v)
	}
	x.compare()
	rounds := 0
	x.writes.Range(func(_, n any) bool { rounds += n.(int); return true })
	if rounds == 0 {
		x.t.Error("nobody wrote anything")
	}
	p := engine.Progress()
	x.t.Logf("%d rounds of writes, %d transactions with %d changes, %d objects compared", rounds, p.Transactions, p.Changes, v.Objects)
}

func (x *example) file(name string) string { return filepath.Join(x.dir, name) }

func (x *example) read(name string) string {
	x.t.Helper()
	b, err := os.ReadFile(x.file(name))
	if err != nil {
		x.t.Fatal(err)
	}
	return string(b)
}

func (x *example) readPlan() {
	x.t.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(x.read("conversions.yaml")))
	if err != nil {
		x.t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(asJSON)))
	d.DisallowUnknownFields()
	if err := d.Decode(&x.plan); err != nil {
		x.t.Fatal(err)
	}
	for i := range x.plan.Conversions {
		// In a plan, a program is an absolute path of the guest; here it lies in the folder.
		for j, arg := range x.plan.Conversions[i].Program {
			if local := x.file(filepath.Base(arg)); strings.HasPrefix(arg, "/opt/convert/") {
				x.plan.Conversions[i].Program[j] = local
			}
		}
	}
}

func (x *example) setUp() {
	x.t.Helper()
	x.prod, x.made = x.production.Plain(x.t), x.target.Plain(x.t)
	x.production.Exec(x.t, x.prod, "CREATE DATABASE "+x.db, "USE "+x.db)
	x.target.Exec(x.t, x.made, "CREATE DATABASE "+x.db+"_new", "USE "+x.db+"_new", "SET time_zone='+00:00'")
	x.production.Exec(x.t, x.prod, "SET time_zone='+00:00'")
	x.production.Script(x.t, x.db, x.file("old.sql"))
	x.target.Script(x.t, x.db+"_new", x.file("new.sql"))
	source, err := binlog.Open(x.t.Context(), binlog.Config{Address: x.production.Socket, User: "root", Database: x.db, Skip: x.plan.Skip})
	if err != nil {
		x.t.Fatal(err)
	}
	x.source = source
	x.t.Cleanup(func() { _ = source.Close() })
}

// statements are a script's, one by one.
func statements(script string) []string {
	var lines []string
	for l := range strings.Lines(script) {
		if !strings.HasPrefix(l, "-- ") {
			lines = append(lines, l)
		}
	}
	var out []string
	for _, s := range strings.Split(strings.Join(lines, ""), ";\n") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// write has n clients go through load.sql until stopWriting.
func (x *example) write(n int) {
	x.stop = make(chan struct{})
	load := statements(x.read("load.sql"))
	for i := range n {
		c := x.production.Plain(x.t)
		x.production.Exec(x.t, c, "USE "+x.db, "SET time_zone='+00:00'")
		x.writers.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-x.stop:
					return
				default:
				}
				if err := once(c, load); err != nil {
					x.t.Error(err)
					return
				}
				x.writes.Store(i, round+1)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
}

// once runs statements; a deadlock ends the round.
func once(c *client.Conn, statements []string) error {
	for _, s := range statements {
		_, err := c.Execute(s)
		var my *mysql.MyError
		switch {
		case err == nil:
		case errors.As(err, &my) && slices.Contains([]uint16{1020, 1205, 1213}, my.Code):
			_, err = c.Execute("ROLLBACK")
			return err
		default:
			_, _ = c.Execute("ROLLBACK")
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (x *example) stopWriting() {
	select {
	case <-x.stop:
	default:
		close(x.stop)
	}
	x.writers.Wait()
}

// clone copies production's tables as they are at one moment to the target's
// server, where a cloned machine would have them.
func (x *example) clone() rows.Position {
	x.t.Helper()
	s, c := x.production, x.production.Plain(x.t)
	defer func() { _ = c.Close() }()
	s.Exec(x.t, c, "FLUSH TABLES WITH READ LOCK")
	at, err := x.source.Position(x.t.Context())
	if err != nil {
		x.t.Fatal(err)
	}
	dump := filepath.Join(x.t.TempDir(), "dump.sql")
	s.Dump(x.t, x.db, dump)
	s.Exec(x.t, c, "UNLOCK TABLES")
	x.target.Exec(x.t, x.target.Plain(x.t), "CREATE DATABASE "+x.db)
	x.target.Script(x.t, x.db, dump)
	return at
}

func (x *example) open(ctx context.Context, start rows.Position) *apply.Engine {
	x.t.Helper()
	server := apply.Server{Network: "unix", Address: x.target.Socket, User: "root"}
	engine, err := apply.Open(ctx, apply.Config{
		Set: x.db, Run: "example", Source: server, Target: server, From: x.db, To: x.db + "_new",
		Skip: x.plan.Skip, Conversions: x.plan.Conversions, Start: start, ChunkRows: 100,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		x.t.Fatal(err)
	}
	return engine
}

// follow feeds the engine with production's log until the returned function is
// called.
func (x *example) follow(ctx context.Context, engine *apply.Engine) (end func()) {
	x.t.Helper()
	schema, err := rows.ReadSchema(ctx, x.production.Connect(x.t), x.db)
	if err != nil {
		x.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	in := make(chan *rows.Txn)
	var wait sync.WaitGroup
	from := engine.Position()
	wait.Go(func() {
		err := x.source.Stream(ctx, from, schema, func(txn *rows.Txn) error {
			select {
			case in <- txn:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		if ctx.Err() == nil {
			x.t.Errorf("the stream: %v", err)
			cancel()
		}
	})
	wait.Go(func() {
		if err := engine.Run(ctx, in); ctx.Err() == nil {
			x.t.Errorf("the engine: %v", err)
			cancel()
		}
	})
	return func() {
		cancel()
		wait.Wait()
	}
}

func (x *example) now(ctx context.Context) (rows.Position, map[string]uint64) {
	x.t.Helper()
	at, err := x.source.Position(ctx)
	if err != nil {
		x.t.Fatal(err)
	}
	counters, err := x.source.Counters(ctx)
	if err != nil {
		x.t.Fatal(err)
	}
	return at, counters
}

// wantRejected holds what was set aside against rejected.txt: the conversion, the
// key, and how the reason begins. It blocks.
func (x *example) wantRejected(ctx context.Context, engine *apply.Engine) {
	x.t.Helper()
	at, counters := x.now(ctx)
	if _, err := engine.Settle(ctx, at, counters); !errors.Is(err, apply.ErrRejected) {
		x.t.Fatalf("settled with objects set aside: %v", err)
	}
	rejected, err := engine.Rejected(ctx)
	if err != nil {
		x.t.Fatal(err)
	}
	var got []string
	for _, r := range rejected {
		got = append(got, r.Conversion+" "+r.Key+" "+r.Reason)
	}
	slices.Sort(got)
	want := strings.Split(strings.TrimSpace(x.read("rejected.txt")), "\n")
	slices.Sort(want)
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && strings.HasPrefix(got[i], want[i])
	}
	if !ok {
		x.t.Fatalf("set aside:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// mend corrects production's data, as its users would.
func (x *example) mend(ctx context.Context, engine *apply.Engine) {
	x.t.Helper()
	x.production.Exec(x.t, x.prod, statements(x.read("fix.sql"))...)
	at, _ := x.now(ctx)
	for {
		if reached, err := binlog.Reached(engine.Position(), at); err != nil {
			x.t.Fatal(err)
		} else if reached {
			break
		}
		select {
		case <-ctx.Done():
			x.t.Fatal(context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := engine.Retry(ctx); err != nil {
		x.t.Fatal(err)
	}
}

func (x *example) settle(ctx context.Context, engine *apply.Engine) apply.Verified {
	x.t.Helper()
	at, counters := x.now(ctx)
	v, err := engine.Settle(ctx, at, counters)
	if err != nil {
		rejected, _ := engine.Rejected(ctx)
		x.t.Fatalf("%v\n%+v", err, rejected)
	}
	return v
}

// compare asks both databases what expect.sql asks, pair by pair.
func (x *example) compare() {
	x.t.Helper()
	pairs := strings.Split(x.read("expect.sql"), "-- old\n")[1:]
	if len(pairs) == 0 {
		x.t.Fatal("expect.sql asks nothing")
	}
	for _, pair := range pairs {
		old, now, ok := strings.Cut(pair, "-- new\n")
		if !ok {
			x.t.Fatalf("no -- new behind %s", old)
		}
		a := x.production.Rows(x.t, x.prod, statements(old)[0])
		b := x.target.Rows(x.t, x.made, statements(now)[0])
		if len(a) == 0 {
			x.t.Errorf("nothing is compared by %s", old)
		}
		for i := range max(len(a), len(b)) {
			was, is := "(nothing)", "(nothing)"
			if i < len(a) {
				was = a[i]
			}
			if i < len(b) {
				is = b[i]
			}
			if was != is {
				x.t.Errorf("%d and %d rows; row %d\n of %s\nis %s\nand %s", len(a), len(b), i, now, was, is)
				break
			}
		}
	}
}
