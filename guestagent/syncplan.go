package guestagent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/guestagent/wire"
)

// ErrTooManyEntries is wrapped when more entries differ than MaxEntries allows.
var ErrTooManyEntries = errors.New("too many entries differ")

// syncPlan is what has to change in a target. Only what differs is kept.
type syncPlan struct {
	opts    SyncOptions
	deletes []string // in walk order; removing a directory removes all in it
	newDirs []Entry
	links   []Entry
	copies  []Entry
	metas   []Entry         // equal content, other mode, owner or time
	dirs    []Entry         // every directory of the source
	stale   map[string]bool // directories whose attributes differ, or in which something changes
	res     SyncResult
	size    int
}

// stageName is the same each time, so that an interrupted file is resumed.
func stageName(e Entry) string {
	sum := sha256.Sum256([]byte(e.Path))
	return hex.EncodeToString(sum[:16])
}

// compare walks both trees at once and merges them, in constant memory but for
// the differences.
func (p *syncPlan) compare(ctx context.Context, from *Session, fromRoot string, to *Session, toRoot string) error {
	g, gctx := errgroup.WithContext(ctx)
	src, dst := make(chan Entry), make(chan Entry)
	walk := func(s *Session, root string, out chan<- Entry) func() error {
		return func() error {
			err := s.walk(gctx, wire.Tree{Root: []byte(root), Skip: []byte(stagingDir), Hash: true}, func(e Entry) error {
				select {
				case out <- e:
					return nil
				case <-gctx.Done():
					return gctx.Err()
				}
			})
			if err != nil {
				return fmt.Errorf("walk %q in guest %q: %w", root, s.target.Name, err)
			}
			close(out) // not after an error: a broken walk is no short tree
			return nil
		}
	}
	g.Go(walk(from, fromRoot, src))
	g.Go(walk(to, toRoot, dst))
	g.Go(func() error { return p.merge(gctx, src, dst) })
	return g.Wait()
}

// cursor is a stream of entries with one looked ahead.
type cursor struct {
	in   <-chan Entry
	head Entry
	more bool
}

func (c *cursor) advance(ctx context.Context) error {
	select {
	case c.head, c.more = <-c.in:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *syncPlan) merge(ctx context.Context, src, dst <-chan Entry) error {
	s, d := cursor{in: src}, cursor{in: dst}
	if err := errors.Join(s.advance(ctx), d.advance(ctx)); err != nil {
		return err
	}
	for s.more || d.more {
		order := p.order(s, d)
		var err error
		switch {
		case order < 0:
			p.add(s.head, Entry{})
		case order > 0:
			p.extra(d.head)
		default:
			p.add(s.head, d.head)
		}
		if order <= 0 {
			err = s.advance(ctx)
		}
		if order >= 0 && err == nil {
			err = d.advance(ctx)
		}
		if err != nil {
			return err
		}
		if p.size > p.opts.MaxEntries {
			return fmt.Errorf("%w: more than %d", ErrTooManyEntries, p.opts.MaxEntries)
		}
	}
	return nil
}

func (p *syncPlan) order(s, d cursor) int {
	switch {
	case !s.more:
		return 1
	case !d.more:
		return -1
	case s.head.Path == "." || d.head.Path == ".":
		return 0 // both begin with the root
	}
	return comparePaths(s.head.Path, d.head.Path)
}

// add plans for one entry of the source; old is what the target has there, or
// the zero Entry.
func (p *syncPlan) add(e, old Entry) {
	switch e.Kind {
	case KindOther:
		p.res.Ignored++
		return
	case KindFile:
		p.res.Files++
	}
	same := sameContent(e, old)
	if e.Kind == KindFile && same {
		p.res.Skipped++
	}
	if !same && old.Kind != "" && (old.Kind == KindDir || e.Kind == KindDir) {
		p.remove(old)
	}
	p.size++
	switch {
	case e.Kind == KindDir:
		if !same {
			p.newDirs = append(p.newDirs, e)
			p.touch(e.Path)
		}
		p.dirs = append(p.dirs, e)
		if !p.sameMeta(e, old) {
			p.stale[e.Path] = true
		}
	case !same && e.Kind == KindSymlink:
		p.links = append(p.links, e)
		p.touch(e.Path)
	case !same:
		p.copies = append(p.copies, e)
		p.touch(e.Path)
	case e.Kind == KindFile && !p.sameMeta(e, old):
		p.metas = append(p.metas, e)
	case e.Kind == KindSymlink && (p.opts.Owner != "" || e.UID != old.UID || e.GID != old.GID):
		p.links = append(p.links, e)
		p.touch(e.Path)
	default:
		p.size--
	}
}

// sameMeta: with an owner by name the numbers at the target are not known here.
func (p *syncPlan) sameMeta(e, old Entry) bool {
	return p.opts.Owner == "" && e.Mode == old.Mode && e.MTimeNS == old.MTimeNS && e.UID == old.UID && e.GID == old.GID
}

// touch notes that the directory of an entry gets a new time.
func (p *syncPlan) touch(entry string) { p.stale[path.Dir(entry)] = true }

// extra plans for what only the target has.
func (p *syncPlan) extra(old Entry) {
	gone := len(p.deletes) > 0 && below(old.Path, p.deletes[len(p.deletes)-1])
	switch {
	case gone: // it goes with its directory
		p.res.Deleted++
	case p.opts.Delete:
		p.remove(old)
	}
}

func (p *syncPlan) remove(old Entry) {
	p.deletes = append(p.deletes, old.Path)
	p.touch(old.Path)
	p.res.Deleted++
	p.size++
}
