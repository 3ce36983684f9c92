// Package scaffold writes the part of a plan that says how tables become the new
// version's: it compares two schemas and leaves to the user only what truly
// changed.
//
// It reads no database and changes nothing; it owns the words, not the rules: what
// counts as kept is convert.Keeps.
package scaffold

import (
	"errors"
	"io"

	"imago.dev/imago/transfer/rows"
)

// Report is what two schemas have in common and what not.
type Report struct{}

// Compare sets the tables of two schemas against each other by name, without
// those that a plan skips.
func Compare(source, target *rows.Schema, skip []string) *Report { return &Report{} }

// WriteYAML writes the plan's part.
func (r *Report) WriteYAML(w io.Writer) error { return errors.New("not there yet") }
