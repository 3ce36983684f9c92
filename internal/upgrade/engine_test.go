package upgrade

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
)

// engineAt gives an engine with a real journal whose run is in the state that
// the given path leads to. It has no libvirt: only for what needs none.
func engineAt(t *testing.T, path ...journal.State) (*Engine, *[]Event) {
	t.Helper()
	j, err := journal.Open(t.Context(), filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := j.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	var events []Event
	e := &Engine{plan: &plan.Plan{Name: "shop", Text: "version: 1\n", SHA256: "aa", StateDir: t.TempDir()}, j: j,
		log: slog.New(slog.NewTextHandler(io.Discard, nil)), see: newObserver(func(ev Event) { events = append(events, ev) })}
	run, err := j.Begin(t.Context(), "shop", e.plan.Text, e.plan.SHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.adopt(run)
	for _, s := range path {
		if err := e.become(t.Context(), s, ""); err != nil {
			t.Fatal(err)
		}
	}
	return e, &events
}

// toTested is the way of an upgrade that goes well, up to the switch.
var toTested = []journal.State{journal.Checked, journal.Cloning, journal.Cloned, journal.Converting, journal.Converted, journal.Testing, journal.Tested}

// stored is the state as another process would read it.
func stored(t *testing.T, e *Engine) journal.Run {
	t.Helper()
	run, err := e.j.Latest(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestTokens(t *testing.T) {
	seen := map[string]bool{}
	e, _ := engineAt(t)
	first := tokenOf(e.run)
	if first != tokenOf(stored(t, e)) {
		t.Error("another process derives another token from the same run")
	}
	for id := range int64(500) {
		r := e.run
		r.ID = id
		token := tokenOf(r)
		if len(token) != 6 || strings.Trim(token, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Fatalf("token %q", token)
		}
		seen[token] = true
	}
	if len(seen) != 500 {
		t.Errorf("500 runs have %d tokens", len(seen))
	}
}

func TestNames(t *testing.T) {
	n := names{plan: "shop", run: "abc234", stateDir: "/var/lib/imago"}
	for got, want := range map[string]string{
		n.network(): "imago-shop-abc234", n.netns(): "imago-shop-abc234", n.bridge(): "imgbabc234",
		n.domain("db"): "imago-shop-abc234-db", n.overlay("db", "vda"): "/var/lib/imago/runs/abc234/db-vda.qcow2",
		n.sockets(): "/run/imago/abc234", n.reportDir(): "/var/lib/imago/reports/abc234",
		n.console("db"): "/var/lib/imago/runs/abc234/db.console.log",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if len(n.bridge()) > 15 {
		t.Errorf("the kernel takes no interface name of %d letters", len(n.bridge()))
	}
	again := names{plan: "shop", run: "abc234", stateDir: "/elsewhere"}
	if n.uuid("network") != again.uuid("network") || n.uuid("network") == n.uuid("domain/db") {
		t.Error("a UUID must be the same for a thing and another for another")
	}
	for name, want := range map[string]string{"pages": "manifest-pages", "../../etc/passwd": "manifest-------etc-passwd", "Straße 7": "manifest-stra-e-7"} {
		if got := n.manifest(name); got != n.reportDir()+"/"+want {
			t.Errorf("list of %q is at %s", name, got)
		}
	}
}

// TestOverlayOwner: a disk's name may begin with the name of another VM.
func TestOverlayOwner(t *testing.T) {
	e := &Engine{plan: &plan.Plan{Universe: plan.Universe{VMs: []plan.VM{{Name: "db"}, {Name: "db-old"}}}}}
	for file, want := range map[string]string{"/r/db-vda.qcow2": "db", "/r/db-old-vda.qcow2": "db-old", "/r/db-old-web-vda.qcow2": "db-old", "/r/web-vda.qcow2": ""} {
		if got := e.overlayOwner(file); got != want {
			t.Errorf("%s is of %q, want %q", file, got, want)
		}
	}
}

func TestPhase(t *testing.T) {
	boom := errors.New("boom")
	toCloned := toTested[:3]
	for _, c := range []struct {
		name   string
		path   []journal.State
		course course
		fail   error
		state  journal.State
		kind   EventKind
		wants  error
	}{
		{"goes well", toCloned, phaseConvert, nil, journal.Converted, EventDone, nil},
		{"fails", toCloned, phaseConvert, boom, journal.Cloned, EventFailed, boom},
		{"too early", toCloned, phaseSwitch, nil, journal.Cloned, "", ErrOrder},
		{"switch fails", toTested, phaseSwitch, boom, journal.Tested, EventFailed, boom},
		{"the truth is lost", toTested, phaseSwitch, ErrUnknownSide, journal.Failed, EventFailed, ErrUnknownSide},
		{"check on the way", toTested, phaseCheck, nil, journal.Tested, EventDone, nil},
		{"abort fails", toCloned, phaseAbort, boom, journal.Aborting, EventFailed, boom},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, events := engineAt(t, c.path...)
			err := e.phase(t.Context(), c.course, func(ctx context.Context) error {
				if c.course.during != 0 && stored(t, e).State != c.course.during {
					t.Errorf("while it runs the state is %s", stored(t, e).State)
				}
				return c.fail
			})
			if !errors.Is(err, c.wants) {
				t.Errorf("error %v, want %v", err, c.wants)
			}
			if e.State() != c.state || stored(t, e).State != c.state {
				t.Errorf("state %s, stored %s, want %s", e.State(), stored(t, e).State, c.state)
			}
			if c.kind == "" {
				if len(*events) != 0 {
					t.Errorf("events of a phase that did not begin: %v", *events)
				}
				return
			}
			if last := (*events)[len(*events)-1]; last.Kind != c.kind || last.Name != c.course.name {
				t.Errorf("last event %+v", last)
			}
			phases, err := e.j.Phases(t.Context(), e.run.ID)
			if err != nil || len(phases) != 1 || (phases[0].Outcome == journal.Done) != (c.fail == nil) {
				t.Errorf("phases %+v, %v", phases, err)
			}
		})
	}
}

// TestSwitchedFromTheFlip: what fails after the flip does not take the switch back.
func TestSwitchedFromTheFlip(t *testing.T) {
	e, _ := engineAt(t, toTested...)
	boom := errors.New("boom")
	err := e.phase(t.Context(), phaseSwitch, func(ctx context.Context) error {
		if err := e.become(ctx, journal.Switched, ""); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) || stored(t, e).State != journal.Switched {
		t.Errorf("state %s, error %v", stored(t, e).State, err)
	}
}

// TestSettle looks at what a dead process left, where the kernel need not be asked.
func TestSettle(t *testing.T) {
	for _, c := range []struct {
		path []journal.State
		want journal.State
	}{
		{nil, journal.New}, {toTested[:1], journal.Checked}, {toTested[:2], journal.Checked}, {toTested[:3], journal.Cloned},
		{toTested[:4], journal.Cloned}, {toTested[:5], journal.Converted}, {toTested[:6], journal.Converted}, {toTested, journal.Tested},
		{append(toTested[:7:7], journal.Switching, journal.Switched, journal.Finalizing), journal.Switched},
	} {
		t.Run(c.want.String(), func(t *testing.T) {
			e, events := engineAt(t, c.path...)
			if _, err := e.j.StartPhase(t.Context(), e.run.ID, "cut"); err != nil {
				t.Fatal(err)
			}
			dir := e.n.dir()
			if e.State() == journal.Cloning {
				if err := e.make(t.Context(), journal.KindDirectory, dir, func() error { return makeDir(dir) }); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			if stored(t, e).State != c.want {
				t.Errorf("settled to %s", stored(t, e).State)
			}
			phases, err := e.j.Phases(t.Context(), e.run.ID)
			if err != nil || phases[0].Outcome != journal.CutShort {
				t.Errorf("phases %+v, %v", phases, err)
			}
			if len(*events) == 0 || (*events)[0].Kind != EventWarning {
				t.Errorf("nobody was told: %+v", *events)
			}
			if left, err := e.j.Standing(t.Context(), e.run.ID); err != nil || len(left) != 0 || existing(dir) == dir {
				t.Errorf("left: %+v, %v", left, err)
			}
		})
	}
}

// TestSamePlan: a plan may change until something was made of it.
func TestSamePlan(t *testing.T) {
	e, _ := engineAt(t, journal.Checked)
	old := e.run.ID
	e.plan.SHA256 = "bb"
	if err := e.samePlan(t.Context()); err != nil || e.live() {
		t.Errorf("a run that has only checked: %v, still live %v", err, e.live())
	}
	if run, err := e.j.Run(t.Context(), old); err != nil || run.State != journal.Aborted {
		t.Errorf("the old run is %s, %v", run.State, err)
	}
	e, _ = engineAt(t, toTested[:3]...)
	e.plan.SHA256 = "bb"
	if err := e.samePlan(t.Context()); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "abort") {
		t.Errorf("a run with a universe: %v", err)
	}
	e.plan.SHA256 = "aa"
	if err := e.samePlan(t.Context()); err != nil {
		t.Errorf("the same plan: %v", err)
	}
}

// TestMakeWritesBefore: what is about to be made is in the journal first, and
// stays there when the making fails.
func TestMakeWritesBefore(t *testing.T) {
	e, _ := engineAt(t)
	boom := errors.New("boom")
	err := e.make(t.Context(), journal.KindNetwork, "net", func() error {
		if left, err := e.j.Standing(t.Context(), e.run.ID); err != nil || len(left) != 1 || left[0].Status != journal.Intended {
			t.Errorf("before the act: %+v, %v", left, err)
		}
		return boom
	})
	if left, _ := e.j.Standing(t.Context(), e.run.ID); !errors.Is(err, boom) || len(left) != 1 {
		t.Errorf("after a failure: %+v, %v", left, err)
	}
	if err := e.remove(t.Context(), journal.KindNetwork, "net", func() error { return boom }); !errors.Is(err, boom) {
		t.Errorf("a removal that fails: %v", err)
	}
	if err := e.remove(t.Context(), journal.KindNetwork, "net", func() error { return nil }); err != nil {
		t.Error(err)
	}
	if left, _ := e.j.Standing(t.Context(), e.run.ID); len(left) != 0 {
		t.Errorf("after the removal: %+v", left)
	}
}
