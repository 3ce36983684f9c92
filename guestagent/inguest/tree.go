package inguest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"imago.dev/imago/guestagent/wire"
)

// walkTree sends every entry below the root. It never leaves the root: each
// directory is opened below its parent, and links are not followed.
func walkTree(out *wire.Writer, req wire.Tree) error {
	root, err := os.OpenRoot(string(req.Root))
	if err != nil {
		return err
	}
	defer root.Close()
	w := &walker{out: out, hash: req.Hash, buf: make([]byte, readSize)}
	if err := w.entry(root, ".", "."); err != nil {
		return err
	}
	return w.dir(root, "", string(req.Skip))
}

type walker struct {
	out  *wire.Writer
	hash bool
	buf  []byte
}

func (w *walker) dir(dir *os.Root, rel, skip string) error {
	names, err := namesIn(dir)
	if err != nil {
		return fmt.Errorf("list %q: %w", rel, err)
	}
	for _, name := range names {
		if name == skip && skip != "" {
			continue
		}
		err := w.entry(dir, name, path.Join(rel, name))
		// What vanished since the listing is not there: no error.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func namesIn(dir *os.Root) ([]string, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// entry sends one entry and, but for the root itself, what is below it.
func (w *walker) entry(dir *os.Root, name, rel string) error {
	info, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("look at %q: no attributes", rel)
	}
	e := entryOf(st)
	e.Path = []byte(rel)
	if err := w.fill(dir, name, &e); err != nil {
		return err
	}
	if err := w.out.SendJSON(wire.KindEntry, e); err != nil {
		return err
	}
	if e.Kind != wire.EntryDir || rel == "." {
		return nil
	}
	sub, err := dir.OpenRoot(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return w.dir(sub, rel, "")
}

func (w *walker) fill(dir *os.Root, name string, e *wire.Entry) error {
	switch {
	case e.Kind == wire.EntrySymlink:
		link, err := dir.Readlink(name)
		e.Link = []byte(link)
		return err
	case e.Kind == wire.EntryFile && w.hash:
		return w.sum(dir, name, e)
	}
	return nil
}

func (w *walker) sum(dir *os.Root, name string, e *wire.Entry) error {
	f, _, err := openRegular(dir.OpenFile, name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, onlyReader{f}, w.buf)
	if err != nil {
		return fmt.Errorf("read %q: %w", e.Path, err)
	}
	e.Size, e.SHA256 = n, h.Sum(nil)
	return nil
}

// onlyReader hides WriteTo, so that the buffer given is the buffer used.
type onlyReader struct{ io.Reader }

func entryOf(st *syscall.Stat_t) wire.Entry {
	e := wire.Entry{
		Kind: wire.EntryOther, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
		MTimeNS: st.Mtim.Nano(),
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		e.Kind, e.Size = wire.EntryFile, st.Size
	case syscall.S_IFDIR:
		e.Kind = wire.EntryDir
	case syscall.S_IFLNK:
		e.Kind = wire.EntrySymlink
	}
	return e
}
