package convert

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Bounds of what a program may do.
const (
	answerLimit = 60 * time.Second // for one object
	answerBytes = 64 << 20
	stderrBytes = 4 << 10
)

// programError is a fault of the program, not of the database or the caller.
type programError struct{ err error }

func (e *programError) Error() string { return e.err.Error() }
func (e *programError) Unwrap() error { return e.err }

// pool keeps a conversion's processes: as many as there are callers at once, each
// used by one of them at a time.
type pool struct {
	argv  []string
	limit time.Duration

	mu     sync.Mutex
	idle   []*process
	closed bool
}

func newPool(argv []string) *pool { return &pool{argv: argv, limit: answerLimit} }

func (p *pool) get() (*process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("the conversion is closed")
	}
	if n := len(p.idle); n > 0 {
		pr := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return pr, nil
	}
	return startProcess(p.argv)
}

func (p *pool) put(pr *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		pr.kill()
		return
	}
	p.idle = append(p.idle, pr)
}

// close ends the idle processes; those at work end with their callers.
func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, pr := range p.idle {
		pr.kill()
	}
	p.idle = nil
	return nil
}

// ask sends lines to a process and hands over its answers, one for each, in order.
// A process that did not do as it should is not used again.
func (p *pool) ask(ctx context.Context, lines [][]byte, each func(i int, answer []byte) error) error {
	pr, err := p.get()
	if err != nil {
		return err
	}
	if err := pr.ask(ctx, p.limit, lines, each); err != nil {
		pr.kill()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return pr.explain(err)
	}
	p.put(pr)
	return nil
}

// process is one running program.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr *tail
	once   sync.Once
	state  string // how it ended
}

func startProcess(argv []string) (*process, error) {
	pr := &process{cmd: exec.Command(argv[0], argv[1:]...), stderr: &tail{}}
	// A group of its own, so that its children end with it.
	pr.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	pr.cmd.Stderr = pr.stderr
	pr.cmd.WaitDelay = time.Second
	in, err := pr.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the program %q: %w", argv[0], err)
	}
	out, err := pr.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the program %q: %w", argv[0], err)
	}
	if err := pr.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the program %q: %w", argv[0], err)
	}
	pr.in, pr.out = in, bufio.NewReaderSize(out, 64<<10)
	return pr, nil
}

// kill ends the process and its children and waits for it.
func (pr *process) kill() {
	pr.once.Do(func() {
		// One that is about to end by itself says more of why than our signal.
		_ = pr.in.Close()
		stop := time.AfterFunc(100*time.Millisecond, func() { _ = syscall.Kill(-pr.cmd.Process.Pid, syscall.SIGKILL) })
		_, _ = io.Copy(io.Discard, io.LimitReader(pr.out, 1<<20))
		stop.Stop()
		_ = syscall.Kill(-pr.cmd.Process.Pid, syscall.SIGKILL)
		_ = pr.cmd.Wait()
		pr.state = pr.cmd.ProcessState.String()
	})
}

// explain adds what the process said last. It has ended.
func (pr *process) explain(err error) error {
	said := clean(pr.stderr.String())
	if said != "" {
		said = ": " + said
	}
	return &programError{fmt.Errorf("the program %q: %w (%s)%s", pr.cmd.Args[0], err, pr.state, said)}
}

func (pr *process) ask(ctx context.Context, limit time.Duration, lines [][]byte, each func(int, []byte) error) error {
	var timedOut error
	var mu sync.Mutex
	stop := func(why error) func() {
		return func() {
			mu.Lock()
			timedOut = why
			mu.Unlock()
			_ = syscall.Kill(-pr.cmd.Process.Pid, syscall.SIGKILL)
		}
	}
	timer := time.AfterFunc(limit, stop(fmt.Errorf("no answer for %v", limit)))
	cancelled := context.AfterFunc(ctx, stop(errors.New("cancelled")))
	wrote := make(chan error, 1)
	go func() {
		var err error
		for _, line := range lines {
			if _, err = pr.in.Write(line); err != nil {
				break
			}
		}
		wrote <- err
	}()
	err := pr.read(len(lines), each, func() { timer.Reset(limit) })
	timer.Stop()
	cancelled()
	if err != nil {
		// The writer must not outlive us: without a reader it waits for ever.
		_ = syscall.Kill(-pr.cmd.Process.Pid, syscall.SIGKILL)
	}
	if werr := <-wrote; err == nil && werr != nil {
		err = fmt.Errorf("it stopped reading: %w", werr)
	}
	mu.Lock()
	defer mu.Unlock()
	if timedOut != nil && err != nil {
		return timedOut
	}
	return err
}

func (pr *process) read(n int, each func(int, []byte) error, alive func()) error {
	for i := range n {
		line, err := readLine(pr.out, answerBytes)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it ended after %d of %d answers", i, n)
		}
		if err != nil {
			return err
		}
		alive()
		if err := each(i, line); err != nil {
			return err
		}
	}
	if pr.out.Buffered() > 0 {
		return errors.New("it says more than it was asked")
	}
	return nil
}

// readLine reads a line of at most limit bytes.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, fmt.Errorf("an answer of more than %d bytes", limit)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSpace(line), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("read an answer: %w", err)
		}
	}
}

// tail keeps the last bytes of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[max(0, len(p)-stderrBytes):]...)
	t.b = t.b[max(0, len(t.b)-stderrBytes):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
