package inguest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"imago.dev/imago/guestagent/wire"
)

// apply changes a directory item by item, in order. Nothing it does can leave
// the root, whatever the names and links in it are.
func apply(h *host, out *wire.Writer, req wire.Apply) error {
	a, err := openApplier(req)
	if err != nil {
		return err
	}
	defer a.root.Close()
	for {
		select {
		case it, open := <-h.items:
			if !open {
				return nil
			}
			answer := a.answer(it)
			if err := out.SendJSON(wire.KindApplied, answer); err != nil {
				return errHostGone
			}
		case <-h.kill:
			return errHostGone
		case <-h.gone:
			return errHostGone
		}
	}
}

type applier struct {
	root    *os.Root
	staging string
}

func openApplier(req wire.Apply) (*applier, error) {
	if req.MakeRoot {
		if err := os.MkdirAll(string(req.Root), 0o755); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(string(req.Root))
	if err != nil {
		return nil, err
	}
	a := &applier{root: root, staging: string(req.Staging)}
	if a.staging == "" {
		return a, nil
	}
	if err := a.ownDir(a.staging); err != nil {
		return nil, errors.Join(fmt.Errorf("make the staging directory: %w", err), root.Close())
	}
	return a, nil
}

// ownDir makes a private directory, or keeps one that is already ours: what an
// earlier call staged may be resumed.
func (a *applier) ownDir(name string) error {
	info, err := a.root.Lstat(name)
	if err == nil && (!info.IsDir() || !ours(info)) {
		if err := a.root.RemoveAll(name); err != nil {
			return err
		}
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return a.root.Mkdir(name, 0o700)
	}
	if err != nil {
		return err
	}
	return a.root.Chmod(name, 0o700)
}

func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

func (a *applier) answer(it wire.Item) wire.Applied {
	size, err := a.do(it)
	if err == nil {
		return wire.Applied{Size: size}
	}
	f := failureOf(err)
	return wire.Applied{Failure: &f}
}

func (a *applier) do(it wire.Item) (size int64, err error) {
	name := string(it.Path)
	switch it.Do {
	case wire.ItemStage:
		return a.stage(string(it.Stage))
	case wire.ItemPlace:
		return 0, a.place(it)
	case wire.ItemMkdir:
		return 0, a.mkdir(name, it.Meta)
	case wire.ItemSymlink:
		return 0, a.symlink(name, it)
	case wire.ItemMeta:
		return 0, a.setMeta(name, it.Meta)
	case wire.ItemRemove:
		if path.Clean(name) == "." {
			return 0, invalid("the root itself is not removed")
		}
		return 0, a.root.RemoveAll(name)
	case wire.ItemFlush:
		return 0, a.flush()
	case wire.ItemUnstage:
		if a.staging == "" {
			return 0, invalid("there is no staging directory")
		}
		return 0, a.root.RemoveAll(a.staging)
	}
	return 0, invalid("unknown item %q", it.Do)
}

// stage makes the private file to which the content is then written, or finds
// what an interrupted call left of it, and answers its size.
func (a *applier) stage(name string) (int64, error) {
	if name == "" || path.Base(name) != name {
		return 0, invalid("%q is not a name for a staged file", name)
	}
	name = path.Join(a.staging, name)
	info, err := a.root.Lstat(name)
	switch {
	case err == nil && info.Mode().IsRegular() && ours(info) && linksOf(info) == 1:
		return info.Size(), a.root.Chmod(name, 0o600)
	case err == nil:
		// Somebody else's, or a link to elsewhere: never written through.
		if err := a.root.RemoveAll(name); err != nil {
			return 0, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	f, err := a.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	return 0, f.Close()
}

func linksOf(info fs.FileInfo) uint64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return uint64(st.Nlink)
}

// place gives a staged file its name once it has proved to be what it should be.
func (a *applier) place(it wire.Item) error {
	staged := path.Join(a.staging, path.Base(string(it.Stage)))
	f, st, err := openRegular(a.root.OpenFile, staged)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, onlyReader{f}, make([]byte, readSize)); err != nil {
		return fmt.Errorf("read %q: %w", staged, err)
	}
	if sum := h.Sum(nil); st.Size != it.Size || !bytes.Equal(sum, it.SHA256) {
		return &codedError{wire.CodeMismatch, fmt.Sprintf("%q arrived with %d bytes and sha256 %x, expected %d bytes and %x",
			it.Path, st.Size, sum, it.Size, it.SHA256)}
	}
	if err := a.setMeta(staged, it.Meta); err != nil {
		return err
	}
	if it.Sync {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("sync %q: %w", staged, err)
		}
	}
	return a.rename(staged, string(it.Path), it.Sync)
}

func (a *applier) rename(from, to string, sync bool) error {
	if err := a.clear(to); err != nil {
		return err
	}
	if err := a.root.Rename(from, to); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	d, err := a.root.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// clear removes a directory that is in the way; files are replaced by renaming.
func (a *applier) clear(name string) error {
	if info, err := a.root.Lstat(name); err == nil && info.IsDir() {
		return a.root.RemoveAll(name)
	}
	return nil
}

func (a *applier) mkdir(name string, meta *wire.Meta) error {
	info, err := a.root.Lstat(name)
	if err == nil && !info.IsDir() {
		if err := a.root.Remove(name); err != nil {
			return err
		}
	}
	if err != nil || !info.IsDir() {
		if err := a.root.Mkdir(name, 0o700); err != nil {
			return err
		}
	}
	return a.setMeta(name, meta)
}

func (a *applier) symlink(name string, it wire.Item) error {
	temp := path.Join(a.staging, ".link")
	if err := a.root.RemoveAll(temp); err != nil {
		return err
	}
	if err := a.root.Symlink(string(it.Link), temp); err != nil {
		return err
	}
	if err := a.setLinkOwner(temp, it.Meta); err != nil {
		return err
	}
	return a.rename(temp, name, false)
}

func (a *applier) flush() error {
	d, err := a.root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("flush the file system: %w", err)
	}
	return nil
}
