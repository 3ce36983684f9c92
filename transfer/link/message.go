package link

import (
	"errors"
	"fmt"
	"strings"

	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/rows"
)

type rateMessage struct {
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"`
}

// What a question asks for.
const (
	askSettle   = "settle"
	askRejected = "rejected"
	askRetry    = "retry"
)

type question struct {
	ID       uint64            `json:"id"`
	Ask      string            `json:"ask"`
	At       rows.Position     `json:"at,omitzero"`
	Counters map[string]uint64 `json:"counters,omitempty"`
}

type answer struct {
	ID       uint64           `json:"id"`
	Failure  *failure         `json:"failure,omitempty"`
	Verified apply.Verified   `json:"verified"`
	Rejected []apply.Rejected `json:"rejected,omitempty"`
}

// failure is an error on its way.
type failure struct {
	Code string `json:"code,omitempty"`
	Text string `json:"text"`
}

// codes are the errors that a host tells apart.
var codes = map[string]error{
	"conflict": apply.ErrConflict, "different": apply.ErrDifferent, "nothing-compared": apply.ErrNothingCompared,
	"rejected": apply.ErrRejected, "refused": apply.ErrRefused, "other-run": apply.ErrOtherRun, "fenced": apply.ErrFenced,
	"cascade": apply.ErrCascade, "protocol": ErrProtocol,
}

// maxText bounds what is told of an error, in bytes.
const maxText = 64 << 10

func failureOf(err error) *failure {
	f := &failure{Text: err.Error()}
	if len(f.Text) > maxText {
		f.Text = strings.ToValidUTF8(f.Text[:maxText], "") + " …"
	}
	for code, is := range codes {
		if errors.Is(err, is) {
			f.Code = code
		}
	}
	return f
}

// remoteError is an error of the other end.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

func (f *failure) err() error {
	if f == nil {
		return nil
	}
	return &remoteError{fmt.Sprintf("the agent: %s", f.Text), codes[f.Code]}
}
