package convert

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

// world is an old and a new database on one server. The old one stands for the
// copies of the old tables, too.
type world struct {
	t              *testing.T
	s              *dbtest.Server
	c              *client.Conn
	old, new       string
	source, target *rows.Schema
}

// newWorld makes both databases; {old} and {new} stand for them.
func newWorld(t *testing.T, s *dbtest.Server, statements ...string) *world {
	t.Helper()
	w := &world{t: t, s: s, c: s.Connect(t)}
	name := strings.NewReplacer("/", "_", " ", "_").Replace(t.Name())
	name = strings.ToLower(name[max(0, len(name)-40):])
	w.old, w.new = "old_"+name, "new_"+name
	s.Exec(t, w.c, "SET character_set_connection=utf8mb4", "CREATE DATABASE "+rows.QuoteName(w.old), "CREATE DATABASE "+rows.QuoteName(w.new))
	w.exec("USE {old}")
	w.exec(statements...)
	w.read()
	t.Cleanup(func() {
		_ = w.c.Close() // a failed test's transaction holds locks
		s.Exec(t, s.Plain(t), "DROP DATABASE "+rows.QuoteName(w.old), "DROP DATABASE "+rows.QuoteName(w.new))
	})
	return w
}

func (w *world) names(sql string) string {
	return strings.NewReplacer("{old}", rows.QuoteName(w.old), "{new}", rows.QuoteName(w.new)).Replace(sql)
}

func (w *world) exec(statements ...string) {
	w.t.Helper()
	for _, sql := range statements {
		w.s.Exec(w.t, w.c, w.names(sql))
	}
}

func (w *world) rows(sql string) []string {
	w.t.Helper()
	return w.s.Rows(w.t, w.c, w.names(sql))
}

func (w *world) read() {
	w.t.Helper()
	var err error
	if w.source, err = rows.ReadSchema(context.Background(), w.c, w.old); err != nil {
		w.t.Fatal(err)
	}
	if w.target, err = rows.ReadSchema(context.Background(), w.c, w.new); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tryPrepare(c Conversion) (*Prepared, error) {
	p, err := Prepare(context.Background(), w.c, c, Databases{Old: w.old, New: w.new}, w.source, w.target)
	if err == nil {
		w.t.Cleanup(func() { _ = p.Close() })
	}
	return p, err
}

func (w *world) prepare(c Conversion) *Prepared {
	w.t.Helper()
	p, err := w.tryPrepare(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return c
}

// txn runs do in a transaction of its own.
func (w *world) txn(do func() error) {
	w.t.Helper()
	w.exec("BEGIN")
	if err := do(); err != nil {
		w.t.Fatal(err)
	}
	w.exec("COMMIT")
}

// all makes everything, n objects at a time, and gives the rejected ones.
func (w *world) all(p *Prepared, n int) []Rejected {
	w.t.Helper()
	var rejected []Rejected
	var after []rows.Cell
	for range 10000 {
		upto, objects, err := p.Next(ctx(w.t), w.c, after, n)
		if err != nil {
			w.t.Fatal(err)
		}
		if objects == 0 {
			return rejected
		}
		w.txn(func() error {
			res, err := p.ConvertRange(ctx(w.t), w.c, after, upto)
			rejected = append(rejected, res.Rejected...)
			return err
		})
		after = upto
	}
	w.t.Fatal("the ranges never end")
	return nil
}

// compare is the whole comparison: how many objects, and which differ.
func (w *world) compare(p *Prepared, n int) (int, []string) {
	w.t.Helper()
	var after []rows.Cell
	total := 0
	var different []string
	for {
		upto, objects, err := p.Next(ctx(w.t), w.c, after, n)
		if err != nil {
			w.t.Fatal(err)
		}
		if objects == 0 {
			slices.Sort(different)
			return total, different
		}
		compared, keys, err := p.CompareRange(ctx(w.t), w.c, after, upto)
		if err != nil {
			w.t.Fatal(err)
		}
		total += compared
		different = append(different, shown(keys)...)
		after = upto
	}
}

func (w *world) convert(p *Prepared, keys ...[]rows.Cell) Result {
	w.t.Helper()
	var res Result
	w.txn(func() (err error) {
		res, err = p.Convert(ctx(w.t), w.c, keys)
		return err
	})
	return res
}

// key makes a key of texts; "NULL" is none.
func key(cells ...string) []rows.Cell {
	out := make([]rows.Cell, len(cells))
	for i, c := range cells {
		if c != "NULL" {
			out[i] = rows.Cell(c)
		}
	}
	return out
}

func shown(keys [][]rows.Cell) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		cells := make([]string, len(k))
		for j, c := range k {
			cells[j] = string(c)
			if c == nil {
				cells[j] = "NULL"
			}
		}
		out[i] = strings.Join(cells, "|")
	}
	slices.Sort(out)
	return out
}

func rejections(rejected []Rejected) []string {
	out := make([]string, len(rejected))
	for i, r := range rejected {
		out[i] = shown([][]rows.Cell{r.Key})[0] + ": " + r.Reason
	}
	slices.Sort(out)
	return out
}

// wantRows compares a query with lines.
func (w *world) wantRows(sql string, want ...string) {
	w.t.Helper()
	got := w.rows(sql)
	if !slices.Equal(got, want) {
		w.t.Errorf("%s:\n got %s\nwant %s", sql, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// wantSame compares two queries.
func (w *world) wantSame(a, b string) {
	w.t.Helper()
	x, y := w.rows(a), w.rows(b)
	if len(x) == 0 {
		w.t.Errorf("%s: nothing was compared", a)
	}
	if !slices.Equal(x, y) {
		w.t.Errorf("%d and %d rows differ:\n%s", len(x), len(y), firstDifference(x, y))
	}
}

func firstDifference(a, b []string) string {
	for i := range max(len(a), len(b)) {
		x, y := "(end)", "(end)"
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("row %d: %s\n     and %s", i, x, y)
		}
	}
	return ""
}
