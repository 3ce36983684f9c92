package catchup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// spill is how much of a manifest is kept in memory: one of a small tree in
// which nothing moved is never written at all.
const spill = 4 << 20

// maxParts bounds how many unfinished manifests are kept.
const maxParts = 8

// writer writes a manifest, at first in memory.
type writer struct {
	path    string // of the part
	file    *os.File
	out     []byte // blocks not yet written
	block   []byte // of the block begun
	newest  int64
	records uint64
}

func newWriter(path string, h header) *writer {
	w := &writer{path: path, out: []byte(magic), newest: -1 << 63}
	w.add(h.append(nil))
	return w
}

func (w *writer) add(block []byte) {
	w.out = binary.BigEndian.AppendUint32(w.out, uint32(len(block)))
	w.out = binary.BigEndian.AppendUint32(w.out, crc32.Checksum(block, castagnoli))
	w.out = append(w.out, block...)
}

func (w *writer) put(r record) error {
	w.block = r.append(w.block)
	if r.kind != recordDir {
		w.records++
	}
	if len(w.block) < fullBlock {
		return nil
	}
	w.cut()
	if len(w.out) < spill {
		return nil
	}
	return w.spill()
}

// cut ends the block begun.
func (w *writer) cut() {
	if len(w.block) == 0 {
		return
	}
	b := binary.AppendVarint([]byte{blockRecords}, w.newest)
	w.add(append(b, w.block...))
	w.block = w.block[:0]
}

// spill writes what is in memory. It is not synced: what a crash leaves of it
// is found out by the blocks' sums.
func (w *writer) spill() error {
	if w.file == nil {
		f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("write the manifest: %w", err)
		}
		w.file = f
	}
	if _, err := w.file.Write(w.out); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	w.out = w.out[:0]
	return nil
}

// keep leaves what there is as a part for the next call.
func (w *writer) keep() error {
	w.cut()
	if w.records == 0 && w.file == nil {
		return nil
	}
	return errors.Join(w.spill(), w.close())
}

// finish gives the manifest its name.
func (w *writer) finish(to string, f footer) error {
	w.cut()
	f.records = w.records
	w.add(f.append(nil))
	if err := w.spill(); err != nil {
		return errors.Join(err, w.drop())
	}
	if err := w.close(); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	if err := os.Rename(w.path, to); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	return nil
}

func (w *writer) close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// drop forgets what was written.
func (w *writer) drop() error {
	if w.file == nil {
		return nil
	}
	return errors.Join(w.close(), os.Remove(w.path))
}

const partSuffix = ".part-"

// parts lists the unfinished manifests that interrupted calls left, the last
// one first, and the path for the next.
func parts(manifest string) (list []string, next string) {
	found, _ := filepath.Glob(escapeGlob(manifest) + partSuffix + "[0-9]*")
	number := func(p string) int {
		n, err := strconv.Atoi(p[len(manifest)+len(partSuffix):])
		if err != nil {
			return -1
		}
		return n
	}
	found = slices.DeleteFunc(found, func(p string) bool { return number(p) < 0 })
	slices.SortFunc(found, func(a, b string) int { return number(b) - number(a) })
	last := 0
	if len(found) > 0 {
		last = number(found[0])
	}
	for len(found) > maxParts {
		_ = os.Remove(found[len(found)-1]) // the oldest knows least
		found = found[:len(found)-1]
	}
	return found, manifest + partSuffix + strconv.Itoa(last+1)
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}
