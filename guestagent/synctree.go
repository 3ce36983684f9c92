package guestagent

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/guestagent/wire"
)

// stagingDir lies directly below a target root while SyncTree works there. It
// is never copied, listed or counted.
const stagingDir = ".imago-sync"

// filesAtOnce is how many files one SyncTree copies at a time.
const filesAtOnce = 8

// defaultMaxEntries bounds a plan in memory; see SyncOptions.
const defaultMaxEntries = 2_000_000

// SyncOptions says how SyncTree makes one tree equal to another.
type SyncOptions struct {
	// Delete removes what only the target has. Without it a directory that is
	// in the way of a file or link, or the other way round, is removed all the
	// same.
	Delete bool
	// Owner is "user", "user:group" or ":group" as known at the target, for
	// everything below the root. Empty keeps owner and group by number.
	Owner string
	// MaxEntries bounds how many entries may differ, and thus the memory: about
	// 300 bytes and the path each. Zero means two million.
	MaxEntries int
	// Throttle is as in FileOptions.
	Throttle func(ctx context.Context, n int) error
}

// SyncProgress counts what is copied of what differs.
type SyncProgress struct {
	Files, FilesTotal int64
	Bytes, BytesTotal int64
}

// SyncResult counts what SyncTree found and did.
type SyncResult struct {
	Files   int64 // regular files in the source
	Copied  int64 // of these, brought over
	Skipped int64 // of these, equal already
	Deleted int64 // entries removed from the target
	Bytes   int64 // content of the files copied
	Ignored int64 // devices, sockets and fifos, which are not copied
}

// SyncTree makes the tree below toRoot in one guest equal to the tree below
// fromRoot in another. It copies only files whose SHA-256 differs, verifies each
// before it gets its name, and keeps mode, time and (see Owner) ownership; links
// stay links. It never writes outside toRoot, whatever the two trees hold. An
// interrupted SyncTree may be called again and goes on. Files are on stable
// storage when it returns. Hard links, sparseness, ACLs and extended attributes
// are not kept. progress may be nil.
func SyncTree(ctx context.Context, from *Session, fromRoot string, to *Session, toRoot string, opts SyncOptions, progress func(SyncProgress)) (SyncResult, error) {
	var res SyncResult
	err := errors.Join(checkRemotePath(fromRoot), checkRemotePath(toRoot))
	if err == nil {
		res, err = syncTree(ctx, from, fromRoot, to, toRoot, opts, progress)
	}
	if err != nil {
		return res, fmt.Errorf("sync %q in guest %q to %q in guest %q: %w", fromRoot, from.target.Name, toRoot, to.target.Name, err)
	}
	return res, nil
}

func syncTree(ctx context.Context, from *Session, fromRoot string, to *Session, toRoot string, opts SyncOptions, progress func(SyncProgress)) (SyncResult, error) {
	if opts.MaxEntries <= 0 {
		opts.MaxEntries = defaultMaxEntries
	}
	release, err := reserve(ctx, fileChannels, from, to)
	if err != nil {
		return SyncResult{}, err
	}
	defer release()
	// The staging directory appears first, so that the target's root exists.
	apply, err := to.openApplier(ctx, wire.Apply{Root: []byte(toRoot), MakeRoot: true, Staging: []byte(stagingDir)})
	if err != nil {
		return SyncResult{}, err
	}
	defer apply.close()
	p := &syncPlan{opts: opts, stale: make(map[string]bool)}
	if err := p.compare(ctx, from, fromRoot, to, toRoot); err != nil {
		return p.res, err
	}
	w := &syncWork{from: from, fromRoot: fromRoot, to: to, toRoot: toRoot, opts: opts, plan: p, apply: apply, report: progress}
	w.p.FilesTotal = int64(len(p.copies))
	for _, e := range p.copies {
		w.p.BytesTotal += e.Size
	}
	return w.do(ctx)
}

// syncWork carries out a plan.
type syncWork struct {
	from, to         *Session
	fromRoot, toRoot string
	opts             SyncOptions
	plan             *syncPlan
	apply            *applier
	read, write      *remoteFiles

	mu     sync.Mutex
	p      SyncProgress
	report func(SyncProgress)
}

// do works in an order that is safe to break off: what is in the way goes
// first, directories come before what is in them, and their times are set when
// nothing changes in them any more.
func (w *syncWork) do(ctx context.Context) (res SyncResult, err error) {
	if err := w.structure(ctx); err != nil {
		return w.result(), err
	}
	if len(w.plan.copies) > 0 {
		if err := w.copyAll(ctx); err != nil {
			return w.result(), err
		}
	}
	for _, e := range w.plan.metas {
		if err := w.item(ctx, wire.Item{Do: wire.ItemMeta, Path: []byte(e.Path), Meta: w.meta(e)}); err != nil {
			return w.result(), err
		}
	}
	if err := w.item(ctx, wire.Item{Do: wire.ItemUnstage}); err != nil {
		return w.result(), err
	}
	w.plan.stale["."] = true // the staging directory came and went there
	for i := len(w.plan.dirs) - 1; i >= 0; i-- {
		e := w.plan.dirs[i]
		if !w.plan.stale[e.Path] {
			continue
		}
		if err := w.item(ctx, wire.Item{Do: wire.ItemMeta, Path: []byte(e.Path), Meta: w.meta(e)}); err != nil {
			return w.result(), err
		}
	}
	return w.result(), w.item(ctx, wire.Item{Do: wire.ItemFlush})
}

func (w *syncWork) structure(ctx context.Context) error {
	for i := len(w.plan.deletes) - 1; i >= 0; i-- {
		if err := w.item(ctx, wire.Item{Do: wire.ItemRemove, Path: []byte(w.plan.deletes[i])}); err != nil {
			return err
		}
	}
	for _, e := range w.plan.newDirs {
		// Open while we work in it; its own mode comes at the end.
		mode := uint32(0o700)
		if err := w.item(ctx, wire.Item{Do: wire.ItemMkdir, Path: []byte(e.Path), Meta: &wire.Meta{Mode: &mode}}); err != nil {
			return err
		}
	}
	for _, e := range w.plan.links {
		it := wire.Item{Do: wire.ItemSymlink, Path: []byte(e.Path), Link: []byte(e.Link), Meta: w.meta(e)}
		if err := w.item(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

func (w *syncWork) item(ctx context.Context, it wire.Item) error {
	if _, err := w.apply.do(ctx, it); err != nil {
		return fmt.Errorf("%s %q: %w", it.Do, Clean(string(it.Path)), err)
	}
	return nil
}

func (w *syncWork) meta(e Entry) *wire.Meta {
	m := &wire.Meta{Mode: &e.Mode, MTimeNS: &e.MTimeNS, Owner: w.opts.Owner}
	if m.Owner == "" {
		m.UID, m.GID = &e.UID, &e.GID
	}
	return m
}

func (w *syncWork) copyAll(ctx context.Context) (err error) {
	if w.read, err = w.from.openFiles(ctx); err != nil {
		return err
	}
	defer w.read.close()
	if w.write, err = w.to.openFiles(ctx); err != nil {
		return err
	}
	defer w.write.close()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(filesAtOnce)
	for _, e := range w.plan.copies {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := w.copyOne(gctx, e); err != nil {
				return fmt.Errorf("copy %q: %w", Clean(e.Path), err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (w *syncWork) copyOne(ctx context.Context, e Entry) error {
	src := guestSource{w.from, w.read, path.Join(w.fromRoot, e.Path)}
	t := target{s: w.to, files: w.write, apply: w.apply, dir: path.Join(w.toRoot, stagingDir), stage: stageName(e)}
	place := wire.Item{Path: []byte(e.Path), SHA256: e.SHA256, Meta: w.meta(e)}
	last := int64(0)
	_, err := carry(ctx, src, wire.Entry{Size: e.Size}, t, place, FileOptions{Throttle: w.opts.Throttle}, func(p Progress) {
		w.count(0, p.Done-last)
		last = p.Done
	})
	if err == nil {
		w.count(1, 0)
	}
	return err
}

func (w *syncWork) count(files, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.p.Files += files
	w.p.Bytes += bytes
	if w.report != nil {
		w.report(w.p)
	}
}

func (w *syncWork) result() SyncResult {
	w.mu.Lock()
	defer w.mu.Unlock()
	res := w.plan.res
	res.Copied, res.Bytes = w.p.Files, w.p.Bytes
	return res
}

// below says whether p lies below dir.
func below(p, dir string) bool { return strings.HasPrefix(p, dir+"/") }
