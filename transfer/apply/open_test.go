package apply

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/convert/dbtest"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	server := StartServer(t)
	t.Run("refused", func(t *testing.T) { testRefused(t, server) })
	t.Run("state of another", func(t *testing.T) {
		b := newBench(t, server, people)
		b.exec("INSERT INTO {old}.people VALUES (1,'a','m',NULL,NULL,NULL)")
		b.open().close()
		for name, change := range map[string]func(*Config){
			"run":         func(c *Config) { c.Run = "other" },
			"description": func(c *Config) { c.Skip = []string{"x"} },
			"clone":       func(c *Config) { c.Start = at(7) },
		} {
			cfg := b.cfg
			change(&cfg)
			if _, err := Open(t.Context(), cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrOtherRun) {
				t.Errorf("%s: %v", name, err)
			}
		}
		r := b.open()
		r.settle(0)
		r.close()
		if err := Remove(t.Context(), Config{Set: b.cfg.Set, Run: "other", To: b.cfg.To, Target: b.cfg.Target}); !errors.Is(err, ErrOtherRun) {
			t.Errorf("removed another run's state: %v", err)
		}
		if err := Remove(t.Context(), b.cfg); err != nil {
			t.Fatal(err)
		}
		// Its rows are there now and nobody knows why.
		if _, err := Open(t.Context(), b.cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "has rows already") {
			t.Errorf("a filled table: %v", err)
		}
	})
	t.Run("no clone needed", func(t *testing.T) {
		b := newBench(t, server, people)
		b.exec("INSERT INTO {old}.people VALUES (1,'a','m',NULL,NULL,NULL)")
		r := b.open()
		r.settle(0)
		r.close()
		b.cfg.Source.Address = "/nowhere"
		b.cfg.Start = at(99) // a later clone's
		r = b.open()
		r.send(b.txn(b.upd("people", row("1", "a", "m", "NULL", "NULL", "NULL"), row("1", "b", "m", "NULL", "NULL", "NULL"))))
		r.settle(1)
		if got := b.rows("SELECT name FROM {new}.people"); got[0] != "b" {
			t.Errorf("rows: %q", got)
		}
		r.close()
	})
	t.Run("two at once", func(t *testing.T) {
		b := newBench(t, server, people)
		b.exec("INSERT INTO {old}.people VALUES (1,'a','m',NULL,NULL,NULL)")
		first := b.open()
		first.settle(0)
		second := b.open()
		line := func(id string) *running { return nil }
		_ = line
		txn := b.txn(b.ins("people", row("2", "a", "x", "NULL", "NULL", "NULL")))
		first.send(txn)
		if err := first.wait(); !errors.Is(err, ErrFenced) {
			t.Errorf("the first went on: %v", err)
		}
		second.send(txn)
		second.settle(1)
	})
}

func testRefused(t *testing.T, server *dbtest.Server) {
	for _, c := range []struct {
		name     string
		old, now []string
		change   func(*Config)
		says     []string
	}{
		{name: "all at once", old: []string{"CREATE TABLE a (x INT)", "CREATE TABLE b (x INT PRIMARY KEY) ENGINE=MyISAM", "CREATE TABLE c (x INT PRIMARY KEY)"},
			now:  []string{"CREATE TABLE a (x INT)", "CREATE TABLE b (x INT PRIMARY KEY)"},
			says: []string{`"a" has no key`, `MyISAM`, `"c" is neither in the new database`}},
		{name: "changed", old: []string{"CREATE TABLE a (x INT PRIMARY KEY, y INT)"}, now: []string{"CREATE TABLE a (x INT PRIMARY KEY)"}, says: []string{`"a" changed`, `"y"`}},
		{name: "triggers", old: []string{"CREATE TABLE a (x INT PRIMARY KEY)"}, now: []string{"CREATE TABLE a (x INT PRIMARY KEY)", "CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW SET NEW.x=NEW.x+1"},
			says: []string{"triggers (tr)"}},
		{name: "float key", old: []string{"CREATE TABLE a (x FLOAT PRIMARY KEY)"}, now: []string{"CREATE TABLE a (x FLOAT PRIMARY KEY)"}, says: []string{`column "x" of type float`}},
		{name: "skipped unknown", old: []string{people}, now: []string{people}, change: func(c *Config) { c.Skip = []string{"nobody"} }, says: []string{`"nobody"`}},
		{name: "nothing", old: []string{people}, now: []string{people}, change: func(c *Config) { c.Skip = []string{"people"} }, says: []string{"no table"}},
		{name: "cascade into a converted table", old: []string{"CREATE TABLE p (x INT PRIMARY KEY)", "CREATE TABLE k (x INT PRIMARY KEY, p INT, FOREIGN KEY f1 (p) REFERENCES p (x) ON DELETE CASCADE)"},
			now:    []string{"CREATE TABLE p (x INT PRIMARY KEY)", "CREATE TABLE kk (x INT PRIMARY KEY, p INT)"},
			change: func(c *Config) { c.Conversions = []convert.Conversion{conv("kk", "k", "SELECT x, p FROM {old}.k")} },
			says:   []string{`"k_ibfk_1"|"f1"`, "a conversion reads"}},
		{name: "cascade from a skipped table", old: []string{"CREATE TABLE p (x INT PRIMARY KEY)", "CREATE TABLE k (x INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (x) ON DELETE SET NULL)"},
			now: []string{"CREATE TABLE k (x INT PRIMARY KEY, p INT)"}, change: func(c *Config) { c.Skip = []string{"p"} }, says: []string{"SET NULL", "not transferred"}},
		{name: "conversion into nothing", old: []string{people}, now: []string{people}, change: func(c *Config) {
			c.Conversions = []convert.Conversion{conv("gone", "people", "SELECT id FROM {old}.people"), conv("people", "also", "SELECT 1")}
		}, says: []string{`no such table`, `"also"`}},
		{name: "conversion of an unknown column", old: []string{people}, now: []string{"CREATE TABLE names (id INT PRIMARY KEY, name TEXT)"}, change: func(c *Config) {
			c.Conversions = []convert.Conversion{conv("names", "people", "SELECT id, nam AS name FROM {old}.people")}
		}, says: []string{`nam`}},
		{name: "no database", change: func(c *Config) { c.From = "nowhere" }, says: []string{"nowhere"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, server)
			b.exec(append(append([]string{"USE {old}"}, c.old...), append([]string{"USE {new}"}, c.now...)...)...)
			if c.change != nil {
				c.change(&b.cfg)
			}
			for range 2 { // what is refused leaves nothing behind
				_, err := Open(t.Context(), b.cfg, slog.New(slog.DiscardHandler))
				if err == nil {
					t.Fatal("opened")
				}
				for _, s := range c.says {
					any := false
					for _, one := range strings.Split(s, "|") {
						any = any || strings.Contains(err.Error(), one)
					}
					if !any {
						t.Errorf("%v: lacks %q", err, s)
					}
				}
			}
			if got := b.rows("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='imago_old_{new}'"); got[0] != "0" {
				t.Errorf("copies are left")
			}
		})
	}
}

func conv(into, from, query string) convert.Conversion {
	key := "id"
	if strings.Contains(query, "x,") {
		key = "x"
	}
	return convert.Conversion{Into: into, Key: []string{key}, From: []convert.From{{Table: from, Key: []string{key}}}, Select: query}
}
