package catchup

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the descriptors that are open at once.
const maxDepth = 300

// entryCost is what looking at one entry counts against the rate: an inode read
// from the view's disk.
const entryCost = 256

// pair is one directory on both sides, open as long as somebody refers to it.
type pair struct {
	src, dst int // dst is -1 where there is none
	st       stat
	path     string
	refs     int
	dirty    bool // names in it change, and its time with them
}

func (p *pair) release() {
	p.refs--
	if p.refs == 0 {
		closeFD(p.src)
		closeFD(p.dst)
	}
}

// dir walks a directory that is there on the source's side; list is what it
// holds there.
func (c *run) dir(p *pair, list []listed, streams []stream, depth int) error {
	ahead := c.aheadOf(p.src, list)
	defer ahead.drop()
	extras, err := c.extras(p, list)
	if err != nil {
		return c.fault(p.path, err)
	}
	for i := range list {
		e := &list[i]
		if e.gone || depth == 0 && e.name == stagingDir {
			continue
		}
		if err := c.opts.Limit.take(c.ctx, entryCost); err != nil {
			return err
		}
		for ; len(extras) > 0 && extras[0] < e.name; extras = extras[1:] {
			if err := c.extra(p, extras[0], streams); err != nil {
				return err
			}
		}
		if err := c.entry(p, e, ahead, streams, depth); err != nil {
			return err
		}
	}
	for _, name := range extras {
		if err := c.extra(p, name, streams); err != nil {
			return err
		}
	}
	return nil
}

// extra plans the removal of what only the target has.
func (c *run) extra(p *pair, name string, streams []stream) error {
	if old := c.finished(); old != nil && streams[0].in && !old.knows(name) {
		named(&c.res.Foreigners, &c.res.Foreign, join(p.path, name))
	}
	return c.push(&op{kind: opRemove, at: p, name: name})
}

// extras lists what only the target has and is to go, in order. A socket stays:
// it belongs to a service that runs in this guest.
func (c *run) extras(p *pair, list []listed) ([]string, error) {
	if !c.opts.Delete || p.dst < 0 {
		return nil, nil
	}
	have, err := names(p.dst)
	if err != nil {
		return nil, fmt.Errorf("read the target: %w", err)
	}
	var extras []string
	for _, e := range have {
		for len(list) > 0 && list[0].name < e.name {
			list = list[1:]
		}
		if len(list) > 0 && list[0].name == e.name && !list[0].gone || p == c.root && e.name == stagingDir {
			continue
		}
		if st, err := lstat(p.dst, e.name); err == nil && st.isSock() {
			continue
		}
		extras = append(extras, e.name)
	}
	return extras, nil
}

func (c *run) entry(p *pair, e *listed, ahead *aheadOf, streams []stream, depth int) error {
	c.count.entries.Add(1)
	c.see(&e.st)
	switch {
	case e.st.isSock():
		c.res.Sockets++
		return nil
	case e.st.isDir():
		return c.subdir(p, e, ahead, streams, depth)
	case e.st.isFile() || e.st.isLink() || e.st.special():
		return c.node(p, e, streams)
	}
	return c.fault(join(p.path, e.name), fmt.Errorf("it is of an unknown kind (mode %o)", e.st.mode))
}

// target looks at the target's side of an entry.
func (p *pair) target(name string) (dst stat, exists bool, err error) {
	if p.dst < 0 {
		return dst, false, nil
	}
	dst, err = lstat(p.dst, name)
	if errors.Is(err, unix.ENOENT) {
		return dst, false, nil
	}
	return dst, err == nil, err
}

func (c *run) subdir(p *pair, e *listed, ahead *aheadOf, streams []stream, depth int) error {
	path := join(p.path, e.name)
	c.res.Dirs++
	l := ahead.take(e.name)
	inside := make([]stream, len(streams))
	for i, s := range streams {
		inside[i] = stream{s.reader, s.in && s.enter(e.name)}
	}
	q := &pair{src: l.fd, dst: -1, st: e.st, path: path, refs: 1}
	defer q.release()
	err := l.err
	if err != nil {
		err = fmt.Errorf("read the source: %w", err)
	} else {
		err = c.openTarget(p, q, e, depth)
	}
	if err != nil {
		leaveAll(inside)
		return c.fault(path, err)
	}
	if err := c.push(&op{kind: opNote, at: q, rec: record{kind: recordDir, name: e.name}}); err != nil {
		return err
	}
	if err := c.dir(q, l.all, inside, depth+1); err != nil {
		return err
	}
	return c.push(&op{kind: opEnd, at: q, src: e.st, recs: leaveAll(inside)})
}

// leaveAll goes to the end of a directory in all manifests that know it.
func leaveAll(inside []stream) []found {
	var recs []found
	for _, s := range inside {
		if !s.in {
			continue
		}
		if rec, ok := s.leave(); ok {
			recs = append(recs, found{s.reader, rec})
		}
	}
	return recs
}

// openTarget opens a directory on the target's side and makes it where it is missing.
func (c *run) openTarget(p, q *pair, e *listed, depth int) error {
	if depth >= maxDepth {
		return fmt.Errorf("it lies more than %d directories deep", maxDepth)
	}
	dst, exists, err := p.target(e.name)
	if err != nil {
		return err
	}
	if exists && dst.isDir() && dst.dev != c.dev {
		return errOtherDevice
	}
	if !exists || !dst.isDir() {
		c.differs(q.path)
		if c.opts.CheckOnly {
			return nil
		}
		if err := c.makeDir(p, e.name, exists); err != nil {
			return err
		}
	}
	if q.dst, err = openDir(p.dst, e.name); err != nil {
		return fmt.Errorf("open the target: %w", err)
	}
	return nil
}

// makeDir makes a directory that only we can enter; its own mode comes at the end.
func (c *run) makeDir(p *pair, name string, exists bool) error {
	if _, err := c.stage.dir(); err != nil {
		return err
	}
	p.dirty = true
	if exists {
		n, err := removeAll(p.dst, name, c.dev)
		c.res.Deleted += n
		if err != nil {
			return err
		}
	}
	if err := unix.Mkdirat(p.dst, name, 0o700); err != nil {
		return refused(p.dst, name, "make it", err)
	}
	return nil
}

// leader is the first name of a file with several.
type leader struct {
	path   string
	ino    uint64 // in the target, once it is known; 0 before
	failed bool
	seen   uint64
}

// node handles everything that is no directory.
func (c *run) node(p *pair, e *listed, streams []stream) error {
	path := join(p.path, e.name)
	dst, exists, err := p.target(e.name)
	if err != nil {
		return c.fault(path, err)
	}
	lead, first := c.lead(&e.st, path)
	c.countKind(&e.st, first)
	recs := lookUp(streams, e.name)
	id := targetIdent(&e.st, &dst)
	rec := record{kind: recordEntry, name: e.name, src: e.st.ident(), dst: id}
	joined := lead == nil || first || lead.ino != 0 && lead.ino == dst.ino
	if exists && joined && !c.opts.Full && c.vouched(recs, rec.src, id) {
		if lead != nil && first {
			lead.ino = dst.ino
			c.claims[dst.ino] = e.st.inode()
		}
		c.res.Skipped++
		return c.push(&op{kind: opNote, at: p, rec: rec, recs: recs})
	}
	c.foreign(recs, path, id, exists)
	o := &op{kind: opNode, at: p, name: e.name, src: e.st, dst: dst, exists: exists, lead: lead, rec: rec, recs: recs}
	if lead != nil && !first {
		o.kind = opHard
		return c.push(o)
	}
	o.fresh = exists && !c.claim(&e.st, &dst)
	return c.push(o)
}

// lead finds the leader of a file with several names; first says that this name
// is it.
func (c *run) lead(src *stat, path string) (lead *leader, first bool) {
	if !src.linked() {
		return nil, true
	}
	lead, known := c.links[src.inode()]
	if !known {
		lead = &leader{path: path}
		c.links[src.inode()] = lead
	}
	if lead.seen++; lead.seen == src.nlink {
		delete(c.links, src.inode())
	}
	return lead, !known
}

// claim tells whether the target's file may be kept for a source file: it must
// not be a name of something else, too.
func (c *run) claim(src, dst *stat) bool {
	if !dst.linked() {
		return true
	}
	if !src.linked() {
		return false
	}
	owner, taken := c.claims[dst.ino]
	if !taken {
		c.claims[dst.ino] = src.inode()
	}
	return !taken || owner == src.inode()
}

func (c *run) countKind(src *stat, first bool) {
	switch {
	case !first:
		c.res.Hard++
	case src.isFile():
		c.res.Files++
	case src.isLink():
		c.res.Links++
	default:
		c.res.Specials++
	}
}
