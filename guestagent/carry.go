package guestagent

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/guestagent/wire"
)

// source is where a file comes from: this host or a guest.
type source interface {
	describe(ctx context.Context) (wire.Entry, error)
	// blocks returns the sums of the first limit bytes.
	blocks(ctx context.Context, limit int64) ([][32]byte, error)
	// whole returns the sum of everything, read again.
	whole(ctx context.Context) ([]byte, error)
	// send writes everything from offset on to w.
	send(ctx context.Context, offset int64, w io.Writer) error
}

// target is a file in the making in a guest.
type target struct {
	s     *Session
	files *remoteFiles
	apply *applier
	stage string // the staged file's name, for the applier
	dir   string // where the staged file lies, for SFTP
}

// carry brings src to t and gives it the name in place once both ends agree on
// its sum. What an interrupted call left in the staged file is used again as
// far as it equals the source. It returns the source's sum.
func carry(ctx context.Context, src source, e wire.Entry, t target, place wire.Item, opts FileOptions, progress func(Progress)) ([]byte, error) {
	staged, err := t.apply.do(ctx, wire.Item{Do: wire.ItemStage, Stage: []byte(t.stage)})
	if err != nil {
		return nil, fmt.Errorf("stage the target: %w", err)
	}
	offset, err := t.resumeAt(ctx, src, min(staged.Size, e.Size))
	if err != nil {
		return nil, fmt.Errorf("compare what an earlier transfer left: %w", err)
	}
	m := newMeter(e.Size, offset, progress)
	// A source whose sum is known (a tree was walked) is not read twice.
	sum := place.SHA256
	g, gctx := errgroup.WithContext(ctx)
	if sum == nil {
		g.Go(func() (err error) {
			sum, err = src.whole(gctx)
			return err
		})
	}
	g.Go(func() error { return t.receive(gctx, src, e, offset, staged.Size, m, opts) })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	place.Do, place.Stage, place.Size, place.SHA256 = wire.ItemPlace, []byte(t.stage), e.Size, sum
	if _, err := t.apply.do(ctx, place); err != nil {
		return nil, changedIfMismatch(err)
	}
	return sum, nil
}

// resumeAt returns how much of the staged file, of which the first limit bytes
// are of interest, is what the source has.
func (t target) resumeAt(ctx context.Context, src source, limit int64) (int64, error) {
	if limit == 0 {
		return 0, nil
	}
	var theirs [][32]byte
	var ours sums
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		theirs, err = src.blocks(gctx, limit)
		return err
	})
	g.Go(func() (err error) {
		name := path.Join(t.dir, t.stage)
		ours, err = t.s.hash(gctx, wire.Hash{Path: []byte(name), Block: resumeBlock, Limit: limit})
		return err
	})
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return samePrefix(theirs, ours.blocks, limit), nil
}

// receive streams the source into the staged file from offset on.
func (t target) receive(ctx context.Context, src source, e wire.Entry, offset, stagedSize int64, m *meter, opts FileOptions) error {
	pr, pw := io.Pipe()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		w := &gate{ctx: gctx, w: &exactWriter{w: pw, left: e.Size - offset}, throttle: opts.Throttle, count: m.add}
		err := src.send(gctx, offset, w)
		pw.CloseWithError(err)
		return err
	})
	g.Go(func() error {
		name := path.Join(t.dir, t.stage)
		err := t.files.await(gctx, func() error { return writeFrom(t.files, name, offset, stagedSize, pr) })
		if err != nil {
			pr.CloseWithError(err)
			return fmt.Errorf("write %q in guest %q: %w", name, t.s.target.Name, err)
		}
		return nil
	})
	// Whoever is left when ctx ends must not wait in the pipe.
	defer context.AfterFunc(gctx, func() { pr.CloseWithError(context.Cause(gctx)) })()
	return g.Wait()
}

func writeFrom(files *remoteFiles, name string, offset, size int64, r io.Reader) error {
	f, err := files.OpenFile(name, os.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if size > offset {
		if err := f.Truncate(offset); err != nil {
			return err
		}
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	if _, err := f.ReadFromWithConcurrency(r, inFlight); err != nil {
		return err
	}
	return f.Close()
}

// exactWriter refuses more bytes than the source said it has: a growing file,
// or a guest that never ends.
type exactWriter struct {
	w    io.Writer
	left int64
}

func (e *exactWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > e.left {
		return 0, ErrChanged
	}
	e.left -= int64(len(p))
	return e.w.Write(p)
}
