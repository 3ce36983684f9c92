package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"imago.dev/imago/internal/lab"
	"imago.dev/imago/internal/report"
	"imago.dev/imago/internal/upgrade"
)

// patience bounds one command. It is generous: the machine may be busy with
// other things, and a guest under emulation then takes minutes to boot.
const patience = 8 * time.Minute

// host is the lab's virtualization host as an admin sees it.
type host struct {
	lab   *lab.Lab
	imago string
	plan  string // path of the plan as the lab wrote it
	text  string // and its text
}

// newHost takes the lab's plan, with limits for a machine that is busy with
// other things.
func newHost(l *lab.Lab, imago string) (*host, error) {
	raw, err := os.ReadFile(l.State.PlanPath)
	if err != nil {
		return nil, err
	}
	text := strings.NewReplacer("timeout: 180s", "timeout: 9m", "timeout: 60s", "timeout: 5m").Replace(string(raw))
	h := &host{lab: l, imago: imago, plan: l.State.PlanPath, text: text}
	return h, os.WriteFile(h.plan, []byte(text), 0o600)
}

// result is how a command went.
type result struct {
	args        string
	out, errOut string
	code        int
}

// output collects what a command prints, while others look at it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// run executes a command on the lab's host.
func (h *host) run(t *testing.T, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := h.lab.Command(ctx, name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%s %v: %v\n%s%s", name, args, err, &out, &errOut)
	}
	return result{filepath.Base(name) + " " + strings.Join(args, " "), out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// must is run for commands that may not fail; it gives what they print.
func (h *host) must(t *testing.T, name string, args ...string) string {
	t.Helper()
	return h.run(t, name, args...).want(t, 0).out
}

// do runs a verb of imago on a plan.
func (h *host) do(t *testing.T, plan, verb string, flags ...string) result {
	t.Helper()
	began := time.Now()
	r := h.run(t, h.imago, append([]string{verb, plan}, flags...)...)
	t.Logf("imago %s: exit code %d after %.1f s", verb, r.code, time.Since(began).Seconds())
	return r
}

// want fails the test unless the command ended with the code and printed the texts.
func (r result) want(t *testing.T, code int, texts ...string) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("%s: exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", r.args, r.code, code, r.out, r.errOut)
	}
	for _, text := range texts {
		if !strings.Contains(r.errOut, text) {
			t.Errorf("%s: stderr lacks %q:\n%s", r.args, text, r.errOut)
		}
	}
	return r
}

// running is a command under way on the lab's host.
type running struct {
	h    *host
	out  output
	pid  string // in the lab
	done chan struct{}
	cmd  *exec.Cmd
}

// start begins a verb of imago and returns at once. The process is killed at
// the end of the test if it still runs.
func (h *host) start(t *testing.T, plan, verb string, flags ...string) *running {
	t.Helper()
	pidFile := filepath.Join(h.lab.Dir, "test.pid")
	_ = os.Remove(pidFile)
	args := append([]string{"-c", `echo $$ >"$0.new" && mv "$0.new" "$0" && exec "$@"`, pidFile, h.imago, verb, plan}, flags...)
	r := &running{h: h, cmd: h.lab.Command(context.Background(), "sh", args...), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("start imago %s: %v", verb, err)
	}
	go func() { defer close(r.done); _ = r.cmd.Wait() }()
	t.Cleanup(func() { r.kill(t) })
	await(t, "the process of imago "+verb, time.Minute, func() error {
		raw, err := os.ReadFile(pidFile)
		r.pid = strings.TrimSpace(string(raw))
		return err
	})
	return r
}

// kill ends the process the hard way, as a crash would. It may be repeated.
func (r *running) kill(t *testing.T) {
	t.Helper()
	select {
	case <-r.done:
		return
	default:
	}
	if r.pid != "" {
		r.h.must(t, "kill", "-9", r.pid)
	}
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		_ = r.cmd.Process.Signal(syscall.SIGKILL)
		t.Errorf("imago (process %s of the lab) lives on after kill -9", r.pid)
	}
}

// sees waits until the command has printed the text. It is an error if the
// command ends before.
func (r *running) sees(t *testing.T, text string) {
	t.Helper()
	await(t, fmt.Sprintf("imago to print %q", text), patience, func() error {
		if strings.Contains(r.out.String(), text) {
			return nil
		}
		select {
		case <-r.done:
			t.Fatalf("imago ended with code %d and never printed %q:\n%s", r.cmd.ProcessState.ExitCode(), text, r.out.String())
		default:
		}
		return fmt.Errorf("so far:\n%s", r.out.String())
	})
}

// await waits for a condition.
func await(t *testing.T, what string, limit time.Duration, check func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s: %v", limit, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// status asks imago where the upgrade stands.
func (h *host) status(t *testing.T) upgrade.Status {
	t.Helper()
	var st upgrade.Status
	out := h.must(t, h.imago, "status", h.plan, "--output", "json")
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		t.Fatalf("status is no JSON: %v\n%s", err, out)
	}
	return st
}

// wantState fails the test unless the upgrade is in the state.
func (h *host) wantState(t *testing.T, state string) {
	t.Helper()
	if st := h.status(t); st.State != state {
		t.Fatalf("the upgrade is %s (%s), want %s", st.State, st.Reason, state)
	}
}

// inside is the path on this machine of a path on the lab's host.
func (h *host) inside(path string) string { return filepath.Join(h.lab.Dir, "host", path) }

// report reads the report of a run.
func (h *host) report(t *testing.T, run string) report.Report {
	t.Helper()
	raw, err := os.ReadFile(h.inside(filepath.Join("/var/lib/imago/reports", run, "report.json")))
	if err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// variant writes a plan that differs from the lab's in the given places:
// pairs of an old and a new text.
func (h *host) variant(t *testing.T, pairs ...string) string {
	t.Helper()
	text := h.text
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the lab's plan has no %q:\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	path := filepath.Join(h.lab.Dir, "variant.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
