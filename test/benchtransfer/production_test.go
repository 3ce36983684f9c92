package benchtransfer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

const (
	latencyWindow = 3 * time.Second
	// calm lets the disk end what dropping and writing tables left to do.
	calm = 700 * time.Millisecond
)

// loader is the process that loads production.
type loader struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Scanner
}

// startLoader ends with its standard input, and so with this process.
func startLoader(s *servers) *loader {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "IMAGO_BENCH_LOAD="+s.prod.Socket)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &loader{s.t, in, bufio.NewScanner(out)}
}

func (l *loader) run(o loadOrder) loadResult {
	l.t.Helper()
	var r loadResult
	if err := json.NewEncoder(l.in).Encode(o); err != nil {
		l.t.Fatal(err)
	}
	if !l.out.Scan() {
		l.t.Fatalf("the load ended: %v", l.out.Err())
	}
	if err := json.Unmarshal(l.out.Bytes(), &r); err != nil {
		l.t.Fatal(err)
	}
	if r.Error != "" {
		l.t.Fatalf("load: %s", r.Error)
	}
	return r
}

// saturation is the least of some windows of as much load as production takes, so
// that half of it stays half when the machine has less to give for a while.
func saturation(load *loader, order loadOrder) float64 {
	order.Rate, order.Window = 0, time.Second
	var found []float64
	for range repeats {
		found = append(found, load.run(order).Rate)
	}
	return slices.Min(found)
}

// measureProduction loads production to half of what it can do, with and without a
// transfer beside it. idle is the copy's rate on an idle machine.
func measureProduction(s *servers, idle float64) {
	t := s.t
	s.prod.Exec(t, s.pc, "SET sql_log_bin=0", "CREATE DATABASE shop", "USE shop", wideTable, ordersTable, fillWide(s.rows), "SET sql_log_bin=1",
		"SET GLOBAL sync_binlog=1", "SET GLOBAL innodb_flush_log_at_trx_commit=1")
	log, schema := s.log("shop")
	load := startLoader(s)
	order := loadOrder{Rows: s.rows, Warm: 300 * time.Millisecond, Window: latencyWindow}
	most := saturation(load, order)
	order.Rate = most / 2

	variants := []struct {
		name string
		rate int64
		p99  []float64
		base [][2]float64 // before and after
		pass []float64    // rows/s of the copy meanwhile
	}{{name: "copy at a quarter", rate: int64(idle / 4)}, {name: "copy unregulated", rate: -1}}
	var base, p50, reached []float64
	early, late := 0, 0
	alone := func() {
		s.empty(wideTable, ordersTable)
		time.Sleep(calm)
		r := load.run(order)
		base, p50, reached = append(base, r.P99), append(p50, r.P50), append(reached, r.Rate)
		if r.Rate < 0.9*order.Rate {
			late++
		}
	}
	alone()
	for range repeats {
		for i := range variants {
			v := &variants[i]
			cfg := s.config("shop")
			time.Sleep(calm)
			cfg.Start = position(t, log)
			x := open(t, cfg, v.rate)
			stop := x.follow(log, schema)
			began, copied := time.Now(), x.Progress().RowsCopied
			r := load.run(order)
			p := x.Progress()
			v.pass = append(v.pass, float64(p.RowsCopied-copied)/time.Since(began).Seconds())
			v.p99 = append(v.p99, r.P99)
			if p.CopyDone && p.Unverified == 0 {
				early++
			}
			stop()
			_ = x.stop()
			alone()
			v.base = append(v.base, [2]float64{base[len(base)-2], base[len(base)-1]})
		}
	}
	tab := &table{title: fmt.Sprintf("4. Production's latency at %s, scheduled: half of the %.0f/s it can do", figure(reached, "operations/s"), most)}
	tab.add("", "p99", "ratio", "A/A", "rows/s of the copy")
	tab.add("no transfer", figure(base, "ms"), "1", interval(pairs(base)), "")
	for _, v := range variants {
		var ratios []float64
		for i, b := range v.base {
			ratios = append(ratios, v.p99[i]/((b[0]+b[1])/2))
		}
		tab.add(v.name, figure(v.p99, "ms"), verdict(ratios, pairs(base)), "", figure(v.pass, ""))
	}
	tab.note("p50 without a transfer %s; an operation reads two rows, one in five writes one durably; all servers share the machine's cores and disk", figure(p50, "ms"))
	if late > 0 {
		tab.note("in %d of %d windows without a transfer production did not keep up: others use this machine", late, len(base))
	}
	if early > 0 {
		tab.note("in %d windows the copy and its comparison ended before the window: take more rows", early)
	}
	tab.print(os.Stdout)
}
