package guestagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/guestagent/wire"
)

// Download brings a file of the guest to this host. It resumes what an
// interrupted Download left and gives the file its name only when its sum is
// the one the guest computed and it is on stable storage. The guest's sum shows
// damage on the way, not a guest that lies. progress may be nil.
func (s *Session) Download(ctx context.Context, remotePath, localPath string, opts FileOptions, progress func(Progress)) error {
	err := s.download(ctx, remotePath, localPath, opts, progress)
	if err != nil {
		return fmt.Errorf("download %q from guest %q to %q: %w", remotePath, s.target.Name, localPath, err)
	}
	return nil
}

func (s *Session) download(ctx context.Context, remotePath, localPath string, opts FileOptions, progress func(Progress)) error {
	if opts.Owner != "" {
		return errors.New("an owner by name is not supported on this host")
	}
	if err := checkRemotePath(remotePath); err != nil {
		return err
	}
	release, err := reserve(ctx, fileChannels, s)
	if err != nil {
		return err
	}
	defer release()
	files, err := s.openFiles(ctx)
	if err != nil {
		return err
	}
	defer files.close()
	src := guestSource{s, files, remotePath}
	e, err := src.describe(ctx)
	if err != nil {
		return err
	}
	if err := opts.checkSize(remotePath, e.Size); err != nil {
		return err
	}
	dir, base := filepath.Split(localPath)
	if opts.MakeParents {
		if err := os.MkdirAll(filepath.Clean(dir), 0o755); err != nil {
			return err
		}
	}
	part := filepath.Join(dir, "."+base+".imago-part")
	if err := fetch(ctx, src, e, part, opts, progress); err != nil {
		return err
	}
	return finishLocal(part, localPath, opts.metaFor(e))
}

// fetch makes part equal to the source and verifies it.
func fetch(ctx context.Context, src source, e wire.Entry, part string, opts FileOptions, progress func(Progress)) error {
	offset, err := localResume(ctx, src, part, e.Size)
	if err != nil {
		return fmt.Errorf("compare what an earlier transfer left: %w", err)
	}
	m := newMeter(e.Size, offset, progress)
	var sum []byte
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		sum, err = src.whole(gctx)
		return err
	})
	g.Go(func() error { return appendTo(gctx, src, e, part, offset, m, opts) })
	if err := g.Wait(); err != nil {
		return err
	}
	got, err := localSource{part}.whole(ctx)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, sum) {
		return fmt.Errorf("%w: it arrived with sha256 %x, the guest says %x", ErrChanged, got, sum)
	}
	return nil
}

func localResume(ctx context.Context, src source, part string, size int64) (int64, error) {
	info, err := os.Lstat(part)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, os.Remove(part)
	}
	limit := min(info.Size(), size)
	if limit == 0 {
		return 0, nil
	}
	ours, err := localSource{part}.blocks(ctx, limit)
	if err != nil {
		return 0, err
	}
	theirs, err := src.blocks(ctx, limit)
	return samePrefix(ours, theirs, limit), err
}

func appendTo(ctx context.Context, src source, e wire.Entry, part string, offset int64, m *meter, opts FileOptions) error {
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(offset); err != nil {
		return err
	}
	at := io.NewOffsetWriter(f, offset)
	w := &gate{ctx: ctx, w: &exactWriter{w: at, left: e.Size - offset}, throttle: opts.Throttle, count: m.add}
	if err := src.send(ctx, offset, w); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// finishLocal gives a verified file its attributes and its name.
func finishLocal(part, name string, meta *wire.Meta) error {
	if meta.UID != nil && meta.GID != nil {
		if err := os.Lchown(part, int(*meta.UID), int(*meta.GID)); err != nil {
			return err
		}
	}
	// No set-user-id from a guest on this host.
	if err := os.Chmod(part, fs.FileMode(*meta.Mode&0o777)); err != nil {
		return err
	}
	if meta.MTimeNS != nil {
		t := time.Unix(0, *meta.MTimeNS)
		if err := os.Chtimes(part, t, t); err != nil {
			return err
		}
	}
	if err := os.Rename(part, name); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
