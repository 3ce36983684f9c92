package guestagent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"imago.dev/imago/guestagent/wire"
)

// localSource is a file on this host.
type localSource struct{ file string }

func (l localSource) describe(context.Context) (wire.Entry, error) {
	info, err := os.Stat(l.file)
	if err != nil {
		return wire.Entry{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return wire.Entry{}, fmt.Errorf("%q is not a regular file", l.file)
	}
	return wire.Entry{Kind: wire.EntryFile, Size: info.Size(), Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, MTimeNS: st.Mtim.Nano()}, nil
}

func (l localSource) read(ctx context.Context, use func(io.Reader) error) error {
	f, err := os.Open(l.file)
	if err != nil {
		return err
	}
	defer f.Close()
	return use(&gate{ctx: ctx, r: f})
}

func (l localSource) blocks(ctx context.Context, limit int64) (sums [][32]byte, err error) {
	err = l.read(ctx, func(r io.Reader) error {
		sums, err = blockSums(io.LimitReader(r, limit))
		return err
	})
	return sums, err
}

func (l localSource) whole(ctx context.Context) ([]byte, error) {
	h := sha256.New()
	err := l.read(ctx, func(r io.Reader) error {
		_, err := io.Copy(h, r)
		return err
	})
	return h.Sum(nil), err
}

func (l localSource) send(ctx context.Context, offset int64, w io.Writer) error {
	f, err := os.Open(l.file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(onlyWriter{w}, f)
	return err
}

type onlyWriter struct{ io.Writer }

// guestSource is a file in a guest.
type guestSource struct {
	s     *Session
	files *remoteFiles
	path  string
}

func (g guestSource) describe(ctx context.Context) (wire.Entry, error) {
	got, err := g.s.hash(ctx, wire.Hash{Path: []byte(g.path)})
	return got.entry, err
}

func (g guestSource) blocks(ctx context.Context, limit int64) ([][32]byte, error) {
	got, err := g.s.hash(ctx, wire.Hash{Path: []byte(g.path), Block: resumeBlock, Limit: limit})
	return got.blocks, err
}

func (g guestSource) whole(ctx context.Context) ([]byte, error) {
	got, err := g.s.hash(ctx, wire.Hash{Path: []byte(g.path), Whole: true})
	return got.whole, err
}

func (g guestSource) send(ctx context.Context, offset int64, w io.Writer) error {
	err := g.files.await(ctx, func() error {
		f, err := g.files.Open(g.path)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return err
		}
		_, err = f.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("read %q in guest %q: %w", g.path, g.s.target.Name, err)
	}
	return nil
}

// changedIfMismatch names the usual reason why a copy is not what was promised.
func changedIfMismatch(err error) error {
	var agent *AgentError
	if errors.As(err, &agent) && agent.Code == wire.CodeMismatch {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}
