package transfer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
)

// Manifest is a file that lists the objects of one side at one moment, in key
// order, one line each: the digest in hexadecimal, a space, the key as a quoted
// string. Its first line names the format, its last one holds the number of
// objects and the SHA-256 of everything before that line. It is never changed.
type Manifest struct {
	// Path is the file, which must stay as it is while the Manifest is used.
	Path string
	// Objects is how many it lists.
	Objects int64
	// SHA256 is the sum that ends the file, in hexadecimal.
	SHA256 string
}

// DuplicateKeyError is returned when a source yields a key twice to a Manifest.
type DuplicateKeyError struct{ Key string }

func (e *DuplicateKeyError) Error() string { return fmt.Sprintf("key %q comes twice", e.Key) }

// WriteManifest lists everything source yields in a new file at path (mode
// 0600), which appears only when it is complete and on stable storage. An
// existing file is replaced. Of opts, Memory and TempDir count.
func WriteManifest(ctx context.Context, path string, source ObjectSource, opts Options) (*Manifest, error) {
	m, err := writeManifest(ctx, path, source, opts)
	if err != nil {
		return nil, fmt.Errorf("write manifest %q: %w", path, err)
	}
	return m, nil
}

func writeManifest(ctx context.Context, path string, source ObjectSource, opts Options) (m *Manifest, err error) {
	s, err := collect(ctx, source, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	in, err := s.sorted()
	if err != nil {
		return nil, err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp.Name()) // nothing is there any more after the rename
	m, err = encodeManifest(ctx, temp, in)
	if err == nil {
		err = temp.Sync()
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return nil, err
	}
	m.Path = path
	return m, renameDurably(temp.Name(), path)
}

func renameDurably(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// encodeManifest writes objects, which come in order.
func encodeManifest(ctx context.Context, to io.Writer, in stream) (*Manifest, error) {
	w := manifestWriter{w: bufio.NewWriterSize(to, 256<<10), sum: sha256.New()}
	if err := w.line(manifestHead); err != nil {
		return nil, err
	}
	m := &Manifest{}
	for last := ""; ; m.Objects++ {
		if m.Objects%checkEvery == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		o, err := in.next()
		if err == io.EOF {
			break
		}
		if err == nil && o.key == last {
			err = &DuplicateKeyError{Key: o.key}
		}
		if err == nil {
			err = w.line(objectLine(o))
		}
		if err != nil {
			return nil, err
		}
		last = o.key
	}
	m.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	if err := w.line(tailLine(m.Objects, m.SHA256)); err != nil {
		return nil, err
	}
	return m, w.w.Flush()
}

type manifestWriter struct {
	w   *bufio.Writer
	sum hash.Hash
}

func (w *manifestWriter) line(text string) error {
	text += "\n"
	w.sum.Write([]byte(text))
	_, err := w.w.WriteString(text)
	return err
}

// OpenManifest reads the whole file once and checks it: format, order, number
// of objects, sum.
func OpenManifest(ctx context.Context, path string) (*Manifest, error) {
	m := &Manifest{Path: path}
	err := m.read(ctx, func(r *manifestReader) error {
		for n := 0; ; n++ {
			if n%checkEvery == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if _, err := r.next(); err == io.EOF {
				m.Objects, m.SHA256 = r.objects, r.total
				return nil
			} else if err != nil {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Manifest) read(ctx context.Context, use func(*manifestReader) error) error {
	f, err := os.Open(m.Path)
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	defer f.Close()
	if err := use(newManifestReader(f)); err != nil {
		return fmt.Errorf("read manifest %q: %w", m.Path, err)
	}
	return ctx.Err()
}

// Source yields what the manifest lists, for Compare.
func (m *Manifest) Source() ObjectSource {
	return func(ctx context.Context, yield func(string, []byte) error) error {
		return m.read(ctx, func(r *manifestReader) error {
			for {
				o, err := r.next()
				if err == io.EOF {
					return m.unchanged(r)
				}
				if err == nil {
					err = yield(o.key, []byte(o.digest))
				}
				if err != nil {
					return err
				}
			}
		})
	}
}

// unchanged says whether what was read is what was opened.
func (m *Manifest) unchanged(r *manifestReader) error {
	if r.total != m.SHA256 || r.objects != m.Objects {
		return fmt.Errorf("%w: it was replaced since it was opened", ErrManifest)
	}
	return nil
}

// Diff is what happened between two manifests.
type Diff struct {
	Added     Finding `json:"added"`
	Changed   Finding `json:"changed"`
	Removed   Finding `json:"removed"`
	Unchanged int64   `json:"unchanged"`
}

// Empty says whether nothing happened.
func (d Diff) Empty() bool { return d.Added.Count+d.Changed.Count+d.Removed.Count == 0 }

// Diff says what was added, changed and removed from m to newer: what going
// back to m would lose. It needs constant memory. Of opts, Samples counts.
func (m *Manifest) Diff(ctx context.Context, newer *Manifest, opts Options) (Diff, error) {
	var d Diff
	err := m.read(ctx, func(a *manifestReader) error {
		return newer.read(ctx, func(b *manifestReader) error {
			join := joined{a: grouped{in: a}, b: grouped{in: b}}
			err := join.each(ctx, func(key string, a, b group) { d.add(key, a, b, opts.samples()) })
			return errors.Join(err, m.unchangedUnless(err, a), newer.unchangedUnless(err, b))
		})
	})
	return d, err
}

func (m *Manifest) unchangedUnless(err error, r *manifestReader) error {
	if err != nil {
		return nil
	}
	return m.unchanged(r)
}

func (d *Diff) add(key string, a, b group, samples int) {
	switch {
	case b.count == 0:
		d.Removed.add(key, samples)
	case a.count == 0:
		d.Added.add(key, samples)
	case a != b:
		d.Changed.add(key, samples)
	default:
		d.Unchanged++
	}
}
