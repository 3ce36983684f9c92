package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/images"
	"imago.dev/imago/images/recipes"
	"imago.dev/imago/internal/plan"
)

// TestPlansAreGood fills in the plan of each sample system and loads it.
func TestPlansAreGood(t *testing.T) {
	for _, name := range Systems() {
		t.Run(name, func(t *testing.T) {
			sys, err := SystemByName(name)
			if err != nil {
				t.Fatal(err)
			}
			machines := map[string]builtMachine{}
			for _, m := range slices.Concat(sys.Production, sys.New) {
				_, public, err := images.NewHostKey()
				if err != nil {
					t.Fatal(err)
				}
				machines[m.Name] = builtMachine{Machine: m, Disk: "/lab/" + m.Name, Kernel: "/k", Initrd: "/i", Cmdline: "root=/dev/vda",
					SHA256: strings.Repeat("ab", 32), HostKey: strings.TrimSpace(string(public))}
			}
			dir := t.TempDir()
			if err := writePlan(dir, sys, machines); err != nil {
				t.Fatal(err)
			}
			p, err := plan.Load(filepath.Join(dir, "plan.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Production.VMs) != len(sys.Production) || p.Services[0].VIP != sys.VIP || p.Services[0].Old != sys.FrontEnd {
				t.Errorf("the plan is of another system: %+v", p)
			}
		})
	}
}

// TestImagesAreDeclared: what a system needs can be built.
func TestImagesAreDeclared(t *testing.T) {
	cat, err := images.LoadCatalogue(recipes.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Systems() {
		sys, _ := SystemByName(name)
		for _, img := range sys.Images() {
			if cat.Hash(img) == "" {
				t.Errorf("%s needs the image %s, and there is no recipe for it", name, img)
			}
		}
	}
	if _, err := SystemByName("toaster"); err == nil || !strings.Contains(err.Error(), "wiki, small") {
		t.Errorf("an unknown system: %v", err)
	}
}

// fakeSystem is the small system at another address.
func fakeSystem(t *testing.T, handler http.HandlerFunc) *System {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	sys := *systems[1]
	sys.ReadRequest = func(*rand.Rand) (*http.Request, error) { return http.NewRequest(http.MethodGet, server.URL, nil) }
	sys.EditRequest = func(client string, n int) (*http.Request, error) {
		return http.NewRequest(http.MethodPost, server.URL, strings.NewReader(sys.Serial(client, n)))
	}
	return &sys
}

func TestAnswers(t *testing.T) {
	status := 0
	var body string
	sys := fakeSystem(t, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		body = string(raw)
		w.Header().Set("X-Version", "13")
		w.WriteHeader(status)
	})
	for _, c := range []struct {
		kind   string
		status int
		good   bool
	}{{"reader", 200, true}, {"editor", 201, true}, {"editor", 200, true}, {"reader", 302, false}, {"reader", 404, false}, {"editor", 500, false}, {"editor", 503, false}} {
		status = c.status
		cl := &client{o: ClientOptions{Name: "editor-1", Kind: c.kind}, sys: sys, http: &http.Client{Timeout: 30 * time.Second}}
		a, err := cl.request(7)
		if (err == nil) != c.good || a.Status != c.status || a.Version != "13" || a.Time.IsZero() {
			t.Errorf("%s, status %d: %+v, %v", c.kind, c.status, a, err)
		}
		if c.kind == "editor" && (body != "editor-1 serial 7." || a.Serial != 7) {
			t.Errorf("wrote %q as %d", body, a.Serial)
		}
	}
}

func TestReadAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got, err := ReadAnswers(path); err != nil || got != nil {
		t.Errorf("no log yet: %v, %v", got, err)
	}
	line, err := json.Marshal(Answer{Client: "a", Status: 200, Serial: 1})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{"": 0, string(line) + "\n": 1, string(line) + "\n" + string(line[:9]): 1, string(line) + "\nnonsense\n": -1} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadAnswers(path)
		if want < 0 && err == nil || want >= 0 && (err != nil || len(got) != want) {
			t.Errorf("%q: %d answers, %v", text, len(got), err)
		}
	}
}

// TestLedger finds each way in which a write can be wrong.
func TestLedger(t *testing.T) {
	c := &Clients{sys: systems[1]}
	text := func(serials ...int) string {
		var b strings.Builder
		for _, n := range serials {
			fmt.Fprintln(&b, systems[1].Serial("e", n))
		}
		return b.String()
	}
	answers := []Answer{{Serial: 1}, {Serial: 2}, {Serial: 3, Error: "refused"}, {Serial: 10}}
	for _, k := range []struct {
		text                      string
		lost, doubled, outOfOrder int
	}{
		{text(1, 2, 10), 0, 0, 0}, {text(1, 2, 3, 10), 0, 0, 0}, {text(1, 10), 1, 0, 0}, {text(10), 2, 0, 0},
		{text(1, 2, 2, 10), 0, 1, 0}, {text(2, 1, 10), 0, 0, 1}, {"", 3, 0, 0},
	} {
		var l Ledger
		c.count(&l, "e", k.text, answers)
		if l.Acknowledged != 3 || len(l.Lost) != k.lost || len(l.Doubled) != k.doubled || len(l.OutOfOrder) != k.outOfOrder || l.OK() != (k.lost+k.doubled+k.outOfOrder == 0) {
			t.Errorf("%q: %+v", k.text, l)
		}
	}
}

// TestRemoveDir: only what a lab made is removed.
func TestRemoveDir(t *testing.T) {
	foreign := t.TempDir()
	if err := RemoveDir(foreign); err == nil {
		t.Error("a foreign directory was removed")
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
	if err := RemoveDir(filepath.Join(foreign, "none")); err != nil {
		t.Error(err)
	}
	mine := filepath.Join(foreign, "lab")
	if err := prepareDir(mine); err != nil {
		t.Fatal(err)
	}
	if err := RemoveDir(mine); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(mine); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

// TestFind knows a lab by its first process, also when its PID is used again.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	if _, err := Find(dir); !errors.Is(err, ErrNoLab) {
		t.Errorf("an empty directory: %v", err)
	}
	start, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		state State
		found bool
	}{{State{InitPID: os.Getpid(), InitStart: start}, true}, {State{InitPID: os.Getpid(), InitStart: start + "1"}, false}, {State{InitPID: 1 << 30, InitStart: start}, false}} {
		if err := writeState(dir, c.state); err != nil {
			t.Fatal(err)
		}
		l, err := Find(dir)
		if (err == nil) != c.found || !c.found && !errors.Is(err, ErrNoLab) || c.found && l.State != c.state {
			t.Errorf("%+v: %+v, %v", c.state, l, err)
		}
	}
}
