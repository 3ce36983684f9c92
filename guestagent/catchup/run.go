package catchup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How long before a view a change may have left the same ctime as a later one.
const (
	// frozenWindow covers file systems that keep whole seconds.
	frozenWindow = 2 * time.Second
	// cutWindow: without a freeze a new ctime may be on the disk long before the
	// data that it belongs to. Linux writes data back after half a minute.
	cutWindow = 2 * time.Minute
)

// lockWait is how long an earlier call may take to notice that its host is gone.
const lockWait = 40 * time.Second

// run is one call.
type run struct {
	ctx   context.Context
	opts  Options
	res   Result
	count counters

	ahead *ahead
	root  *pair
	dev   uint64 // of the target
	stage *staging
	links map[inode]*leader
	// claims says for which source inode a target inode with several names is kept.
	claims map[uint64]inode

	old     []*reader // the newest first
	files   []io.Closer
	out     *writer
	partsAt []string
	changed bool  // the manifest is not what the old one says
	reread  bool  // something was read only because it was not settled
	newest  int64 // ctime seen, not after the view
	clamp   int64

	queue   []*op
	holding int // pairs held by the queue
	workers workers
	durable durable
}

// Run makes the tree at opts.Target equal to the one below source.
func Run(ctx context.Context, source *os.File, opts Options) (Result, error) {
	opts.Full = opts.Full || opts.CheckOnly
	if err := opts.check(); err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &run{ctx: ctx, opts: opts, links: map[inode]*leader{}, claims: map[uint64]inode{}, newest: -1 << 63}
	c.clamp = time.Now().UnixNano()
	if !opts.Taken.IsZero() {
		c.clamp = opts.Taken.UnixNano()
	}
	c.workers.init(cancel)
	stop := c.report()
	err := c.whole(source)
	stop()
	c.count.into(&c.res)
	if err == nil {
		err = c.res.verdict(opts)
	}
	return c.res, err
}

func (o Options) check() error {
	if !filepath.IsAbs(o.Target) || filepath.Clean(o.Target) != o.Target || o.Target == "/" {
		return fmt.Errorf("the target %q is not a clean absolute path", o.Target)
	}
	if o.Manifest == "" {
		return nil
	}
	if !filepath.IsAbs(o.Manifest) || filepath.Clean(o.Manifest) != o.Manifest {
		return fmt.Errorf("the manifest %q is not a clean absolute path", o.Manifest)
	}
	if strings.HasPrefix(o.Manifest, o.Target+"/") {
		return fmt.Errorf("the manifest %q lies in the target %q", o.Manifest, o.Target)
	}
	return nil
}

// report tells the progress until the function returned is called.
func (c *run) report() (stop func()) {
	if c.opts.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				c.opts.Progress(c.count.progress(c.opts.Limit))
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

func (c *run) whole(source *os.File) (err error) {
	if err := c.open(source); err != nil {
		return err
	}
	defer c.close()
	if err := c.openManifests(); err != nil {
		return err
	}
	streams := make([]stream, 0, len(c.old))
	for _, r := range c.old {
		streams = append(streams, stream{r, true})
	}
	c.ahead = newAhead()
	list, err := names(c.root.src)
	if err == nil {
		err = stats(c.root.src, list)
	}
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	err = c.dir(c.root, list, streams, 0)
	if err == nil {
		err = c.flush()
	}
	c.workers.wait()
	c.drop() // what a broken-off call left holds directories open
	if err == nil {
		err = c.end(streams)
	}
	if err != nil && c.out != nil {
		return errors.Join(err, c.out.keep())
	}
	return err
}

// open opens both roots and keeps others away from the target's.
func (c *run) open(source *os.File) error {
	c.root = &pair{src: int(source.Fd()), dst: -1, refs: 1}
	src, err := fstat(c.root.src)
	if err != nil || !src.isDir() {
		return errors.Join(err, fmt.Errorf("the source %q is not a directory", source.Name()))
	}
	c.root.st = src
	c.see(&src)
	c.stage = &staging{root: -1, fd: -1}
	if !c.opts.CheckOnly {
		if err := os.MkdirAll(c.opts.Target, 0o755); err != nil {
			return fmt.Errorf("make the target: %w", err)
		}
	}
	fd, err := unix.Open(c.opts.Target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) && c.opts.CheckOnly {
		return nil // everything differs
	}
	if err != nil {
		return fmt.Errorf("open the target %q: %w", c.opts.Target, err)
	}
	c.root.dst = fd
	dst, err := fstat(fd)
	if err == nil && dst.inode() == src.inode() {
		err = errors.New("it is the source itself")
	}
	if err == nil && !c.opts.CheckOnly {
		err = c.lock(fd)
	}
	if err != nil {
		closeFD(fd)
		return fmt.Errorf("open the target %q: %w", c.opts.Target, err)
	}
	c.dev = dst.dev
	c.stage.open(fd)
	return nil
}

// lock waits for an agent whose connection broke and who may not know it yet.
func (c *run) lock(fd int) error {
	for until := time.Now().Add(lockWait); ; {
		err := retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(until) {
			return errors.New("another call is at work there")
		}
		select {
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *run) close() {
	for _, f := range c.files {
		_ = f.Close()
	}
	c.durable.close()
	c.stage.close()
	closeFD(c.root.dst)
}

// see takes the newest ctime for a time that the view is not older than. One
// from a clock that was once wrong must not count.
func (c *run) see(st *stat) { c.newest = max(c.newest, min(st.ctime, c.clamp)) }

// name adds one to a list of named entries.
func named(list *[]string, count *int64, path string) {
	*count++
	if len(*list) < maxNamed {
		*list = append(*list, path)
	}
}

func (c *run) differs(path string) { named(&c.res.Different, &c.res.Differed, path) }

// fatal are errors after which nothing else will go better.
var fatal = []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.ENODEV, unix.ENXIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EBADMSG,
	context.Canceled, context.DeadlineExceeded}

// fault notes an entry that cannot be made equal; an error is one that ends the call.
func (c *run) fault(path string, err error) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	for _, f := range fatal {
		if errors.Is(err, f) {
			return fmt.Errorf("%q: %w", path, err)
		}
	}
	c.res.FaultCount++
	c.changed = true
	if len(c.res.Faults) < maxNamed {
		c.res.Faults = append(c.res.Faults, Fault{Path: path, Err: err})
	}
	return nil
}
