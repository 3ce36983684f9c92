package upgrade

import (
	"context"
	"io"
	"sync"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/internal/plan"
)

// armedStep is a step whose process stands ready in the guest: its shell waits
// for a line before it does anything.
type armedStep struct {
	e    *Engine
	s    *sessions
	st   plan.Step
	in   *io.PipeWriter // nil for a step that is no script
	done chan error
	once sync.Once
}

// arm starts the step's shell. A step that is no script is just kept for run.
func (e *Engine) arm(ctx context.Context, s *sessions, st plan.Step) *armedStep {
	a := &armedStep{e: e, s: s, st: st, done: make(chan error, 1)}
	if st.Run == "" {
		return a
	}
	out, in := io.Pipe()
	a.in = in
	go func() { a.done <- a.serve(ctx, out) }()
	return a
}

func (a *armedStep) serve(ctx context.Context, in *io.PipeReader) error {
	defer in.Close()
	to, err := a.s.to(ctx, a.st.On)
	if err != nil {
		return err
	}
	// The time limit counts from here on, so what it waits comes on top.
	limit := a.st.Timeout.Duration + 2*a.e.plan.Limits.Hold.Duration
	_, err = to.Run(ctx, guestagent.Step{
		Name: a.st.Name, Script: "IFS= read -r imago_go || exit 1\nunset imago_go\n" + a.st.Run, Env: a.st.Env, Dir: a.st.Dir, Timeout: limit, Stdin: in,
	}, func(o guestagent.Output) {
		a.e.see.send(Event{Kind: EventOutput, Name: a.st.On, Text: guestagent.Clean(o.Text)})
	})
	return err
}

// run lets the step do its work and waits for it.
func (a *armedStep) run(ctx context.Context) error {
	if a.in == nil {
		return a.e.runStep(ctx, a.s, a.st)
	}
	if _, err := a.in.Write([]byte("go\n")); err != nil {
		err := <-a.done // says why
		a.done <- nil
		return err
	}
	_ = a.in.Close()
	select {
	case err := <-a.done:
		a.done <- nil // for giveUp
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// giveUp ends a step that was never let go, and waits for the end of any.
func (a *armedStep) giveUp() {
	if a.in == nil {
		return
	}
	a.once.Do(func() {
		_ = a.in.Close()
		<-a.done
	})
}
