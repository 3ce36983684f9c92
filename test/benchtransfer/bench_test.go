package benchtransfer

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMain is the process that loads production, too, so that measuring and
// transferring do not share a scheduler and a heap.
func TestMain(m *testing.M) {
	if socket := os.Getenv("IMAGO_BENCH_LOAD"); socket != "" {
		if err := serveLoad(socket, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestTransfer measures everything and prints one report.
func TestTransfer(t *testing.T) {
	if os.Getenv("IMAGO_BENCH") != "1" {
		t.Skip("IMAGO_BENCH is not 1: 'make bench-transfer' runs this")
	}
	n := 300000
	if v := os.Getenv("IMAGO_BENCH_ROWS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 1000 {
			t.Fatalf("IMAGO_BENCH_ROWS=%q is no number of rows, 1000 at least", v)
		}
	}
	began := time.Now()
	step := func(what string) { fmt.Fprintf(os.Stderr, "%3.0f s: %s\n", time.Since(began).Seconds(), what) }
	load, _ := os.ReadFile("/proc/loadavg")
	step("starting servers")
	s := startServers(t, n)
	fmt.Printf("Transfer: %d rows of ~230 B, %d cores, load before it %s, MariaDB %s.\n", n, runtime.NumCPU(), strings.Join(strings.Fields(string(load))[:1], ""),
		s.target.Rows(t, s.tc, "SELECT VERSION()")[0])
	fmt.Printf("Medians with [least, most] of %d repeats. A ratio is to the mean of the base before and after it; A/A is base to base.\n", repeats)
	fmt.Println("\"not resolved\": the effect is not larger than A/A, or the repeats differ in its direction.")
	step("initial pass")
	idle := measureInitial(s).print()
	step("catch-up")
	l := prepareLog(s)
	measureCatchUp(l)
	step("lag")
	measureLag(l)
	l.close()
	step("production's latency")
	measureProduction(s, idle)
	fmt.Printf("\nIn all %.0f s.\n", time.Since(began).Seconds())
}
