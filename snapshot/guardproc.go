package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// guardStart bounds how long the guard may take to connect to libvirt.
const guardStart = 15 * time.Second

// guardProcess is the running guard, seen from its parent.
type guardProcess struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr bytes.Buffer
}

// startGuard starts the guard and returns when it is ready to act.
func startGuard(ctx context.Context, vms []*vmView, dir string, opts Options) (*guardProcess, error) {
	order, err := newOrder(vms, dir, opts)
	if err != nil {
		return nil, fmt.Errorf("start the thaw guard: %w", err)
	}
	g, err := spawn(opts.GuardCommand)
	if err != nil {
		return nil, fmt.Errorf("start the thaw guard: %w", err)
	}
	if err := g.order(ctx, order); err != nil {
		_ = g.cmd.Process.Kill() // it has nothing to thaw yet
		_ = g.cmd.Wait()
		return nil, fmt.Errorf("start the thaw guard: %w: %s", err, strings.TrimSpace(g.stderr.String()))
	}
	return g, nil
}

func newOrder(vms []*vmView, dir string, opts Options) (guardOrder, error) {
	o := guardOrder{URI: opts.URI, Dir: dir, Patience: opts.FreezeTimeout + opts.BeginTimeout}
	for _, vm := range vms {
		uuid, err := vm.dom.GetUUIDString()
		if err != nil {
			return o, fmt.Errorf("ask %q for its UUID: %w", vm.name, err)
		}
		o.Domains = append(o.Domains, uuid)
	}
	if o.URI != "" {
		return o, nil
	}
	conn, err := vms[0].dom.DomainGetConnect()
	if err != nil {
		return o, err
	}
	defer func() { _, _ = conn.Close() }()
	o.URI, err = conn.GetURI()
	return o, err
}

// spawn starts the guard in a session of its own: Ctrl-C at the terminal
// reaches the parent's whole group, and must not end the guard.
func spawn(command []string) (*guardProcess, error) {
	g := &guardProcess{cmd: exec.Command(command[0], command[1:]...)} //nolint:noctx // it must outlive every context
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	g.cmd.Stderr = &g.stderr
	stdin, err := g.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g.stdin, g.stdout = stdin, bufio.NewReader(stdout)
	return g, g.cmd.Start()
}

func (g *guardProcess) order(ctx context.Context, o guardOrder) error {
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if _, err := g.stdin.Write(append(line, '\n')); err != nil {
		return err
	}
	return g.expect(ctx, guardReady, guardStart)
}

// expect waits for one line of the guard.
func (g *guardProcess) expect(ctx context.Context, want string, patience time.Duration) error {
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := g.stdout.ReadString('\n')
		got <- answer{strings.TrimSpace(line), err}
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case a := <-got:
		if a.err != nil {
			return fmt.Errorf("it ended: %w", a.err)
		}
		if a.line != want {
			return fmt.Errorf("it said %q, not %q", a.line, want)
		}
		return nil
	case <-late.C:
		return fmt.Errorf("it did not say %q within %s", want, patience)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// done tells the guard that all guests are thawed, and waits for its end. If
// the guard had to act in the meantime, the view is worth nothing.
func (g *guardProcess) done() error {
	_, werr := fmt.Fprintln(g.stdin, guardDone)
	_ = g.stdin.Close()
	// Whoever read the first line stopped there, so the rest is still to come.
	answer, rerr := io.ReadAll(g.stdout)
	err := g.cmd.Wait()
	if werr == nil && rerr == nil && err == nil && strings.TrimSpace(string(answer)) == guardOK {
		return nil
	}
	return errors.Join(fmt.Errorf("%w: %s", ErrGuardFired, strings.TrimSpace(g.stderr.String())), werr, err)
}
