package catchup

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What one batch holds at most. Between batches everything is on stable storage.
const (
	batchOps   = 4096
	batchDirs  = 100
	batchBytes = 256 << 20
)

// opKind says what an op does when its turn comes.
type opKind int

const (
	opNote   opKind = iota // only a record of the manifest
	opNode                 // a file, link or special file, prepared by a worker
	opHard                 // a further name of a file
	opRemove               // what only the target has
	opEnd                  // the attributes of a directory in which all is done
)

// op is one entry on its way. Ops are carried out in the walk's order.
type op struct {
	kind     opKind
	at       *pair
	name     string
	src, dst stat
	exists   bool
	// fresh: the target's file is also a name of something else and must not
	// be kept, even if it is equal.
	fresh bool
	lead  *leader
	rec   record
	recs  []found

	// What the worker found and did.
	staged  string // name in the staging directory
	touched bool
	unequal bool
	err     error
}

func (o *op) path() string {
	if o.kind == opEnd {
		return o.at.path
	}
	return join(o.at.path, o.name)
}

// push takes the next op.
func (c *run) push(o *op) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if o.kind == opEnd && !o.at.dirty {
		o = c.unmoved(o)
	}
	if o.kind == opNote && len(c.queue) == 0 {
		return c.note(o.rec, o.recs)
	}
	c.queue = append(c.queue, o)
	switch o.kind {
	case opNote:
	case opEnd:
		o.at.refs++
		c.holding++
	default:
		o.at.refs++
		o.at.dirty = !c.opts.CheckOnly
	}
	if o.kind == opNode {
		c.workers.start(c.ctx, func(bufs *buffers) { o.err = c.prepare(o, bufs) })
	}
	if len(c.queue) < batchOps && c.holding < batchDirs && c.count.bytes.Load() < c.workers.flushed+batchBytes {
		return nil
	}
	return c.flush()
}

// unmoved makes a note of a directory in which nothing changes and for which
// the manifest vouches.
func (c *run) unmoved(o *op) *op {
	if o.at.dst < 0 || c.opts.Full {
		return o
	}
	dst, err := fstat(o.at.dst)
	if err != nil || !c.vouched(o.recs, o.src.ident(), dst.ident()) {
		return o
	}
	c.res.Skipped++
	return &op{kind: opNote, rec: record{kind: recordEnd, src: o.src.ident(), dst: dst.ident()}, recs: o.recs}
}

// flush carries out what is queued: all content is on stable storage before
// any of it gets its name.
func (c *run) flush() (err error) {
	defer c.drop()
	c.workers.wait()
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if err := c.syncStaged(); err != nil {
		return err
	}
	for _, o := range c.queue {
		if err := c.apply(o); err != nil {
			return err
		}
	}
	return nil
}

// drop empties the queue; no worker may be left.
func (c *run) drop() {
	for _, o := range c.queue {
		if o.kind != opNote {
			o.at.release()
		}
	}
	c.queue, c.holding, c.workers.flushed = c.queue[:0], 0, c.count.bytes.Load()
}

func (c *run) apply(o *op) error {
	switch o.kind {
	case opNote:
		return c.note(o.rec, o.recs)
	case opNode:
		return c.applyNode(o)
	case opHard:
		return c.applyHard(o)
	case opRemove:
		return c.applyRemove(o)
	}
	return c.applyEnd(o)
}

func (c *run) applyNode(o *op) error {
	err := o.err
	if err == nil && o.staged != "" {
		err = c.place(o, o.staged)
	}
	if err != nil {
		if o.lead != nil {
			o.lead.failed = true
		}
		return c.fault(o.path(), err)
	}
	if o.touched {
		c.res.Touched++
	}
	switch {
	case o.staged != "" && o.src.isFile():
		c.count.copied.Add(1)
	case o.staged != "":
		c.res.Linked++
	}
	if o.unequal || o.touched || o.staged != "" {
		c.differs(o.path())
	}
	return c.noteNode(o)
}

// noteNode records an entry as it is now.
func (c *run) noteNode(o *op) error {
	dst, exists, err := o.at.target(o.name)
	if err != nil || !exists {
		if c.opts.CheckOnly {
			return nil
		}
		return c.fault(o.path(), errors.Join(errors.New("it vanished from the target again"), err))
	}
	if o.lead != nil {
		o.lead.ino = dst.ino
		c.claims[dst.ino] = o.src.inode()
	}
	if o.unequal {
		return nil
	}
	o.rec.src, o.rec.dst = o.src.ident(), targetIdent(&o.src, &dst)
	return c.note(o.rec, o.recs)
}

// place gives what is staged its name, in one step but where a directory is in
// the way.
func (c *run) place(o *op, staged string) error {
	if o.exists && o.dst.isDir() {
		n, err := removeAll(o.at.dst, o.name, c.dev)
		c.res.Deleted += n
		if err != nil {
			return err
		}
	}
	dir, err := c.stage.dir()
	if err != nil {
		return err
	}
	if err := unix.Renameat(dir, staged, o.at.dst, o.name); err != nil {
		return refused(o.at.dst, o.name, "replace it", err)
	}
	return nil
}

func (c *run) applyHard(o *op) error {
	if o.lead.failed {
		return c.fault(o.path(), fmt.Errorf("it is a further name of %q, which could not be made", o.lead.path))
	}
	dst, exists, err := o.at.target(o.name)
	if err != nil {
		return c.fault(o.path(), err)
	}
	if exists && o.lead.ino != 0 && dst.ino == o.lead.ino {
		return c.noteNode(o)
	}
	c.differs(o.path())
	if c.opts.CheckOnly {
		return nil
	}
	if err := c.link(o); err != nil {
		return c.fault(o.path(), err)
	}
	c.res.Linked++
	return c.noteNode(o)
}

// link makes a further name of the leader's file.
func (c *run) link(o *op) error {
	dir, err := c.stage.dir()
	if err != nil {
		return err
	}
	from, base, err := openParent(c.root.dst, o.lead.path)
	if err != nil {
		return fmt.Errorf("link it to %q: %w", o.lead.path, err)
	}
	defer closeFD(from)
	temp := c.stage.anyName()
	if err := unix.Linkat(from, base, dir, temp, 0); err != nil {
		return refused(from, base, fmt.Sprintf("link it to %q", o.lead.path), err)
	}
	st, err := lstat(dir, temp)
	if err == nil && st.ino != o.lead.ino {
		err = fmt.Errorf("link it to %q: somebody else changed that meanwhile", o.lead.path)
	}
	if err != nil {
		return err
	}
	return c.place(o, temp)
}

func (c *run) applyRemove(o *op) error {
	c.differs(o.path())
	if c.opts.CheckOnly {
		return nil
	}
	if _, err := c.stage.dir(); err != nil {
		return err
	}
	n, err := removeAll(o.at.dst, o.name, c.dev)
	c.res.Deleted += n
	c.changed = true
	if err != nil {
		return c.fault(o.path(), err)
	}
	return nil
}

// applyEnd sets a directory's attributes when nothing changes in it any more.
func (c *run) applyEnd(o *op) error {
	q := o.at
	if q.dst < 0 {
		return nil
	}
	dst, err := fstat(q.dst)
	if err != nil {
		return c.fault(q.path, err)
	}
	set, err := c.directory(q, &o.src, &dst)
	if err != nil {
		return c.fault(q.path, err)
	}
	if set && !q.dirty {
		c.res.Touched++
		c.differs(q.path)
	}
	if !c.opts.CheckOnly && (set || q.dirty) {
		c.durable.add(q.dst)
	}
	if dst, err = fstat(q.dst); err != nil {
		return c.fault(q.path, err)
	}
	return c.note(record{kind: recordEnd, src: o.src.ident(), dst: dst.ident()}, o.recs)
}

// directory makes a directory's own attributes equal, or only tells whether
// they are.
func (c *run) directory(q *pair, src, dst *stat) (differed bool, err error) {
	w, from := c.want(src), attributed{fd: q.src}
	differed, err = equalAttributes(from, attributed{fd: q.dst}, true)
	if err != nil || !differed && w.matches(dst) || c.opts.CheckOnly {
		return differed || !w.matches(dst), err
	}
	if _, err := c.stage.dir(); err != nil {
		return true, err
	}
	if err := w.setFD(q.dst, dst, from); err != nil {
		return true, refused(q.dst, ".", "set its attributes", err)
	}
	return true, nil
}

// end finishes the call when all entries are done.
func (c *run) end(streams []stream) error {
	c.res.Dirs++ // the root
	if c.opts.CheckOnly {
		return c.checkRoot()
	}
	if c.root.dirty {
		c.durable.add(c.root.dst)
	}
	if err := c.durable.sync(c.root.dst); err != nil {
		return err
	}
	// The root's own target ident is left out: the staging directory comes and goes in it.
	if err := c.note(record{kind: recordEnd, src: c.root.st.ident()}, leaveAll(streams)); err != nil {
		return err
	}
	if err := c.remember(); err != nil {
		return err
	}
	if err := c.stage.remove(); err != nil {
		return err
	}
	return c.finishRoot()
}

func (c *run) checkRoot() error {
	if c.root.dst < 0 {
		c.differs(".")
		return nil
	}
	dst, err := fstat(c.root.dst)
	if err != nil {
		return err
	}
	differed, err := c.directory(c.root, &c.root.st, &dst)
	if differed {
		c.differs(".")
	}
	return err
}

// finishRoot comes after the staging directory has gone.
func (c *run) finishRoot() error {
	dst, err := fstat(c.root.dst)
	if err != nil {
		return err
	}
	w, from := c.want(&c.root.st), attributed{fd: c.root.src}
	differed, err := equalAttributes(from, attributed{fd: c.root.dst}, true)
	if err != nil || !differed && w.matches(&dst) {
		return err
	}
	if !c.root.dirty && !c.stage.used() {
		c.res.Touched++
		c.differs(".")
	}
	if err := w.setFD(c.root.dst, &dst, from); err != nil {
		return fmt.Errorf("the root: %w", refused(c.root.dst, ".", "set its attributes", err))
	}
	return nil
}
