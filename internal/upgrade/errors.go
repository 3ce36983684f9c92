package upgrade

import (
	"errors"
	"fmt"
	"strings"
)

// Outcomes that a caller, and the exit code, tell apart.
var (
	// ErrRefused: a check said no before anything was changed.
	ErrRefused = errors.New("refused")
	// ErrStep: a conversion step or a test of the plan failed.
	ErrStep = errors.New("a step failed")
	// ErrVerify: old and new data differ, or were not compared.
	ErrVerify = errors.New("verification failed")
	// ErrReleased: the switch did not happen; clients were released to the old version.
	ErrReleased = errors.New("released to the old version")
	// ErrLoss: a rollback would lose data and was not told to.
	ErrLoss = errors.New("the rollback would lose data")
	// ErrOrder: the verb does not fit the state the run is in.
	ErrOrder = errors.New("not now")
)

// outcome ties an error to one of the outcomes above without repeating its text.
type outcome struct{ kind, err error }

func (o *outcome) Error() string   { return o.err.Error() }
func (o *outcome) Unwrap() []error { return []error{o.kind, o.err} }

func refuse(err error) error { return &outcome{ErrRefused, err} }

// Problems are all reasons for which check refuses, at once.
type Problems []Problem

// Problem is one of them.
type Problem struct {
	What string // what was looked at
	Err  error
}

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, x := range p {
		lines[i] = fmt.Sprintf("  %s: %v", x.What, x.Err)
	}
	return fmt.Sprintf("%d checks refused:\n%s", len(p), strings.Join(lines, "\n"))
}

// Unwrap lets callers look for a particular reason.
func (p Problems) Unwrap() []error {
	errs := []error{ErrRefused}
	for _, x := range p {
		errs = append(errs, x.Err)
	}
	return errs
}
