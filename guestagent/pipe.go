package guestagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Pipe is a program in a guest that is talked to: what is written goes to its
// standard input, what it writes to its standard output is read. What it says on
// standard error is in the error of its end.
type Pipe struct {
	in     *io.PipeWriter
	out    *io.PipeReader
	cancel context.CancelCauseFunc
	done   chan struct{}
	once   sync.Once
	err    error
}

// Pipe starts a step whose input and output are a stream of the caller's. The
// step's own Stdin must be nil. The program ends with Close, with ctx, or when
// the connection is lost: then, like every step, at the latest after the
// target's lease.
func (s *Session) Pipe(ctx context.Context, step Step) (*Pipe, error) {
	if step.Stdin != nil {
		return nil, fmt.Errorf("step %q in guest %q: its input is the pipe's", step.Name, s.target.Name)
	}
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ctx, cancel := context.WithCancelCause(ctx)
	p := &Pipe{in: inW, out: outR, cancel: cancel, done: make(chan struct{})}
	step.Stdin = inR
	go func() {
		defer close(p.done)
		_, err := s.runStep(ctx, step, &pipeSinks{out: outW})
		p.err = err
		cause := err
		if cause == nil {
			cause = io.EOF
		}
		outW.CloseWithError(cause)
		inR.CloseWithError(errors.Join(io.ErrClosedPipe, err))
	}()
	return p, nil
}

// Read reads what the program wrote; io.EOF means that it ended well.
func (p *Pipe) Read(b []byte) (int, error) { return p.out.Read(b) }

// Write writes to the program's input.
func (p *Pipe) Write(b []byte) (int, error) { return p.in.Write(b) }

// Done is closed when the program has ended; Err then says how.
func (p *Pipe) Done() <-chan struct{} { return p.done }

// Err returns nil while the program runs and after it ended with status 0.
func (p *Pipe) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// errPipeClosed is why a step ends whose pipe its user closed.
var errPipeClosed = errors.New("closed by its user")

// Close ends the program and waits for its end. An end that Close itself brought
// about is no error.
func (p *Pipe) Close() error {
	p.once.Do(func() {
		_ = p.in.Close()
		p.cancel(errPipeClosed)
		_ = p.out.CloseWithError(errPipeClosed)
	})
	<-p.done
	if errors.Is(p.err, errPipeClosed) || errors.Is(p.err, io.ErrClosedPipe) {
		return nil
	}
	return p.err
}

// pipeSinks hands a step's output on as it is.
type pipeSinks struct {
	out    *io.PipeWriter
	stderr shownLines
}

func (k *pipeSinks) begin(t *tail) { k.stderr.emit = t.add }

func (k *pipeSinks) take(stream Stream, p []byte) error {
	if stream == Stdout {
		_, err := k.out.Write(p)
		return err
	}
	k.stderr.write(p)
	return nil
}

func (k *pipeSinks) end() error {
	k.stderr.end()
	return nil
}

// PipeAgent is Pipe for a mode of the deployed agent itself.
func (s *Session) PipeAgent(ctx context.Context, mode string) (*Pipe, error) {
	path := s.agentPath()
	if path == "" {
		return nil, fmt.Errorf("guest %q: %w", s.target.Name, ErrNoAgent)
	}
	return s.Pipe(ctx, Step{Name: "agent " + mode, Argv: []string{path, mode}})
}
