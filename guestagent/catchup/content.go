package catchup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// blockSize is the unit of reading and comparing.
const blockSize = 256 << 10

// dropAbove is the size from which on a source's pages are given back: the
// guest's services need the memory more.
const dropAbove = 1 << 20

// source is a file being read. What is read again comes from the page cache and
// is not charged a second time.
type source struct {
	c    *run
	fd   int
	size int64
	high int64
}

func (s *source) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off+int64(len(p)) > s.high {
		fresh := off + int64(len(p)) - max(s.high, off)
		if err := s.c.opts.Limit.take(ctx, fresh); err != nil {
			return 0, err
		}
		s.high = off + int64(len(p))
		s.c.count.read.Add(fresh)
	}
	return readFull(s.fd, p, off)
}

// readFull reads until p is full or the file ends.
func readFull(fd int, p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		var n int
		err := retry(func() (err error) { n, err = unix.Pread(fd, p[done:], off+int64(done)); return err })
		if err != nil {
			return done, err
		}
		if n == 0 {
			break
		}
		done += n
	}
	return done, nil
}

func writeFull(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		var n int
		err := retry(func() (err error) { n, err = unix.Pwrite(fd, p, off); return err })
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// nextData returns the next stretch of data at or after off; from == size where
// only a hole is left. A file system that knows no holes has data everywhere.
func nextData(fd int, off, size int64) (from, to int64) {
	from, err := unix.Seek(fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size
	}
	if err != nil || from < off {
		return off, size
	}
	to, err = unix.Seek(fd, from, unix.SEEK_HOLE)
	if err != nil || to <= from {
		to = size
	}
	return min(from, size), min(to, size)
}

// errChanged says that a file was not what its attributes had said.
var errChanged = errors.New("it changed while it was read")

// equal compares content, without reading what is a hole on both sides.
func (c *run) equal(ctx context.Context, src *source, dst int, bufs *buffers) (bool, error) {
	for off := int64(0); off < src.size; {
		from, to := nextData(src.fd, off, src.size)
		otherFrom, otherTo := nextData(dst, off, src.size)
		if from > off && otherFrom > off { // a hole in both
			off = min(from, otherFrom)
			continue
		}
		end := to
		if from > off { // a hole in the source, data in the target
			end = min(from, otherTo)
		}
		same, err := c.equalRange(ctx, src, dst, off, end, bufs)
		if err != nil || !same {
			return false, err
		}
		off = end
	}
	return true, nil
}

func (c *run) equalRange(ctx context.Context, src *source, dst int, off, end int64, bufs *buffers) (bool, error) {
	for off < end {
		n := int(min(end-off, blockSize))
		a, b := bufs.a[:n], bufs.b[:n]
		got, err := src.readAt(ctx, a, off)
		if err != nil {
			return false, fmt.Errorf("read the source: %w", err)
		}
		if got < n {
			return false, errChanged
		}
		if got, err = readFull(dst, b, off); err != nil {
			return false, fmt.Errorf("read the target: %w", err)
		}
		if got < n || !bytes.Equal(a, b) {
			return false, nil
		}
		off += int64(n)
	}
	return true, nil
}

// fill gives a staged file the source's content and holes. What an interrupted
// call left in it, had bytes of it, is compared and kept where it is right.
func (c *run) fill(ctx context.Context, src *source, dst int, had int64, bufs *buffers) error {
	if had != src.size {
		if err := unix.Ftruncate(dst, src.size); err != nil {
			return fmt.Errorf("give it its size: %w", err)
		}
	}
	for off := int64(0); off < src.size; {
		from, to := nextData(src.fd, off, src.size)
		if err := punch(dst, off, min(from, had)); err != nil {
			return err
		}
		if err := c.copyRange(ctx, src, dst, from, to, had, bufs); err != nil {
			return err
		}
		off = to
	}
	return nil
}

func (c *run) copyRange(ctx context.Context, src *source, dst int, off, end, had int64, bufs *buffers) error {
	for off < end {
		n := int(min(end-off, blockSize))
		p := bufs.a[:n]
		got, err := src.readAt(ctx, p, off)
		if err != nil {
			return fmt.Errorf("read the source: %w", err)
		}
		if got < n {
			return errChanged
		}
		there := false
		if off < had {
			m, err := readFull(dst, bufs.b[:n], off)
			there = err == nil && m == n && bytes.Equal(p, bufs.b[:n])
		}
		if !there {
			if err := writeFull(dst, p, off); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
		c.count.bytes.Add(int64(n))
		off += int64(n)
	}
	return nil
}

// punch makes a hole where the staged file has something.
func punch(fd int, off, end int64) error {
	if off >= end {
		return nil
	}
	err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, end-off)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("make a hole: %w", err)
	}
	if err == nil {
		return nil
	}
	zero := make([]byte, 64<<10)
	for off < end {
		n := min(end-off, int64(len(zero)))
		if err := writeFull(fd, zero[:n], off); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		off += n
	}
	return nil
}

// buffers are one worker's.
type buffers struct{ a, b []byte }

func newBuffers() *buffers {
	return &buffers{a: make([]byte, blockSize), b: make([]byte, blockSize)}
}
