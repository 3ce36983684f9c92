package apply_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"go.uber.org/goleak"

	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/link"
	"imago.dev/imago/transfer/rows"
)

// TestMain is the agent, too, so that a test can kill one.
func TestMain(m *testing.M) {
	if os.Getenv("IMAGO_TEST_AGENT") != "" {
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		if err := link.Serve(context.Background(), os.Stdin, os.Stdout, log); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(alone(m))
}

// alone runs the tests with a directory for temporary files of their own: a
// database server that starts clears what it finds there of others.
func alone(m *testing.M) int {
	dir, err := os.MkdirTemp("", "apply")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("TMPDIR", dir); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// pipes is an agent's standard input and output.
type pipes struct {
	io.ReadCloser
	in io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p pipes) Close() error                { _ = p.in.Close(); return p.ReadCloser.Close() }

type agent struct {
	cmd  *exec.Cmd
	link *link.Client
}

func startAgent(ctx context.Context, t *testing.T, cfg apply.Config) (*agent, error) {
	t.Helper()
	a := &agent{cmd: exec.Command(os.Args[0])}
	a.cmd.Env = append(os.Environ(), "IMAGO_TEST_AGENT=1")
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	a.cmd.Stderr = os.Stderr
	in, err := a.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.kill)
	a.link, err = link.Dial(ctx, pipes{out, in}, cfg, slog.New(slog.DiscardHandler))
	return a, err
}

func (a *agent) kill() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// world is a production in memory: its tables, and the log of what happened.
type world struct {
	t      *testing.T
	r      *rand.Rand
	tables []*worldTable
	log    []*rows.Txn
	cur    []rows.Change
	tag    int
	// calm is the time around the clone, in which no chain of foreign keys acts:
	// what a foreign key took because of another one, nobody could know then.
	calm bool
}

type worldTable struct {
	name   string
	create string
	schema *rows.Table
	rows   map[string]rows.Row // by key
	keys   []string            // of rows, in no order, for picking
	fresh  func(w *world) rows.Row
	change func(w *world, r rows.Row) rows.Row
	// dropped does what a foreign key does, unseen by the log.
	dropped func(w *world, r rows.Row)
}

func cells(v ...any) rows.Row {
	r := make(rows.Row, len(v))
	for i, x := range v {
		if x != nil {
			r[i] = rows.Cell(fmt.Sprint(x))
		}
	}
	return r
}

func (w *world) text(n int) string {
	const letters = "abcdefgh xyzABC'\\\"-0äöü"
	list := []rune(letters)
	out := make([]rune, w.r.IntN(n+1))
	for i := range out {
		out[i] = list[w.r.IntN(len(list))]
	}
	return strings.TrimSpace(string(out))
}

func (w *world) word() string {
	out := make([]byte, 1+w.r.IntN(4))
	for i := range out {
		out[i] = "abcdefghABCDEFGH"[w.r.IntN(16)]
	}
	return string(out)
}

// upper and lower work on the letters of any character set.
func upper(s string) string { return shift(s, 'a', 'z', -32) }
func lower(s string) string { return shift(s, 'A', 'Z', 32) }

func shift(s string, from, to byte, by int) string {
	b := []byte(s)
	for i, c := range b {
		if c >= from && c <= to {
			b[i] = byte(int(c) + by)
		}
	}
	return string(b)
}

func (w *world) next() int { w.tag++; return w.tag }

func (wt *worldTable) key(r rows.Row) string {
	var b strings.Builder
	for _, v := range wt.schema.KeyOf(r) {
		k := string(v)
		if wt.name == "words" {
			k = lower(k)
		}
		fmt.Fprintf(&b, "%d:%s", len(v), k)
	}
	return b.String()
}

func (wt *worldTable) put(r rows.Row) {
	k := wt.key(r)
	if wt.rows[k] == nil {
		wt.keys = append(wt.keys, k)
	}
	wt.rows[k] = r
}

func (wt *worldTable) drop(r rows.Row) {
	k := wt.key(r)
	delete(wt.rows, k)
	i := slices.Index(wt.keys, k)
	wt.keys[i] = wt.keys[len(wt.keys)-1]
	wt.keys = wt.keys[:len(wt.keys)-1]
}

func (w *world) table(name string) *worldTable {
	i := slices.IndexFunc(w.tables, func(t *worldTable) bool { return t.name == name })
	return w.tables[i]
}

func (w *world) change(wt *worldTable, op rows.Op, before, after rows.Row) {
	w.cur = append(w.cur, rows.Change{Table: rows.Name{Database: "old", Table: wt.name}, Op: op, Before: before, After: after})
	if before != nil {
		wt.drop(before)
	}
	if after != nil {
		wt.put(after)
	}
	if after == nil && wt.dropped != nil {
		wt.dropped(w, before)
	}
}

func (w *world) commit() {
	n := len(w.log) + 1
	w.log = append(w.log, &rows.Txn{ID: fmt.Sprintf("0-1-%d", n), Position: place(n), Committed: time.Now(), Changes: w.cur})
	w.cur = nil
}

func place(n int) rows.Position {
	if n == 0 {
		return rows.Position{}
	}
	return rows.Position{GTID: fmt.Sprintf("0-1-%d", n)}
}

// step is one random transaction.
func (w *world) step() {
	for range 1 + w.r.IntN(6) {
		wt := w.tables[w.r.IntN(len(w.tables))]
		switch n := w.r.IntN(10); {
		case n < 4 || len(wt.keys) == 0:
			if r := wt.fresh(w); r != nil && wt.rows[wt.key(r)] == nil {
				w.change(wt, rows.Insert, nil, r)
			}
		case n < 8:
			before := wt.rows[wt.keys[w.r.IntN(len(wt.keys))]]
			after := wt.change(w, slices.Clone(before))
			if k := wt.key(after); k == wt.key(before) || wt.rows[k] == nil {
				w.change(wt, rows.Update, before, after)
			}
		case w.calm && wt.name == "parents":
		default:
			w.change(wt, rows.Delete, wt.rows[wt.keys[w.r.IntN(len(wt.keys))]], nil)
		}
	}
	w.commit()
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 1))}
	w.tables = []*worldTable{
		{name: "plain", create: "CREATE TABLE plain (id INT PRIMARY KEY, mail VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin UNIQUE, big LONGTEXT CHARACTER SET utf8mb4, d DECIMAL(10,2))",
			fresh: func(w *world) rows.Row {
				n := w.next()
				return cells(n, fmt.Sprint("m", n), w.text(200), fmt.Sprintf("%d.%02d", w.r.IntN(1000), w.r.IntN(100)))
			},
			change: func(w *world, r rows.Row) rows.Row {
				switch w.r.IntN(3) {
				case 0:
					r[1] = rows.Cell(fmt.Sprint("m", w.next()))
				case 1:
					r[2] = nil
				default:
					r[0] = rows.Cell(fmt.Sprint(w.next()))
				}
				return r
			}},
		{name: "words", create: "CREATE TABLE words (word VARCHAR(30) CHARACTER SET latin1 COLLATE latin1_swedish_ci, n INT, note VARCHAR(60) CHARACTER SET latin1, PRIMARY KEY (word, n))",
			fresh: func(w *world) rows.Row {
				return cells(w.word()+"\xf1", w.r.IntN(50), latin1(w.text(20)))
			},
			change: func(w *world, r rows.Row) rows.Row {
				r[2] = rows.Cell(latin1(w.text(20)))
				if w.r.IntN(4) == 0 {
					r[0] = rows.Cell(upper(string(r[0]))) // the same key for the server
				}
				return r
			}},
		{name: "bytes", create: "CREATE TABLE bytes (k VARBINARY(16) PRIMARY KEY, v BLOB, at DATETIME(3))",
			fresh: func(w *world) rows.Row {
				k := make([]byte, 4+w.r.IntN(12))
				for i := range k {
					k[i] = byte(w.r.IntN(256))
				}
				return rows.Row{k, rows.Cell("\x00\xff'\\"), rows.Cell("2026-01-02 03:04:05.678")}
			},
			change: func(w *world, r rows.Row) rows.Row { r[1] = rows.Cell(w.text(50)); return r }},
		{name: "customers", create: "CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL)",
			fresh:  func(w *world) rows.Row { return cells(w.next(), w.text(20)) },
			change: func(w *world, r rows.Row) rows.Row { r[1] = rows.Cell(w.text(20)); return r }},
		{name: "orders", create: "CREATE TABLE orders (id INT PRIMARY KEY, customer INT NOT NULL, what VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, KEY (customer))",
			fresh: func(w *world) rows.Row {
				c := w.table("customers")
				if len(c.keys) == 0 {
					return nil
				}
				return cells(w.next(), string(c.rows[c.keys[w.r.IntN(len(c.keys))]][0]), w.text(20))
			},
			change: func(w *world, r rows.Row) rows.Row { r[2] = rows.Cell(w.text(20)); return r }},
		{name: "parents", create: "CREATE TABLE parents (id INT PRIMARY KEY, v VARCHAR(40) CHARACTER SET utf8mb4)",
			fresh:  func(w *world) rows.Row { return cells(w.next(), w.text(20)) },
			change: func(w *world, r rows.Row) rows.Row { r[1] = rows.Cell(w.text(20)); return r },
			dropped: func(w *world, r rows.Row) {
				c := w.table("children")
				for _, k := range slices.Clone(c.keys) {
					if child := c.rows[k]; string(child[1]) == string(r[0]) {
						c.drop(child)
						c.dropped(w, child)
					}
				}
			}},
		{name: "children", create: "CREATE TABLE children (id INT PRIMARY KEY, parent INT NULL, v VARCHAR(40) CHARACTER SET utf8mb4, FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE)",
			fresh: func(w *world) rows.Row {
				p := w.table("parents")
				if len(p.keys) == 0 || w.r.IntN(5) == 0 {
					return cells(w.next(), nil, w.text(10))
				}
				return cells(w.next(), string(p.rows[p.keys[w.r.IntN(len(p.keys))]][0]), w.text(10))
			},
			change: func(w *world, r rows.Row) rows.Row { r[2] = rows.Cell(w.text(20)); return r },
			dropped: func(w *world, r rows.Row) {
				c := w.table("toys")
				for _, k := range slices.Clone(c.keys) {
					if toy := c.rows[k]; string(toy[1]) == string(r[0]) {
						after := slices.Clone(toy)
						after[1] = nil
						c.put(after)
					}
				}
			}},
		{name: "toys", create: "CREATE TABLE toys (id INT PRIMARY KEY, child INT NULL, v VARCHAR(40) CHARACTER SET utf8mb4, FOREIGN KEY (child) REFERENCES children (id) ON DELETE SET NULL ON UPDATE CASCADE)",
			fresh: func(w *world) rows.Row {
				p := w.table("children")
				if len(p.keys) == 0 {
					return cells(w.next(), nil, w.text(10))
				}
				return cells(w.next(), string(p.rows[p.keys[w.r.IntN(len(p.keys))]][0]), w.text(10))
			},
			change: func(w *world, r rows.Row) rows.Row { r[2] = rows.Cell(w.text(20)); return r }},
	}
	return w
}

func latin1(s string) string {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		out = append(out, byte(r))
	}
	return string(out)
}

// fill writes the world into the clone.
func (w *world) fill(db *dbtest.Server, c *client.Conn) {
	for _, wt := range w.tables {
		n := 0
		var q []byte
		flush := func() {
			if n > 0 {
				db.Exec(w.t, c, string(q))
			}
			n, q = 0, nil
		}
		for _, k := range wt.keys {
			if n == 0 {
				q = append(q, "INSERT INTO old."+wt.name+" VALUES "...)
			} else {
				q = append(q, ',')
			}
			for i, v := range wt.rows[k] {
				q = append(q, "(,"[min(i, 1)])
				q = rows.AppendLiteral(q, &wt.schema.Columns[i], v)
			}
			q = append(q, ')')
			if n++; n == 500 {
				flush()
			}
		}
		flush()
	}
}

// content is what a table must have, sorted.
func (wt *worldTable) content(utf8 bool) []string {
	var out []string
	for _, r := range wt.rows {
		var line []string
		for i, v := range r {
			switch {
			case v == nil:
				line = append(line, "NULL")
			case utf8 && wt.schema.Columns[i].Charset == "latin1":
				var s []rune
				for _, b := range v {
					s = append(s, rune(b))
				}
				line = append(line, string(s))
			default:
				line = append(line, string(v))
			}
		}
		out = append(out, strings.Join(line, "|"))
	}
	slices.Sort(out)
	return out
}

func differs(t *testing.T, what string, got, want []string) {
	t.Helper()
	slices.Sort(got)
	if slices.Equal(got, want) {
		return
	}
	n := 0
	for _, l := range want {
		if _, ok := slices.BinarySearch(got, l); !ok && n < 5 {
			t.Errorf("%s lacks %q", what, l)
			n++
		}
	}
	for _, l := range got {
		if _, ok := slices.BinarySearch(want, l); !ok && n < 10 {
			t.Errorf("%s has %q", what, l)
			n++
		}
	}
	t.Fatalf("%s has %d rows, production %d", what, len(got), len(want))
}

// TestKilled kills the agent again and again while it copies and applies, and
// compares everything at the end.
func TestKilled(t *testing.T) {
	t.Parallel()
	db := apply.StartServer(t)
	c := db.Connect(t)
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := os.ReadFile(filepath.Join(filepath.Dir(db.Socket), "log"))
			t.Logf("the server's last words: %s", said[max(0, len(said)-6000):])
		}
	})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := newWorld(t, seed)
	db.Exec(t, c, "CREATE DATABASE old CHARACTER SET utf8mb4", "CREATE DATABASE new CHARACTER SET utf8mb4")
	for _, wt := range w.tables {
		wt.rows = map[string]rows.Row{}
		db.Exec(t, c, "USE old", wt.create)
		if wt.name != "orders" {
			create := strings.ReplaceAll(wt.create, "latin1 COLLATE latin1_swedish_ci", "utf8mb4 COLLATE utf8mb4_unicode_ci")
			create = strings.ReplaceAll(create, "latin1", "utf8mb4")
			db.Exec(t, c, "USE new", strings.ReplaceAll(create, "DECIMAL(10,2)", "DECIMAL(14,4)"))
		}
	}
	db.Exec(t, c, "USE new", "CREATE TABLE order_names (id INT PRIMARY KEY, line VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin)")
	schema, err := rows.ReadSchema(t.Context(), c, "old")
	if err != nil {
		t.Fatal(err)
	}
	for _, wt := range w.tables {
		wt.schema = schema.Table(rows.Name{Database: "old", Table: wt.name})
	}
	// Before the log begins there are rows.
	for range 2500 {
		w.step()
	}
	w.log = nil
	const (
		ahead = 60 // the clone has this many transactions behind the start
		until = 100
		total = 7000
	)
	w.calm = true
	for range ahead {
		w.step()
	}
	w.fill(db, c)
	for len(w.log) < until {
		w.step()
	}
	w.calm = false
	for len(w.log) < total {
		w.step()
	}
	s := apply.Server{Network: "unix", Address: db.Socket, User: "root"}
	cfg := apply.Config{Set: "killed", Run: "r", From: "old", To: "new", Source: s, Target: s, ChunkRows: 60, BatchRows: 100, Workers: 3,
		Start: place(0), OverlapUntil: place(until), Conversions: []convert.Conversion{{
			Into: "order_names", Key: []string{"id"},
			From:   []convert.From{{Table: "orders", Key: []string{"id"}}, {Table: "customers", Key: []string{"id"}, Via: "SELECT o.id FROM {old}.orders o WHERE o.customer = :id"}},
			Select: "SELECT o.id, CONCAT(COALESCE(c.name,'?'), '/', o.what) AS line FROM {old}.orders o LEFT JOIN {old}.customers c ON c.id = o.customer",
		}}}
	// Some transactions are there at once, the rest comes while it runs.
	arrived := make(chan int, 1)
	arrived <- 0
	began := time.Now()
	there := func() int { return min(total, 50+int(time.Since(began).Milliseconds())) }

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	kills, lastPosition := 0, ""
	for {
		a, err := startAgent(ctx, t, cfg)
		if err != nil {
			t.Fatalf("after %d kills: %v", kills, err)
		}
		from := 0
		if g := a.link.Position().GTID; g != "" {
			if _, err := fmt.Sscanf(g, "0-1-%d", &from); err != nil {
				t.Fatal(err)
			}
		}
		lastPosition = a.link.Position().GTID
		if err := a.link.SetRate(2500, -1); err != nil {
			t.Fatal(err)
		}
		life := 20*time.Millisecond + time.Duration(w.r.IntN(300))*time.Millisecond
		sender, stop := context.WithCancel(ctx)
		sent := make(chan error, 1)
		go func() {
			for from < total {
				if from >= there() {
					select {
					case <-time.After(2 * time.Millisecond):
					case <-sender.Done():
						sent <- nil
						return
					}
					continue
				}
				if err := a.link.Send(sender, w.log[from]); err != nil {
					sent <- err
					return
				}
				from++
			}
			sent <- nil
		}()
		last := kills >= 22 && there() >= total
		if !last {
			time.Sleep(life)
			select {
			case <-a.link.Done():
				t.Fatalf("after %d kills at %s: %v", kills, lastPosition, a.link.Err())
			default:
			}
			a.kill()
			kills++
			stop()
			<-sent
			_ = a.link.Close()
			continue
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if err := a.link.SetRate(-1, -1); err != nil {
			t.Fatal(err)
		}
		v, err := a.link.Settle(ctx, place(total), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d kills, %v: %+v", kills, time.Since(began).Round(time.Millisecond), v)
		stop()
		if err := a.link.Close(); err != nil {
			t.Error(err)
		}
		a.kill()
		break
	}
	for _, wt := range w.tables {
		if wt.name == "orders" {
			differs(t, "the copy of orders", db.Rows(t, c, "SELECT * FROM imago_old_new.orders"), wt.content(false))
			continue
		}
		list := "*"
		if wt.name == "plain" {
			list = "id, mail, big, CAST(d AS DECIMAL(10,2))"
		}
		differs(t, wt.name, db.Rows(t, c, "SELECT "+list+" FROM new."+wt.name), wt.content(true))
	}
	var want []string
	customers := w.table("customers")
	for _, o := range w.table("orders").rows {
		name := "?"
		if cu := customers.rows[fmt.Sprintf("%d:%s", len(o[1]), o[1])]; cu != nil {
			name = string(cu[1])
		}
		want = append(want, fmt.Sprintf("%s|%s/%s", o[0], name, o[2]))
	}
	slices.Sort(want)
	differs(t, "order_names", db.Rows(t, c, "SELECT * FROM new.order_names"), want)
}
