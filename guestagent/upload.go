package guestagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"imago.dev/imago/guestagent/wire"
)

// Upload brings a file of this host into the guest. It resumes what an
// interrupted Upload left, gives the file its name only when the guest's sum
// equals ours and it is on stable storage, and does nothing but set mode, owner
// and time when the same content is there already. progress may be nil.
func (s *Session) Upload(ctx context.Context, localPath, remotePath string, opts FileOptions, progress func(Progress)) error {
	err := s.upload(ctx, localPath, remotePath, opts, progress)
	if err != nil {
		return fmt.Errorf("upload %q to %q in guest %q: %w", localPath, remotePath, s.target.Name, err)
	}
	return nil
}

func (s *Session) upload(ctx context.Context, localPath, remotePath string, opts FileOptions, progress func(Progress)) error {
	release, err := reserve(ctx, fileChannels, s)
	if err != nil {
		return err
	}
	defer release()
	return s.receiveFile(ctx, localSource{localPath}, remotePath, opts, progress)
}

// CopyBetween brings a file from one guest into another, through this host but
// without a file here; the two may be the same. Else it is like Upload.
func CopyBetween(ctx context.Context, from *Session, fromPath string, to *Session, toPath string, opts FileOptions, progress func(Progress)) error {
	err := copyBetween(ctx, from, fromPath, to, toPath, opts, progress)
	if err != nil {
		return fmt.Errorf("copy %q in guest %q to %q in guest %q: %w", fromPath, from.target.Name, toPath, to.target.Name, err)
	}
	return nil
}

func copyBetween(ctx context.Context, from *Session, fromPath string, to *Session, toPath string, opts FileOptions, progress func(Progress)) error {
	if err := checkRemotePath(fromPath); err != nil {
		return err
	}
	release, err := reserve(ctx, fileChannels, from, to)
	if err != nil {
		return err
	}
	defer release()
	files, err := from.openFiles(ctx)
	if err != nil {
		return err
	}
	defer files.close()
	return to.receiveFile(ctx, guestSource{from, files, fromPath}, toPath, opts, progress)
}

// receiveFile carries one file into this guest. The caller has reserved
// channels on all sessions that take part.
func (s *Session) receiveFile(ctx context.Context, src source, to string, opts FileOptions, progress func(Progress)) error {
	if err := checkRemotePath(to); err != nil {
		return err
	}
	e, err := src.describe(ctx)
	if err != nil {
		return err
	}
	if err := opts.checkSize(to, e.Size); err != nil {
		return err
	}
	dir, base := path.Split(to)
	apply, err := s.openApplier(ctx, wire.Apply{Root: []byte(dir), MakeRoot: opts.MakeParents})
	if err != nil {
		return err
	}
	defer apply.close()
	place := wire.Item{Path: []byte(base), Sync: true, Meta: opts.metaFor(e)}
	if place.SHA256, err = s.already(ctx, src, e, to); err != nil {
		return err
	}
	if place.SHA256 != nil {
		newMeter(e.Size, e.Size, progress)
		_, err := apply.do(ctx, wire.Item{Do: wire.ItemMeta, Path: []byte(base), Meta: place.Meta})
		return err
	}
	files, err := s.openFiles(ctx)
	if err != nil {
		return err
	}
	defer files.close()
	t := target{s: s, files: files, apply: apply, dir: dir, stage: "." + base + ".imago-part"}
	_, err = carry(ctx, src, e, t, place, opts, progress)
	return err
}

// already returns the sum of the source when the target has just that content,
// and nil when not.
func (s *Session) already(ctx context.Context, src source, e wire.Entry, to string) ([]byte, error) {
	there, err := s.hash(ctx, wire.Hash{Path: []byte(to)})
	var agent *AgentError
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &agent) && agent.Code == wire.CodeInvalid:
		return nil, nil
	case err != nil:
		return nil, err
	case there.entry.Size != e.Size:
		return nil, nil
	}
	if there, err = s.hash(ctx, wire.Hash{Path: []byte(to), Whole: true}); err != nil {
		return nil, err
	}
	ours, err := src.whole(ctx)
	if err != nil || !bytes.Equal(ours, there.whole) {
		return nil, err
	}
	return ours, nil
}
