package guestagent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"strings"

	"imago.dev/imago/guestagent/wire"
)

// EntryKind says what an Entry is.
type EntryKind string

// The kinds of entries.
const (
	KindFile    EntryKind = wire.EntryFile
	KindDir     EntryKind = wire.EntryDir
	KindSymlink EntryKind = wire.EntrySymlink
	KindOther   EntryKind = wire.EntryOther // device, socket, fifo
)

// Entry is one file, directory or link below the root of a Tree.
type Entry struct {
	// Path is relative to the root, with any bytes but NUL, and never leaves
	// it; "." is the root itself.
	Path string
	Kind EntryKind
	// Size is in bytes, of files only.
	Size int64
	// Mode holds the low twelve bits.
	Mode     uint32
	UID, GID uint32
	MTimeNS  int64
	// Link is where a symbolic link points, as written in it.
	Link string
	// SHA256 is the sum of a file's content, 32 bytes.
	SHA256 []byte
}

// PathError means that a guest named a file it must not name.
type PathError struct {
	Guest, Path, Why string
}

func (e *PathError) Error() string {
	return fmt.Sprintf("guest %q sent the path %q: %s", e.Guest, e.Path, e.Why)
}

// Tree walks a directory of the guest, depth first, the names of a directory in
// byte order, the root first. Links are not followed, but root itself may be
// one. Files are hashed by the agent. An error of each ends the walk and is
// returned. Memory does not grow with the tree.
func (s *Session) Tree(ctx context.Context, root string, each func(Entry) error) error {
	release, err := reserve(ctx, 1, s)
	if err != nil {
		return fmt.Errorf("walk %q in guest %q: %w", root, s.target.Name, err)
	}
	defer release()
	if err := s.walk(ctx, wire.Tree{Root: []byte(root), Hash: true}, each); err != nil {
		return fmt.Errorf("walk %q in guest %q: %w", root, s.target.Name, err)
	}
	return nil
}

func (s *Session) walk(ctx context.Context, req wire.Tree, each func(Entry) error) error {
	c, err := s.call(ctx, wire.Request{Op: wire.OpTree, Tree: &req})
	if err != nil {
		return err
	}
	defer c.close()
	check := orderCheck{guest: s.target.Name}
	for {
		f, err := c.answer(ctx, wire.KindEntry, wire.KindResult)
		if err != nil {
			return err
		}
		if f.Kind == wire.KindResult {
			return check.finish()
		}
		var w wire.Entry
		if err := f.Decode(&w); err != nil {
			return err
		}
		e := entryFrom(w)
		if err := check.entry(e, req.Hash); err != nil {
			return err
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

func entryFrom(w wire.Entry) Entry {
	return Entry{
		Path: string(w.Path), Kind: EntryKind(w.Kind), Size: w.Size, Mode: w.Mode & 0o7777,
		UID: w.UID, GID: w.GID, MTimeNS: w.MTimeNS, Link: string(w.Link), SHA256: w.SHA256,
	}
}

// orderCheck believes nothing a guest says about its tree: paths must stay
// below the root, be in order (so none comes twice), and lie in a directory
// that was named before.
type orderCheck struct {
	guest string
	last  string
	dirs  []string // the directories that are open at this point of the walk
}

func (o *orderCheck) entry(e Entry, hashed bool) error {
	bad := func(why string) error { return &PathError{Guest: o.guest, Path: Clean(e.Path), Why: why} }
	switch e.Kind {
	case KindFile, KindDir, KindSymlink, KindOther:
	default:
		return bad("its kind is unknown")
	}
	if e.Size < 0 || (hashed && e.Kind == KindFile && len(e.SHA256) != sha256.Size) {
		return bad("its size or sum is impossible")
	}
	if e.Kind == KindSymlink && (e.Link == "" || strings.Contains(e.Link, "\x00")) {
		return bad("it is a link without a target")
	}
	if o.last == "" {
		if e.Path != "." || e.Kind != KindDir {
			return bad("the first entry must be the root")
		}
		o.last = "."
		return nil
	}
	if why := unsafePath(e.Path); why != "" {
		return bad(why)
	}
	if o.last != "." && comparePaths(o.last, e.Path) >= 0 {
		return bad("it is out of order")
	}
	if !o.enter(e) {
		return bad("its directory was not named")
	}
	o.last = e.Path
	return nil
}

// enter keeps the stack of open directories.
func (o *orderCheck) enter(e Entry) bool {
	parent := path.Dir(e.Path)
	for len(o.dirs) > 0 && o.dirs[len(o.dirs)-1] != parent {
		o.dirs = o.dirs[:len(o.dirs)-1]
	}
	if parent != "." && len(o.dirs) == 0 {
		return false
	}
	if e.Kind == KindDir {
		o.dirs = append(o.dirs, e.Path)
	}
	return true
}

func (o *orderCheck) finish() error {
	if o.last == "" {
		return &PathError{Guest: o.guest, Why: "there is not even a root"}
	}
	return nil
}

// unsafePath says what is wrong with a relative path, or nothing.
func unsafePath(p string) string {
	switch {
	case p == "" || p == ".":
		return "it is empty"
	case len(p) > 1<<14:
		return "it is too long"
	case strings.ContainsRune(p, 0):
		return "it holds a NUL"
	case path.IsAbs(p):
		return "it is absolute"
	case path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../"):
		return "it is not a clean path below the root"
	}
	return ""
}

// comparePaths orders as a walk does: a directory's content comes before its
// next neighbour, so '/' counts less than any other byte.
func comparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if x, y := a[i], b[i]; x != y {
			switch {
			case x == '/':
				return -1
			case y == '/':
				return 1
			}
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}

func sameContent(a, b Entry) bool {
	if a.Kind != b.Kind {
		return false
	}
	switch a.Kind {
	case KindFile:
		return a.Size == b.Size && bytes.Equal(a.SHA256, b.SHA256)
	case KindSymlink:
		return a.Link == b.Link
	}
	return true
}
