package inguest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"syscall"

	"imago.dev/imago/guestagent/wire"
)

const readSize = 256 << 10

// hashFile answers the sums of one regular file.
func hashFile(out *wire.Writer, req wire.Hash) (wire.Result, error) {
	f, st, err := openRegular(os.OpenFile, string(req.Path))
	if err != nil {
		return wire.Result{}, err
	}
	defer f.Close()
	var src io.Reader = f
	if req.Limit > 0 {
		src = io.LimitReader(f, req.Limit)
	}
	var sinks []io.Writer
	whole := sha256.New()
	if req.Whole {
		sinks = append(sinks, whole)
	}
	var blocks *blockSums
	if req.Block > 0 {
		blocks = &blockSums{out: out, size: req.Block, sum: sha256.New()}
		sinks = append(sinks, blocks)
	}
	if len(sinks) > 0 {
		if _, err := io.CopyBuffer(onlyWriter{io.MultiWriter(sinks...)}, src, make([]byte, readSize)); err != nil {
			return wire.Result{}, fmt.Errorf("read %q: %w", req.Path, err)
		}
	}
	if blocks != nil {
		if err := blocks.finish(); err != nil {
			return wire.Result{}, err
		}
	}
	e := entryOf(st)
	res := wire.Result{File: &e}
	if req.Whole {
		res.SHA256 = whole.Sum(nil)
	}
	return res, nil
}

// onlyWriter hides ReadFrom, so that the buffer given is the buffer used.
type onlyWriter struct{ io.Writer }

// openRegular opens a regular file without ever blocking on a fifo or a device.
func openRegular(open func(string, int, os.FileMode) (*os.File, error), name string) (*os.File, *syscall.Stat_t, error) {
	f, err := open(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	st := new(syscall.Stat_t)
	if err := syscall.Fstat(int(f.Fd()), st); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("look at %q: %w", name, err), f.Close())
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, nil, errors.Join(invalid("%q is not a regular file", name), f.Close())
	}
	return f, st, nil
}

// blockSums sends the sum of every block written to it.
type blockSums struct {
	out  *wire.Writer
	size int64
	sum  hash.Hash
	in   int64 // bytes in the block begun
	done []byte
}

func (b *blockSums) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		take := min(int64(len(p)), b.size-b.in)
		b.sum.Write(p[:take])
		p, b.in = p[take:], b.in+take
		if b.in == b.size {
			if err := b.cut(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (b *blockSums) cut() error {
	b.done = b.sum.Sum(b.done)
	b.sum.Reset()
	b.in = 0
	if len(b.done) < chunk {
		return nil
	}
	return b.send()
}

func (b *blockSums) send() error {
	err := b.out.Send(wire.KindDigests, b.done)
	b.done = b.done[:0]
	return err
}

func (b *blockSums) finish() error {
	if b.in > 0 {
		if err := b.cut(); err != nil {
			return err
		}
	}
	if len(b.done) == 0 {
		return nil
	}
	return b.send()
}
