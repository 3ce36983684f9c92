package catchup

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// fewSyncs is up to how many files are synced one by one. Above that the whole
// file system is: it may have other services' data to write, too.
const fewSyncs = 64

// syncsAtOnce lets several syncs share one commit of the file system's journal.
const syncsAtOnce = 8

// durable is what must be on stable storage before the call may say so.
type durable struct {
	mu   sync.Mutex
	fds  []int
	many bool
}

// add keeps a descriptor of its own.
func (d *durable) add(fd int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.many {
		return
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil || len(d.fds) >= fewSyncs {
		d.many = true
		closeFD(own)
		for _, fd := range d.fds {
			closeFD(fd)
		}
		d.fds = nil
		return
	}
	d.fds = append(d.fds, own)
}

func (d *durable) close() {
	for _, fd := range d.fds {
		closeFD(fd)
	}
	d.fds = nil
}

// sync is called when no worker is left.
func (d *durable) sync(root int) error {
	if d.many {
		return syncfs(root)
	}
	return syncAll(len(d.fds), func(i int) error { return unix.Fsync(d.fds[i]) })
}

func syncfs(fd int) error {
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("flush the file system: %w", err)
	}
	return nil
}

func syncAll(n int, one func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, syncsAtOnce)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = retry(func() error { return one(i) })
			<-slots
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// syncStaged puts all staged content on stable storage.
func (c *run) syncStaged() error {
	var staged []string
	for _, o := range c.queue {
		if o.staged != "" && o.err == nil && o.src.isFile() {
			staged = append(staged, o.staged)
		}
	}
	if len(staged) == 0 {
		return nil
	}
	dir, err := c.stage.dir()
	if err != nil {
		return err
	}
	if len(staged) > fewSyncs {
		return syncfs(dir)
	}
	return syncAll(len(staged), func(i int) error {
		fd, err := openFile(dir, staged[i], unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer closeFD(fd)
		return unix.Fsync(fd)
	})
}
