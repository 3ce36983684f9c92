package guestagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"imago.dev/imago/guestagent/wire"
)

// Stream says where output was written.
type Stream int

// The two streams.
const (
	Stdout Stream = iota + 1
	Stderr
)

// Output is one line of a step's output, cleaned for a person, without its
// newline. A line over 4 KiB comes in pieces; a carriage return ends a line.
type Output struct {
	Stream Stream
	Text   string
}

// Run runs a step and waits for its end. out, which may be nil, is called for
// each line as it comes, never concurrently; while it runs the guest waits.
// A step that does not end with status 0 is a *StepError; Result is then filled
// as well. When ctx ends, the step and all it started are ended in the guest
// and the context's cause is returned; when the connection is lost they end in
// the guest by themselves, at the latest after the target's lease.
func (s *Session) Run(ctx context.Context, step Step, out func(Output)) (Result, error) {
	return s.runStep(ctx, step, &shownSinks{out: out})
}

// Lines runs a step like Run and calls line for each whole line of its standard
// output as it is, without the newline; the slice is only valid during the call.
// A line over MaxLine is a *LineTooLongError. An error of line ends the step and
// is returned.
func (s *Session) Lines(ctx context.Context, step Step, line func([]byte) error) (Result, error) {
	return s.runStep(ctx, step, &lineSinks{raw: rawLines{emit: line}})
}

// sinks receive a step's output.
type sinks interface {
	begin(t *tail)
	take(stream Stream, p []byte) error
	end() error
}

type shownSinks struct {
	out     func(Output)
	streams map[Stream]*shownLines
}

func (k *shownSinks) begin(t *tail) {
	k.streams = make(map[Stream]*shownLines)
	for _, stream := range []Stream{Stdout, Stderr} {
		k.streams[stream] = &shownLines{emit: func(line string) {
			t.add(line)
			if k.out != nil {
				k.out(Output{Stream: stream, Text: line})
			}
		}}
	}
}

func (k *shownSinks) take(stream Stream, p []byte) error {
	k.streams[stream].write(p)
	return nil
}

func (k *shownSinks) end() error {
	k.streams[Stdout].end()
	k.streams[Stderr].end()
	return nil
}

type lineSinks struct {
	raw    rawLines
	stderr shownLines
}

func (k *lineSinks) begin(t *tail) { k.stderr.emit = t.add }

func (k *lineSinks) take(stream Stream, p []byte) error {
	if stream == Stdout {
		return k.raw.write(p)
	}
	k.stderr.write(p)
	return nil
}

func (k *lineSinks) end() error {
	k.stderr.end()
	return k.raw.end()
}

func (s *Session) runStep(ctx context.Context, step Step, to sinks) (Result, error) {
	req, err := step.request()
	if err != nil {
		return Result{}, err
	}
	release, err := reserve(ctx, 1, s)
	if err != nil {
		return Result{}, fmt.Errorf("step %q in guest %q: %w", step.Name, s.target.Name, err)
	}
	defer release()
	begin := time.Now()
	c, err := s.call(ctx, req)
	if err != nil {
		return Result{}, fmt.Errorf("step %q in guest %q: %w", step.Name, s.target.Name, err)
	}
	defer c.close()
	s.log.Debug("step begins", "step", step.Name)
	var t tail
	to.begin(&t)
	r := &running{call: c, step: step, credit: make(chan struct{}, wire.StdinWindow)}
	got, err := r.wait(ctx, to)
	res := Result{ExitCode: got.ExitCode, Signal: Clean(got.Signal), Duration: time.Since(begin), Tail: t.lines}
	s.log.Debug("step ended", "step", step.Name, "exit", res.ExitCode, "duration", res.Duration)
	if err != nil {
		return res, fmt.Errorf("step %q in guest %q: %w", step.Name, s.target.Name, err)
	}
	if got.ExitCode != 0 || got.Signal != "" || got.TimedOut {
		return res, &StepError{
			Step: step.Name, VM: s.target.Name, Exit: got.ExitCode, Signal: res.Signal,
			TimedOut: got.TimedOut, Limit: step.Timeout, Tail: t.lines,
		}
	}
	return res, nil
}

// running is a step in progress.
type running struct {
	*call
	step   Step
	credit chan struct{}           // full when as much input as allowed is on its way
	cancel context.CancelCauseFunc // ends wait
}

// wait takes frames until the result.
func (r *running) wait(ctx context.Context, to sinks) (wire.Result, error) {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.cancel = cancel
	if r.step.Timeout > 0 {
		late := time.AfterFunc(r.step.Timeout+r.step.grace()+afterLimit, func() {
			cancel(fmt.Errorf("%w: no answer long after the time limit of %s", ErrNotAgent, r.step.Timeout))
		})
		defer late.Stop()
	}
	if r.step.Stdin != nil {
		r.s.spawn(r.feed)
	}
	for {
		res, done, err := r.frame(limited, to)
		var refused *AgentError
		if err != nil && !errors.As(err, &refused) {
			r.stop(ctx)
		}
		if err != nil {
			return res, err
		}
		if done {
			return res, to.end()
		}
	}
}

func (r *running) frame(ctx context.Context, to sinks) (res wire.Result, done bool, err error) {
	f, err := r.answer(ctx, wire.KindStdout, wire.KindStderr, wire.KindStdinAck, wire.KindResult)
	if err != nil {
		return res, false, err
	}
	switch f.Kind {
	case wire.KindStdout:
		err = to.take(Stdout, f.Payload)
	case wire.KindStderr:
		err = to.take(Stderr, f.Payload)
	case wire.KindStdinAck:
		select {
		case <-r.credit:
		default:
			err = r.nonsense(f.Kind)
		}
	case wire.KindResult:
		return res, true, f.Decode(&res)
	}
	return res, false, err
}

// stop asks the agent to end the step, and waits a little for it to say so.
// Where it cannot, closing the channel has the same effect.
func (r *running) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.step.grace()+8*time.Second)
	defer cancel()
	if r.s.await(ctx, nil, func() error { return r.out.Send(wire.KindKill, nil) }) != nil {
		return
	}
	for {
		f, err := r.next(ctx)
		if err != nil || f.Kind == wire.KindResult || f.Kind == wire.KindFailure {
			return
		}
	}
}

// feed sends the step's input, a window at a time.
func (r *running) feed() {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.step.Stdin.Read(buf)
		if n > 0 {
			select {
			case r.credit <- struct{}{}:
			case <-r.closing:
				return
			case <-r.s.done:
				return
			}
			if r.out.Send(wire.KindStdin, buf[:n]) != nil {
				return
			}
		}
		if err == io.EOF {
			_ = r.out.Send(wire.KindStdinEnd, nil) // a lost channel is seen by wait
			return
		}
		if err != nil {
			// Never taken for the input's end: half a dump must not be loaded.
			r.cancel(fmt.Errorf("read the step's input: %w", err))
			return
		}
	}
}
