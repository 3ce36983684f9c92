package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"imago.dev/imago/internal/upgrade"
)

// display shows a running upgrade: bars with rates and the time left on a
// terminal, plain lines elsewhere. It talks to stdout, or to stderr when stdout
// is for JSON.
type display struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	width int
	bar   bool // a bar stands on the current line
	began time.Time
	tasks map[string]*task
}

// task is one thing that has a length.
type task struct {
	began, shown time.Time
	done         bool
}

// plainEvery is how often a task shows its progress where there are no bars.
const plainEvery = 5 * time.Second

func (a *app) newDisplay() *display {
	d := &display{w: a.Out, began: time.Now(), tasks: map[string]*task{}}
	if a.output == "json" {
		d.w = a.Err
	}
	if f, ok := d.w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		d.tty = true
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			d.width = w
		}
	}
	return d
}

// event shows one event of the engine.
func (d *display) event(e upgrade.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch e.Kind {
	case upgrade.EventPhase:
		clear(d.tasks)
		d.line("== " + e.Name)
	case upgrade.EventDone:
		d.line(fmt.Sprintf("== %s done in %.1f s", e.Name, e.Seconds))
	case upgrade.EventFailed:
		d.line(fmt.Sprintf("== %s failed after %.1f s", e.Name, e.Seconds))
	case upgrade.EventWarning:
		d.line("   warning: " + e.Text)
	case upgrade.EventOutput:
		d.line("   " + e.Name + "| " + e.Text)
	case upgrade.EventProgress:
		d.progress(e)
	default:
		d.line("   " + e.Text)
	}
}

func (d *display) note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line(text)
}

// line prints a whole line, with the time since the beginning in front.
func (d *display) line(text string) {
	d.wipe()
	fmt.Fprintf(d.w, "%s %s\n", clock(time.Since(d.began)), text)
}

// wipe removes the bar from the current line.
func (d *display) wipe() {
	if d.bar {
		fmt.Fprint(d.w, "\r\x1b[K")
		d.bar = false
	}
}

func (d *display) progress(e upgrade.Event) {
	t := d.tasks[e.Name]
	if t == nil {
		t = &task{began: time.Now()}
		d.tasks[e.Name] = t
	}
	end := e.Total > 0 && e.Done >= e.Total
	if t.done || !d.tty && !end && time.Since(t.shown) < plainEvery {
		return
	}
	t.shown, t.done = time.Now(), end
	text := describe(e, time.Since(t.began))
	if !d.tty || end {
		d.line("   " + text)
		return
	}
	bar := "   " + barText(e.Done, e.Total) + " " + text
	if d.width > 1 && len(bar) >= d.width {
		bar = bar[:d.width-1]
	}
	fmt.Fprintf(d.w, "\r\x1b[K%s", bar)
	d.bar = true
}

func (d *display) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wipe()
}

// describe gives amount, share, rate and time left.
func describe(e upgrade.Event, since time.Duration) string {
	amount := func(n uint64) string {
		if e.Unit == "B" {
			return upgrade.BytesText(n)
		}
		return fmt.Sprintf("%d %s", n, e.Unit)
	}
	text := fmt.Sprintf("%s: %s of %s", e.Name, amount(e.Done), amount(e.Total))
	if e.Total > 0 {
		text += fmt.Sprintf(" (%d %%)", e.Done*100/e.Total)
	}
	if s := since.Seconds(); s >= 0.5 && e.Done > 0 {
		rate := float64(e.Done) / s
		text += ", " + amount(uint64(rate)) + "/s"
		if e.Done < e.Total && rate > 0 {
			left := time.Duration(float64(e.Total-e.Done) / rate * float64(time.Second))
			text += ", " + left.Round(time.Second).String() + " left"
		}
	}
	return text
}

func barText(done, total uint64) string {
	const cells = 20
	n := 0
	if total > 0 {
		n = int(min(done, total) * cells / total)
	}
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", cells-n) + "]"
}

// clock is minutes and seconds, for the beginning of lines.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}
