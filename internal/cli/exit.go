package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Exit codes. They are part of the interface: scripts rely on them.
const (
	ExitOK          = 0
	ExitError       = 1   // something went wrong; nothing is half-made
	ExitUsage       = 2   // the command line or the plan is wrong; nothing was done
	ExitRefused     = 3   // a check refused before anything was changed
	ExitLocked      = 4   // another imago works on this upgrade
	ExitStep        = 5   // a conversion step or a test of the plan failed
	ExitVerify      = 6   // old and new data differ
	ExitReleased    = 7   // the switch did not happen: clients were released to the old version
	ExitLoss        = 8   // a rollback would lose data and was not told to
	ExitAmbiguous   = 9   // the state of the switch could not be learned: look before doing anything
	ExitInterrupted = 130 // stopped by a signal; what was under way was cleaned up or can be aborted
)

var exitTexts = []struct {
	code int
	text string
}{
	{ExitOK, "done"},
	{ExitError, "something went wrong; see the message"},
	{ExitUsage, "the command line or the plan is wrong; nothing was done"},
	{ExitRefused, "a check refused before anything was changed"},
	{ExitLocked, "another imago works on this upgrade"},
	{ExitStep, "a conversion step or a test of the plan failed"},
	{ExitVerify, "old and new data differ"},
	{ExitReleased, "no switch: the clients were released to the old version"},
	{ExitLoss, "a rollback would lose data and --accept-loss was not given"},
	{ExitAmbiguous, "the state of the switch is not known: look before doing anything"},
	{ExitInterrupted, "stopped by a signal"},
}

func exitHelp() string {
	var b strings.Builder
	for _, e := range exitTexts {
		fmt.Fprintf(&b, "  %3d  %s\n", e.code, e.text)
	}
	return strings.TrimRight(b.String(), "\n")
}

// exitError passes an exit code on without a message.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// usageError is a wrong command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usageErrorf(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// exitCode finds the code for an error.
func exitCode(ctx context.Context, err error) int {
	var quiet *exitError
	var usage *usageError
	switch {
	case errors.As(err, &quiet):
		return quiet.code
	case errors.As(err, &usage):
		return ExitUsage
	}
	code := engineExitCode(err)
	if ctx.Err() != nil && code != ExitAmbiguous {
		return ExitInterrupted
	}
	return code
}
