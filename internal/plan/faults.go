package plan

import (
	"fmt"
	"strings"
)

// Fault is one thing wrong with a plan file. Line and Column count from 1; both are 0 when the fault has no place.
type Fault struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	// Path names the key, such as services[0].vip.
	Path string `json:"path"`
	// Found says what the file has, Expected what belongs there, Fix what to do.
	Found    string `json:"found"`
	Expected string `json:"expected"`
	Fix      string `json:"fix"`
}

// Error gives the fault on one line: place, path, what was found, what was expected, what to do.
func (f Fault) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", f.Line, f.Column)
	}
	if f.Path != "" {
		fmt.Fprintf(&b, " %s:", f.Path)
	}
	fmt.Fprintf(&b, " found %s, expected %s", f.Found, f.Expected)
	if f.Fix != "" {
		fmt.Fprintf(&b, "; %s", f.Fix)
	}
	return b.String()
}

// Errors is every fault of a plan file, in the order of the file.
type Errors struct{ Faults []Fault }

// Error gives one line for each fault.
func (e *Errors) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the faults one by one, for errors.As.
func (e *Errors) Unwrap() []error {
	errs := make([]error, len(e.Faults))
	for i, f := range e.Faults {
		errs[i] = f
	}
	return errs
}

// shorten keeps hostile or long values from filling the terminal.
func shorten(s string) string {
	const limit = 60
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return s
}
