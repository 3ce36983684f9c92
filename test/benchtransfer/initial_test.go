package benchtransfer

import (
	"fmt"
	"os"
	"os/exec"
	"time"

	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/rows"
)

// initial are rates of the first pass, in rows a second.
type initial struct {
	missing                              string // the peer that is not there
	dump, copied, compared, made, proven []float64
	rowBytes                             float64 // as the engine counts
}

// peopleTable is what wide becomes by conversion: renamed, joined, cut and re-encoded.
const peopleTable = "CREATE TABLE people (id BIGINT PRIMARY KEY, label VARCHAR(80) NOT NULL, body TEXT, day DATE, half INT NOT NULL, e DOUBLE, flag BOOL NOT NULL) CHARACTER SET utf8mb4"

func peopleConversion() convert.Conversion {
	return convert.Conversion{Into: "people", Key: []string{"id"}, From: []convert.From{{Table: "wide", Key: []string{"id"}}},
		Select: "SELECT id, UPPER(name) AS label, CONCAT(b, '/', c) AS body, DATE(d) AS day, a DIV 2 AS half, e, f IS NOT NULL AS flag FROM {old}.wide"}
}

func (s *servers) config(set string) apply.Config {
	return apply.Config{Set: set, Run: "r", From: "shop", To: "new", Source: onSocket(s.clone), Target: onSocket(s.target)}
}

// measureInitial sets the first pass against 'mariadb-dump | mariadb', in turns.
func measureInitial(s *servers) *initial {
	t, out := s.t, new(initial)
	for _, name := range []string{"mariadb-dump", "mariadb"} {
		if _, err := exec.LookPath(name); err != nil {
			out.missing = name
		}
	}
	n := float64(s.rows)
	dump := func() {
		if out.missing != "" {
			return
		}
		s.empty()
		began := time.Now()
		pipe := fmt.Sprintf("set -o pipefail; mariadb-dump --no-defaults -uroot -S %s --single-transaction shop | mariadb --no-defaults -uroot -S %s new", s.clone.Socket, s.target.Socket)
		if said, err := exec.Command("bash", "-c", pipe).CombinedOutput(); err != nil {
			t.Fatalf("mariadb-dump | mariadb: %v: %s", err, said)
		}
		out.dump = append(out.dump, n/time.Since(began).Seconds())
	}
	dump()
	for range repeats {
		s.empty(wideTable, ordersTable)
		began := time.Now()
		x := open(t, s.config("identity"), -1)
		x.await("copy", func(p apply.Progress) bool { return p.CopyDone })
		out.copied = append(out.copied, n/time.Since(began).Seconds())
		x.settle(rows.Position{})
		out.compared = append(out.compared, n/time.Since(began).Seconds())
		p := x.Progress()
		out.rowBytes = float64(p.BytesCopied) / float64(p.RowsCopied)
		_ = x.stop()

		cfg := s.config("converted")
		cfg.Conversions = []convert.Conversion{peopleConversion()}
		s.empty(peopleTable, ordersTable)
		began = time.Now()
		x = open(t, cfg, -1)
		x.await("conversion", func(p apply.Progress) bool { return p.Converted >= uint64(s.rows) })
		out.made = append(out.made, n/time.Since(began).Seconds())
		x.settle(rows.Position{})
		out.proven = append(out.proven, n/time.Since(began).Seconds())
		_ = x.stop()
		dump()
	}
	return out
}

// print returns the rate of an unhurried copy.
func (i *initial) print() float64 {
	t := &table{title: "1. Initial pass"}
	t.add("", "rows/s", "MB/s", "ratio", "A/A")
	line := func(name string, rate []float64, ratio, aa string) {
		m, _, _ := spread(rate)
		t.add(name, figure(rate, ""), fmt.Sprintf("%.1f", m*i.rowBytes/1e6), ratio, aa)
	}
	if i.missing != "" {
		t.add("mariadb-dump | mariadb", "missing ("+i.missing+" is not installed)", "", "", "")
	} else {
		line("mariadb-dump | mariadb", i.dump, "1", interval(pairs(i.dump)))
	}
	for _, v := range []struct {
		name string
		rate []float64
	}{{"identity, copied", i.copied}, {"identity, copied and compared", i.compared}, {"converted by SQL", i.made}, {"converted by SQL and compared", i.proven}} {
		ratio := "no peer"
		if i.missing == "" {
			ratio = verdict(against(i.dump, v.rate), pairs(i.dump))
		}
		line(v.name, v.rate, ratio, "")
	}
	t.note("a row has %.0f B; converted: from reading the clone to the last new row, the exact copy of the old rows included", i.rowBytes)
	t.print(os.Stdout)
	m, _, _ := spread(i.copied)
	return m
}
