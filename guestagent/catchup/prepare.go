package catchup

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// prepare runs in a worker: it finds out whether an entry is equal, and stages
// what has to take its place.
func (c *run) prepare(o *op, bufs *buffers) error {
	switch {
	case o.src.isFile():
		return c.prepareFile(o, bufs)
	case o.src.isLink():
		return c.prepareLink(o)
	}
	return c.prepareSpecial(o)
}

func (c *run) prepareFile(o *op, bufs *buffers) error {
	src, err := c.openSource(o)
	if err != nil {
		return err
	}
	defer src.close()
	if unkept(src.fd) {
		c.count.unkept.Add(1)
	}
	dst, same, err := c.compare(o, src, bufs)
	defer closeFD(dst)
	switch {
	case err != nil:
		return err
	case same:
		return c.touch(o, src, dst)
	case c.opts.CheckOnly:
		o.unequal = true
		return nil
	}
	return c.stageFile(o, src, bufs)
}

func (c *run) openSource(o *op) (*source, error) {
	fd, err := openFile(o.at.src, o.name, unix.O_RDONLY|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) { // not its owner
		fd, err = openFile(o.at.src, o.name, unix.O_RDONLY)
	}
	if err != nil {
		return nil, fmt.Errorf("open the source: %w", err)
	}
	st, err := fstat(fd)
	if err == nil && !st.isFile() {
		err = errChanged
	}
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	o.src = st
	return &source{c: c, fd: fd, size: st.size}, nil
}

func (s *source) close() {
	if s.size >= dropAbove {
		_ = unix.Fadvise(s.fd, 0, 0, unix.FADV_DONTNEED)
	}
	closeFD(s.fd)
}

// compare opens the target's file and tells whether it has the same content.
func (c *run) compare(o *op, src *source, bufs *buffers) (fd int, same bool, err error) {
	if !o.exists || !o.dst.isFile() || o.fresh && !c.opts.CheckOnly {
		return -1, false, nil
	}
	fd, err = openFile(o.at.dst, o.name, unix.O_RDONLY)
	if err != nil {
		return -1, false, fmt.Errorf("open the target: %w", err)
	}
	dst, err := fstat(fd)
	if err != nil || dst.ino != o.dst.ino || dst.size != src.size {
		return fd, false, err
	}
	o.dst = dst
	same, err = c.equal(c.ctx, src, fd, bufs)
	// A file that is staged after this is counted then, if it is compared.
	if err == nil && (same || !c.opts.Full || c.opts.CheckOnly) {
		c.count.compared.Add(1)
		c.count.comparedBytes.Add(src.high)
		if same {
			c.count.comparedBytes.Add(src.size - src.high) // holes
		}
	}
	return fd, same, err
}

// touch gives a file of equal content its attributes.
func (c *run) touch(o *op, src *source, fd int) error {
	w, from := c.want(&o.src), attributed{fd: src.fd}
	differ, err := equalAttributes(from, attributed{fd: fd}, true)
	if err != nil || !differ && w.matches(&o.dst) {
		return err
	}
	if c.opts.CheckOnly {
		o.unequal = true
		return nil
	}
	if _, err := c.stage.dir(); err != nil {
		return err
	}
	if err := w.setFD(fd, &o.dst, from); err != nil {
		return refused(o.at.dst, o.name, "set its attributes", err)
	}
	o.touched = true
	c.durable.add(fd)
	return nil
}

func (c *run) stageFile(o *op, src *source, bufs *buffers) error {
	fd, name, had, err := c.stage.file(o.path())
	if err != nil {
		return err
	}
	defer closeFD(fd)
	if err := c.fill(c.ctx, src, fd, had, bufs); err != nil {
		return err
	}
	if err := c.verify(src, fd, bufs); err != nil {
		return err
	}
	// Of a source that is not frozen after all, half of two versions is worse than none.
	if st, err := fstat(src.fd); err != nil || st.ident() != o.src.ident() {
		return errors.Join(errChanged, err)
	}
	st, err := fstat(fd)
	if err != nil {
		return err
	}
	if err := c.want(&o.src).setFD(fd, &st, attributed{fd: src.fd}); err != nil {
		return err
	}
	o.staged = name
	return nil
}

// verify compares what was written once more, where everything is compared.
func (c *run) verify(src *source, fd int, bufs *buffers) error {
	if !c.opts.Full {
		return nil
	}
	same, err := c.equal(c.ctx, src, fd, bufs)
	if err != nil {
		return err
	}
	if !same {
		return errors.New("what was written is not what was read")
	}
	c.count.compared.Add(1)
	c.count.comparedBytes.Add(src.size)
	return nil
}

func (c *run) prepareLink(o *op) error {
	to, err := readlink(o.at.src, o.name)
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	if o.exists && o.dst.isLink() {
		have, err := readlink(o.at.dst, o.name)
		if err != nil {
			return fmt.Errorf("read the target: %w", err)
		}
		if have == to {
			equal, err := c.equalBelow(o)
			if err != nil || equal {
				return err
			}
		}
	}
	return c.stageBelow(o, func(dir int, name string) error { return unix.Symlinkat(to, dir, name) })
}

func (c *run) prepareSpecial(o *op) error {
	if o.exists && o.dst.kind() == o.src.kind() && (!o.src.device() || o.dst.rdev == o.src.rdev) {
		equal, err := c.equalBelow(o)
		if err != nil || equal {
			return err
		}
	}
	return c.stageBelow(o, func(dir int, name string) error {
		return unix.Mknodat(dir, name, o.src.kind()|0o600, int(o.src.rdev))
	})
}

// equalBelow compares the attributes of what cannot be opened.
func (c *run) equalBelow(o *op) (bool, error) {
	if o.fresh && !c.opts.CheckOnly || !c.want(&o.src).matches(&o.dst) {
		return false, nil
	}
	differ, err := equalAttributes(belowFD(o.at.src, o.name), belowFD(o.at.dst, o.name), true)
	return !differ, err
}

func (c *run) stageBelow(o *op, mk func(dir int, name string) error) error {
	if c.opts.CheckOnly {
		o.unequal = true
		return nil
	}
	dir, err := c.stage.dir()
	if err != nil {
		return err
	}
	name := c.stage.anyName()
	if err := mk(dir, name); err != nil {
		return fmt.Errorf("make it: %w", err)
	}
	if err := c.want(&o.src).setBelow(dir, name, o.src.kind(), belowFD(o.at.src, o.name)); err != nil {
		return err
	}
	o.staged = name
	return nil
}

func readlink(dir int, name string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		var n int
		err := retry(func() (err error) { n, err = unix.Readlinkat(dir, name, buf); return err })
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}
