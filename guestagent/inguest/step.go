package inguest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"imago.dev/imago/guestagent/wire"
)

// lateOutput is how long output of children that outlive the step is still
// waited for: a daemon that a step starts often keeps the step's output open.
const lateOutput = 200 * time.Millisecond

// defaultPath is what a root shell has; sshd's own has no sbin on Debian.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// runStep runs one step to its end. What the step leaves running after a
// normal end (a service it started) stays; after a time limit, a kill or the
// loss of the host, everything it started is ended.
func runStep(h *host, out *wire.Writer, req wire.Run) (wire.Result, error) {
	if err := adoptOrphans(); err != nil {
		return wire.Result{}, err
	}
	cmd, err := command(req)
	if err != nil {
		return wire.Result{}, err
	}
	p, err := start(cmd, req.HasStdin)
	if err != nil {
		return wire.Result{}, err
	}
	p.pump(out)
	if p.stdin != nil {
		go feed(h, out, p.stdin)
	}
	return p.wait(h, req)
}

func command(req wire.Run) (*exec.Cmd, error) {
	var cmd *exec.Cmd
	switch {
	case req.Script != "" && len(req.Argv) == 0:
		script, err := scriptFile(req.Script)
		if err != nil {
			return nil, err
		}
		cmd = exec.Command("/bin/sh", "-e", "/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{script}
	case req.Script == "" && len(req.Argv) > 0:
		cmd = exec.Command(req.Argv[0], req.Argv[1:]...)
	default:
		return nil, invalid("a step has a script or a command, not both and not neither")
	}
	// The later of two equal names wins.
	cmd.Env = append(append(os.Environ(), defaultPath), req.Env...)
	cmd.Dir = req.Dir
	// A session of its own: no terminal, and a group to signal. Pdeathsig is
	// the last resort should the agent itself be killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// scriptFile holds the script in a file that has no name any more, so nothing
// can be left behind. Its first words close the descriptor in the shell, which
// reads from its own copy, so that daemons do not inherit it.
func scriptFile(script string) (*os.File, error) {
	f, err := os.CreateTemp("", "imago-step-")
	if err != nil {
		return nil, fmt.Errorf("keep the script: %w", err)
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if _, err := f.WriteString("exec 3<&-; " + script); err != nil {
		return nil, fmt.Errorf("keep the script: %w", err)
	}
	r, err := os.Open(f.Name())
	if err != nil {
		return nil, fmt.Errorf("keep the script: %w", err)
	}
	return r, nil
}

// process is a running step.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File    // our end, nil when the step has no input
	pipes  [2]*os.File // our ends of stdout and stderr
	exited chan struct{}
	// waitErr may be read once exited is closed.
	waitErr error
	pumps   sync.WaitGroup
}

func start(cmd *exec.Cmd, hasStdin bool) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	var theirs []*os.File
	defer func() {
		for _, f := range append(theirs, cmd.ExtraFiles...) {
			f.Close()
		}
	}()
	for i, set := range []func(*os.File){
		func(f *os.File) { cmd.Stdout = f },
		func(f *os.File) { cmd.Stderr = f },
	} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		p.pipes[i], theirs = r, append(theirs, w)
		set(w)
	}
	if hasStdin {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		cmd.Stdin, p.stdin, theirs = r, w, append(theirs, r)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the step: %w", err)
	}
	return p, nil
}

func (p *process) pump(out *wire.Writer) {
	for i, kind := range []wire.Kind{wire.KindStdout, wire.KindStderr} {
		p.pumps.Add(1)
		go func() {
			defer p.pumps.Done()
			forward(out, kind, p.pipes[i])
		}()
	}
}

// feed gives the step its input. A step that does not read its input to the end
// is no error; the rest is acknowledged and dropped.
func feed(h *host, out *wire.Writer, stdin *os.File) {
	defer stdin.Close()
	for p := range h.stdin {
		_, _ = stdin.Write(p)
		if out.Send(wire.KindStdinAck, nil) != nil {
			return
		}
	}
}

// wait waits for the end, whatever brings it.
func (p *process) wait(h *host, req wire.Run) (wire.Result, error) {
	go func() {
		p.waitErr = p.cmd.Wait()
		close(p.exited)
	}()
	var limit <-chan time.Time
	if req.TimeoutMS > 0 {
		limit = time.After(time.Duration(req.TimeoutMS) * time.Millisecond)
	}
	grace := time.Duration(req.GraceMS) * time.Millisecond
	var res wire.Result
	select {
	case <-p.exited:
	case <-limit:
		res.TimedOut = true
		p.end(grace)
	case <-h.kill:
		res.Killed = true
		p.end(grace)
	case <-h.gone:
		p.end(grace)
		return res, errHostGone
	}
	if err := p.finishOutput(h); err != nil {
		return res, err
	}
	return res, p.status(&res)
}

// finishOutput lets the pumps send what the step wrote before its end.
func (p *process) finishOutput(h *host) error {
	done := make(chan struct{})
	go func() {
		p.pumps.Wait()
		close(done)
	}()
	for _, f := range p.pipes {
		_ = f.SetReadDeadline(time.Now().Add(lateOutput))
	}
	select {
	case <-done:
		return nil
	case <-h.gone:
		return errHostGone
	}
}

func (p *process) status(res *wire.Result) error {
	select {
	case <-p.exited:
	default: // killed, but stuck in the kernel
		res.ExitCode, res.Signal = 128+int(syscall.SIGKILL), "KILLED"
		return nil
	}
	var exit *exec.ExitError
	if p.waitErr != nil && !errors.As(p.waitErr, &exit) {
		return fmt.Errorf("wait for the step: %w", p.waitErr)
	}
	ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return fmt.Errorf("wait for the step: no status")
	}
	res.ExitCode = ws.ExitStatus()
	if ws.Signaled() {
		res.ExitCode = 128 + int(ws.Signal())
		res.Signal = strings.ToUpper(ws.Signal().String())
	}
	return nil
}
