package transfer

import (
	"bufio"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// defaultMemory is the sort buffer of one side where Options says nothing.
const defaultMemory = 64 << 20

// overhead is what an object costs in the buffer besides its bytes.
const overhead = 48

// mergeWidth is how many runs are read at once; more are merged beforehand, so
// that open files and their buffers stay few.
const mergeWidth = 64

// sorter puts objects in order with bounded memory: full buffers become sorted
// runs in unnamed temporary files.
type sorter struct {
	dir    string // for temporary files; empty is the system's
	memory int
	buf    []object
	used   int
	runs   []*os.File
}

func (s *sorter) add(o object) error {
	s.buf = append(s.buf, o)
	s.used += overhead + len(o.key) + len(o.digest)
	if s.used < s.memory {
		return nil
	}
	return s.spill()
}

// spill writes the buffer as one run.
func (s *sorter) spill() error {
	slices.SortFunc(s.buf, object.compare)
	run, err := s.newRun(&sliceStream{rest: s.buf})
	if err != nil {
		return err
	}
	s.runs = append(s.runs, run)
	clear(s.buf)
	s.buf, s.used = s.buf[:0], 0
	if len(s.runs) < mergeWidth {
		return nil
	}
	return s.collapse()
}

// collapse makes one run of all.
func (s *sorter) collapse() error {
	merged, err := s.mergeRuns(nil)
	if err != nil {
		return err
	}
	run, err := s.newRun(merged)
	if err != nil {
		return err
	}
	err = s.close()
	s.runs = []*os.File{run}
	return err
}

func (s *sorter) newRun(in stream) (run *os.File, err error) {
	run, err = os.CreateTemp(s.dir, "imago-sort-")
	if err != nil {
		return nil, fmt.Errorf("spill objects: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("spill objects: %w", err), run.Close())
			run = nil
		}
	}()
	if err := os.Remove(run.Name()); err != nil { // it lives as long as it is open
		return run, err
	}
	w := bufio.NewWriterSize(run, 256<<10)
	for {
		o, err := in.next()
		if err == io.EOF {
			return run, w.Flush()
		}
		if err == nil {
			err = writeRecord(w, o)
		}
		if err != nil {
			return run, err
		}
	}
}

func writeRecord(w *bufio.Writer, o object) error {
	var head [2 * binary.MaxVarintLen32]byte
	b := binary.AppendUvarint(head[:0], uint64(len(o.key)))
	b = binary.AppendUvarint(b, uint64(len(o.digest)))
	_, err := w.Write(b)
	if err == nil {
		_, err = w.WriteString(o.key)
	}
	if err == nil {
		_, err = w.WriteString(o.digest)
	}
	return err
}

// sorted returns all objects in order. The stream is valid until close.
func (s *sorter) sorted() (stream, error) {
	slices.SortFunc(s.buf, object.compare)
	if len(s.runs) == 0 {
		return &sliceStream{rest: s.buf}, nil
	}
	return s.mergeRuns(s.buf)
}

func (s *sorter) mergeRuns(rest []object) (stream, error) {
	parts := []stream{&sliceStream{rest: rest}}
	for _, run := range s.runs {
		if _, err := run.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("read spilled objects: %w", err)
		}
		parts = append(parts, &runStream{r: bufio.NewReaderSize(run, 64<<10)})
	}
	return mergeStreams(parts)
}

func (s *sorter) close() error {
	var errs []error
	for _, run := range s.runs {
		errs = append(errs, run.Close())
	}
	s.runs = nil
	return errors.Join(errs...)
}

// stream yields objects in order and io.EOF at the end.
type stream interface{ next() (object, error) }

type sliceStream struct{ rest []object }

func (s *sliceStream) next() (object, error) {
	if len(s.rest) == 0 {
		return object{}, io.EOF
	}
	o := s.rest[0]
	s.rest = s.rest[1:]
	return o, nil
}

// runStream reads what newRun wrote; the file has no name, so nobody else did.
type runStream struct{ r *bufio.Reader }

func (s *runStream) next() (object, error) {
	key, err := binary.ReadUvarint(s.r)
	if err != nil {
		return object{}, err // io.EOF only before the first byte
	}
	digest, err := binary.ReadUvarint(s.r)
	if err != nil {
		return object{}, io.ErrUnexpectedEOF
	}
	if key > MaxKey || digest > MaxDigest {
		return object{}, fmt.Errorf("read spilled objects: damaged record")
	}
	b := make([]byte, key+digest)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return object{}, io.ErrUnexpectedEOF
	}
	return object{string(b[:key]), string(b[key:])}, nil
}

// merged is a heap of streams by their next object.
type merged []mergeHead

type mergeHead struct {
	o    object
	from stream
}

func (m merged) Len() int           { return len(m) }
func (m merged) Less(i, j int) bool { return m[i].o.compare(m[j].o) < 0 }
func (m merged) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merged) Push(x any)        { *m = append(*m, x.(mergeHead)) }
func (m *merged) Pop() any {
	old := *m
	x := old[len(old)-1]
	*m = old[:len(old)-1]
	return x
}

func mergeStreams(parts []stream) (stream, error) {
	m := &merged{}
	for _, p := range parts {
		o, err := p.next()
		if err == io.EOF {
			continue
		}
		if err != nil {
			return nil, err
		}
		*m = append(*m, mergeHead{o, p})
	}
	heap.Init(m)
	return m, nil
}

func (m *merged) next() (object, error) {
	if len(*m) == 0 {
		return object{}, io.EOF
	}
	top := (*m)[0].o
	o, err := (*m)[0].from.next()
	switch {
	case err == io.EOF:
		heap.Pop(m)
	case err != nil:
		return object{}, err
	default:
		(*m)[0].o = o
		heap.Fix(m, 0)
	}
	return top, nil
}

// collect sorts everything a source yields.
func collect(ctx context.Context, source ObjectSource, opts Options) (*sorter, error) {
	s := &sorter{dir: opts.TempDir, memory: opts.Memory}
	if s.memory <= 0 {
		s.memory = defaultMemory
	}
	err := source(ctx, func(key string, digest []byte) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		o, err := newObject(key, digest)
		if err != nil {
			return err
		}
		return s.add(o)
	})
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx) // a source that ended because of it saw only a part
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}
