package guestagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"imago.dev/imago/guestagent/wire"
)

// Step is one thing to run in a guest. Exactly one of Script and Argv is set.
type Step struct {
	// Name appears in messages.
	Name string
	// Script is run by /bin/sh -e; at most about 8 MB.
	Script string
	// Argv is run as it is, without a shell.
	Argv []string
	// Env is added to what sshd gives; PATH includes the sbin directories.
	Env map[string]string
	// Dir is the working directory; empty is the user's home.
	Dir string
	// Timeout ends the step and all it started; zero is no limit but ctx.
	Timeout time.Duration
	// Grace is the time between SIGTERM and SIGKILL. Zero means 2 s.
	Grace time.Duration
	// Stdin is the step's input; nil is none. When reading it fails the step is
	// ended. Close of the session waits for a Read in progress.
	Stdin io.Reader
}

const defaultGrace = 2 * time.Second

// afterLimit is how much longer than the guest's own time limit and grace the
// host waits before it stops believing in an answer.
const afterLimit = 20 * time.Second

func (st Step) grace() time.Duration {
	if st.Grace > 0 {
		return st.Grace
	}
	return defaultGrace
}

func (st Step) request() (wire.Request, error) {
	run := &wire.Run{
		Script: st.Script, Argv: st.Argv, Dir: st.Dir, HasStdin: st.Stdin != nil,
		TimeoutMS: st.Timeout.Milliseconds(), GraceMS: st.grace().Milliseconds(),
	}
	if (st.Script == "") == (len(st.Argv) == 0) {
		return wire.Request{}, fmt.Errorf("step %q must have a script or a command, and not both", st.Name)
	}
	if len(st.Script) > wire.MaxRequest/2 { // JSON escapes may double it
		return wire.Request{}, fmt.Errorf("step %q: the script has %d bytes, at most %d are allowed", st.Name, len(st.Script), wire.MaxRequest/2)
	}
	if st.Timeout > 0 && run.TimeoutMS == 0 {
		run.TimeoutMS = 1
	}
	for name, value := range st.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return wire.Request{}, fmt.Errorf("step %q: %q is no name and value for an environment", st.Name, name+"="+value)
		}
		run.Env = append(run.Env, name+"="+value)
	}
	slices.Sort(run.Env)
	return wire.Request{Op: wire.OpRun, Run: run}, nil
}

// Result is how a step ended.
type Result struct {
	ExitCode int
	// Signal names the signal that ended the step, in the guest's words.
	Signal string
	// Duration is measured by the host, from the request to the answer.
	Duration time.Duration
	// Tail holds the last lines of output, cleaned.
	Tail []string
}

// StepError means that a step ran and did not succeed.
type StepError struct {
	Step, VM string
	Exit     int
	Signal   string
	// TimedOut: the time limit Limit ended the step.
	TimedOut bool
	Limit    time.Duration
	// Tail holds the last lines of output, cleaned.
	Tail []string
}

func (e *StepError) Error() string {
	how := fmt.Sprintf("ended with exit status %d", e.Exit)
	switch {
	case e.TimedOut:
		how = fmt.Sprintf("did not end within %s and was stopped", e.Limit)
	case e.Signal != "":
		how = fmt.Sprintf("was ended by signal %s", strings.ToLower(Clean(e.Signal)))
	}
	msg := fmt.Sprintf("step %q in guest %q %s", e.Step, e.VM, how)
	if len(e.Tail) == 0 {
		return msg + " (it printed nothing)"
	}
	return msg + "; its last output:\n  " + strings.Join(e.Tail, "\n  ")
}

// Is makes errors.Is(err, context.DeadlineExceeded) true after a time limit.
func (e *StepError) Is(target error) bool {
	return e.TimedOut && errors.Is(target, context.DeadlineExceeded)
}
