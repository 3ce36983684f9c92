package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/internal/upgrade"
	"imago.dev/imago/netswitch"
)

// shown gives what a display prints for the events, on a terminal or in a pipe.
func shown(tty bool, width int, events ...upgrade.Event) string {
	var b bytes.Buffer
	d := &display{w: &b, tty: tty, width: width, began: time.Now(), tasks: map[string]*task{}}
	for _, e := range events {
		d.event(e)
	}
	d.close()
	return b.String()
}

func progressOf(done uint64) upgrade.Event {
	return upgrade.Event{Kind: upgrade.EventProgress, Name: "copying", Unit: "B", Done: done, Total: 4 << 20}
}

// TestPlainLines: a pipe gets whole lines and no control characters, and not a
// line for each step of a progress.
func TestPlainLines(t *testing.T) {
	var events []upgrade.Event
	events = append(events, upgrade.Event{Kind: upgrade.EventPhase, Name: "clone"}, upgrade.Event{Kind: upgrade.EventWarning, Text: "look"},
		upgrade.Event{Kind: upgrade.EventOutput, Name: "db", Text: "row 1"})
	for n := range uint64(100) {
		events = append(events, progressOf(n<<10))
	}
	events = append(events, progressOf(4<<20), progressOf(4<<20), upgrade.Event{Kind: upgrade.EventDone, Name: "clone", Seconds: 1.25})
	got := shown(false, 0, events...)
	want := []string{"== clone", "   warning: look", "   db| row 1", "   copying: 0 B of 4.0 MiB (0 %)", "   copying: 4.0 MiB of 4.0 MiB (100 %)", "== clone done in 1.2 s"}
	lines := strings.Split(strings.TrimRight(got, "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), got)
	}
	for i, l := range lines {
		if !regexp.MustCompile(`^\d\d:\d\d `).MatchString(l) || l[6:] != want[i] {
			t.Errorf("line %d is %q, want %q", i, l, want[i])
		}
	}
	if strings.ContainsAny(got, "\x1b\r") {
		t.Errorf("control characters in a pipe: %q", got)
	}
}

// TestBars: a terminal gets one bar that is drawn over, never wider than the
// terminal, and wiped before a line.
func TestBars(t *testing.T) {
	const width = 40
	got := shown(true, width, progressOf(0), progressOf(1<<20), upgrade.Event{Kind: upgrade.EventStep, Text: "a line"}, progressOf(2<<20), progressOf(4<<20))
	draws := strings.Split(got, "\r\x1b[K")
	for _, d := range draws {
		for _, line := range strings.Split(d, "\n") {
			if strings.HasPrefix(line, "   [") && len(line) >= width {
				t.Errorf("a bar of %d characters on a terminal of %d: %q", len(line), width, line)
			}
		}
	}
	if !strings.Contains(got, "   [#####...............] copying") {
		t.Errorf("no bar at a quarter: %q", got)
	}
	if !regexp.MustCompile(`\r\x1b\[K\d\d:\d\d    a line\n`).MatchString(got) {
		t.Errorf("the bar is not wiped before a line: %q", got)
	}
	if strings.Count(got, "\n") != 2 || !strings.HasSuffix(got, "(100 %)\n") {
		t.Errorf("want the line and the end of the progress as lines: %q", got)
	}
}

func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		e     upgrade.Event
		since time.Duration
		want  string
	}{
		{progressOf(1 << 20), 2 * time.Second, "copying: 1.0 MiB of 4.0 MiB (25 %), 512.0 KiB/s, 6s left"},
		{progressOf(4 << 20), 2 * time.Second, "copying: 4.0 MiB of 4.0 MiB (100 %), 2.0 MiB/s"},
		{progressOf(1 << 20), time.Millisecond, "copying: 1.0 MiB of 4.0 MiB (25 %)"},
		{upgrade.Event{Name: "comparing", Unit: "objects", Done: 5}, time.Second, "comparing: 5 objects of 0 objects, 5 objects/s"},
	} {
		if got := describe(c.e, c.since); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestBarText(t *testing.T) {
	for _, c := range []struct {
		done, total uint64
		cells       int
	}{{0, 0, 0}, {0, 10, 0}, {5, 10, 10}, {10, 10, 20}, {11, 10, 20}} {
		if got := strings.Count(barText(c.done, c.total), "#"); got != c.cells || len(barText(c.done, c.total)) != 22 {
			t.Errorf("%d of %d: %s", c.done, c.total, barText(c.done, c.total))
		}
	}
}

// TestExitCodes: scripts rely on them, so each outcome keeps its own, however it
// is wrapped, and the graver one wins.
func TestExitCodes(t *testing.T) {
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	wrap := func(err error) error { return fmt.Errorf("switch: %w", errors.Join(err, errors.New("and more"))) }
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), errors.New("boom"), 1}, {t.Context(), usageErrorf("no"), 2}, {t.Context(), &plan.Errors{}, 2},
		{t.Context(), upgrade.ErrRefused, 3}, {t.Context(), upgrade.Problems{}, 3}, {t.Context(), upgrade.ErrOrder, 3},
		{t.Context(), journal.ErrLocked, 4}, {t.Context(), upgrade.ErrStep, 5}, {t.Context(), upgrade.ErrVerify, 6},
		{t.Context(), upgrade.ErrReleased, 7}, {t.Context(), &upgrade.LossError{}, 8}, {t.Context(), netswitch.ErrAmbiguous, 9},
		{t.Context(), upgrade.ErrUnknownSide, 9}, {stopped, errors.New("boom"), 130}, {stopped, upgrade.ErrUnknownSide, 9}, {t.Context(), &exitError{42}, 42},
		{t.Context(), errors.Join(upgrade.ErrReleased, upgrade.ErrStep), 7}, {t.Context(), errors.Join(upgrade.ErrReleased, netswitch.ErrAmbiguous), 9},
	} {
		if got := exitCode(c.ctx, wrap(c.err)); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
	for _, e := range exitTexts {
		if !strings.Contains(exitHelp(), fmt.Sprintf("%3d  %s", e.code, e.text)) {
			t.Errorf("the help lacks exit code %d", e.code)
		}
	}
}
