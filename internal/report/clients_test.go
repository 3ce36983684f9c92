package report

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// logs writes one log for each text and gives the pattern that matches them.
func logs(t *testing.T, texts ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.jsonl", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "*.jsonl")
}

func logLine(client string, at, ms float64, status int, version, failure string) string {
	return fmt.Sprintf(`{"t":%q,"client":%q,"method":"GET","path":"/","status":%d,"ms":%g,"version":%q,"error":%q}`+"\n",
		after14(at).Format(time.RFC3339Nano), client, status, ms, version, failure)
}

func read(t *testing.T, pattern string, flips Flips) (Clients, []Point) {
	t.Helper()
	c, points, err := ReadClientLogs(t.Context(), []string{pattern, pattern}, flips)
	if err != nil {
		t.Fatal(err)
	}
	return c, points
}

func TestClientLogs(t *testing.T) {
	pattern := logs(t,
		logLine("a", 1, 100, 200, "1.39", "")+logLine("a", 2, 41200, 200, "1.43", "")+"not json\n\n"+logLine("a", 50, 10, 503, "1.43", ""),
		logLine("b", 0, 20, 0, "", "connection refused")+logLine("b", 3, 30, 200, "", "")+`{"t":"2026-03-04T14:00:`,
		strings.Repeat("x", 3*maxLine)+"\n"+logLine("c", 4, 50, 200, "1.39", "")+`{"t":"9999-01-01T00:00:00Z","ms":1}`+"\n"+`{"t":"2026-01-01T00:00:00Z","ms":-1}`+"\n")
	c, points := read(t, pattern, Flips{})
	if c.Requests != 6 || c.Failed != 2 || c.Clients != 3 || c.Files != 3 || c.UnreadableLines != 5 {
		t.Errorf("%d requests, %d failed, %d clients, %d files, %d unreadable lines", c.Requests, c.Failed, c.Clients, c.Files, c.UnreadableLines)
	}
	if c.LongestPauseMS != 41200 || !c.LongestPauseAt.Equal(after14(2)) || !c.From.Equal(after14(0)) || !c.To.Equal(after14(50.01)) {
		t.Errorf("longest %v at %v, from %v to %v", c.LongestPauseMS, c.LongestPauseAt, c.From, c.To)
	}
	if want := map[string]int64{"1.39": 2, "1.43": 1, unknown: 1}; !reflect.DeepEqual(c.ByVersion, want) {
		t.Errorf("by version %v", c.ByVersion)
	}
	if len(c.Failures) != 2 || c.Failures[0].Client != "b" || c.Failures[1].Status != 503 {
		t.Errorf("failures %+v", c.Failures)
	}
	var sum int64
	for _, p := range points {
		sum += total(p)
	}
	if sum != c.Requests {
		t.Errorf("points have %d of %d requests", sum, c.Requests)
	}
}

// TestMixture decides from the moments of the flips which answers are wrong.
func TestMixture(t *testing.T) {
	old := func(at, ms float64) string { return logLine("a", at, ms, 200, "old", "") }
	fresh := func(at, ms float64) string { return logLine("a", at, ms, 200, "new", "") }
	there := Flips{Switch: after14(100)}
	back := Flips{Switch: after14(100), Rollback: after14(200)}
	many := func(f func(at, ms float64) string, from float64) (s string) {
		for i := range 5 {
			s += f(from+float64(i), 10)
		}
		return s
	}
	for _, c := range []struct {
		name  string
		lines string
		flips Flips
		mixed int64
	}{
		{"old before, new after", many(old, 50) + many(fresh, 150), there, 0},
		{"held over the flip, answered by the new one", many(old, 50) + fresh(99, 5000) + many(fresh, 150), there, 0},
		{"under way at the flip, answered by the old one", many(old, 50) + old(99, 5000) + many(fresh, 150), there, 0},
		{"new answers before the flip", many(old, 50) + fresh(90, 10) + many(fresh, 150), there, 1},
		{"old answers after the flip", many(old, 50) + many(fresh, 150) + old(151, 10) + old(160, 10), there, 2},
		{"two versions without a flip", many(old, 50) + fresh(60, 10), Flips{}, 1},
		{"there and back", many(old, 50) + many(fresh, 150) + fresh(199, 3000) + many(old, 250), back, 0},
		{"new answers after the way back", many(old, 50) + many(fresh, 150) + many(old, 250) + fresh(260, 10), back, 1},
		{"the flip led nobody anywhere", many(old, 50) + many(old, 150), there, 5},
		{"a third version over the flip", many(old, 50) + logLine("a", 99, 5000, 200, "odd", "") + many(fresh, 150), there, 1},
		{"answers that name no version", many(old, 50) + logLine("a", 160, 1, 200, "", "") + many(fresh, 150), there, 0},
		{"failures are failures, not mixtures", many(old, 50) + many(fresh, 150) + logLine("a", 160, 1, 500, "old", "status 500"), there, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := read(t, logs(t, c.lines), c.flips)
			if got.Mixed != c.mixed {
				t.Errorf("mixed %d, want %d; old %q, new %q", got.Mixed, c.mixed, got.OldVersion, got.NewVersion)
			}
		})
	}
}

func TestQuantiles(t *testing.T) {
	var w waits
	for i := range 1000 {
		w.add(float64(i + 1))
	}
	if m := w.quantile(0.5); m < 485 || m > 515 {
		t.Errorf("median %v", m)
	}
	if p := w.quantile(0.99); p < 965 || p > 1015 {
		t.Errorf("99 %% within %v", p)
	}
}

// TestMemoryIsBounded reads logs with ever new names over a long time.
func TestMemoryIsBounded(t *testing.T) {
	r := newLogReader(Flips{})
	for i := range 50_000 {
		r.entry(entry{T: began.Add(time.Duration(i*i) * time.Millisecond), Client: fmt.Sprint("c", i), Method: fmt.Sprint("M", i), Status: 200 + 400*(i%2), MS: 5, Version: fmt.Sprint("v", i)})
	}
	c, points := r.result()
	if len(c.ByVersion) > maxNames+1 || len(c.ByMethod) > maxNames+1 || len(r.clients) > maxClients || len(c.Failures) > maxFailures || len(points) > maxBins {
		t.Errorf("%d versions, %d methods, %d clients, %d failures, %d points", len(c.ByVersion), len(c.ByMethod), len(r.clients), len(c.Failures), len(points))
	}
	if c.Requests != 50_000 || c.Failed != 25_000 {
		t.Errorf("%d requests, %d failed", c.Requests, c.Failed)
	}
}

func TestNoLogs(t *testing.T) {
	c, points := read(t, filepath.Join(t.TempDir(), "*.jsonl"), Flips{})
	if c.Requests != 0 || points != nil {
		t.Errorf("%+v, %v", c, points)
	}
	if _, _, err := ReadClientLogs(t.Context(), []string{"["}, Flips{}); err == nil {
		t.Error("a pattern that is none was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := ReadClientLogs(ctx, []string{logs(t, "{}\n")}, Flips{}); err == nil {
		t.Error("a cancelled reader read on")
	}
}

// FuzzClientLog holds that every line is counted once, as a request or as unreadable, and that the picture has them all.
func FuzzClientLog(f *testing.F) {
	f.Add(logLine("a", 1, 2, 200, "1.39", "") + logLine("a", 1, 2, 0, "", "x"))
	f.Add("{}\n[]\nnull\n{\"t\":\"2026-01-01T00:00:00+14:00\",\"ms\":1e300}\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := newLogReader(Flips{Switch: after14(1)})
		if err := r.lines(t.Context(), strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		c, points := r.result()
		var lines, drawn int64
		for _, l := range strings.SplitAfter(text, "\n") {
			if l != "" && l != "\n" {
				lines++
			}
		}
		for _, p := range points {
			drawn += total(p)
		}
		if c.Requests+c.UnreadableLines != lines || drawn != c.Requests || c.Mixed > c.Requests || c.Failed > c.Requests {
			t.Fatalf("%d lines: %+v, %d drawn", lines, c, drawn)
		}
	})
}
