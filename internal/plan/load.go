package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Load reads the plan at path. When the file is read but not right, the error is an [*Errors] with every fault; any
// other error means that the file could not be read.
func Load(path string) (*Plan, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open plan: %w", err)
	}
	defer file.Close()
	// One byte more than allowed is enough to know that a file is too large, and bounds what a device file can do.
	var text bytes.Buffer
	if _, err := text.ReadFrom(io.LimitReader(file, maxSize+1)); err != nil {
		return nil, fmt.Errorf("read plan %q: %w", path, err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("find folder of plan %q: %w", path, err)
	}
	return parse(path, dir, text.Bytes())
}

// parse is Load without the file system: file is the name in faults, dir the base of relative paths.
func parse(file, dir string, text []byte) (*Plan, error) {
	d := &decoder{file: file, places: map[string]place{}, misspelt: map[string]bool{}}
	root := d.document(text)
	if root == nil {
		return nil, d.errors()
	}
	p := &Plan{}
	d.decodePlan(root, p)
	sum := sha256.Sum256(text)
	p.Path, p.Dir, p.Text, p.SHA256 = file, dir, string(text), hex.EncodeToString(sum[:])
	fill(p, d.places)
	resolvePaths(p)
	newValidator(d, p).all()
	if err := d.errors(); err != nil {
		return nil, err
	}
	return p, nil
}

// errors gives all faults in the order of the file, each once, or nil.
func (d *decoder) errors() error {
	if len(d.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(d.faults, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	var unique []Fault
	for _, f := range d.faults {
		if !slices.Contains(unique, f) {
			unique = append(unique, f)
		}
	}
	return &Errors{Faults: unique}
}

// IsInvalid gives the faults when err says that a plan was read but not right.
func IsInvalid(err error) ([]Fault, bool) {
	var e *Errors
	if errors.As(err, &e) {
		return e.Faults, true
	}
	return nil, false
}
