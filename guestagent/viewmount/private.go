package viewmount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Private is a disk mounted in a namespace of its own: nobody else in the guest
// sees it, and it is gone when this process is, however that ends.
type Private struct {
	root *os.File
	// Waited and Mounted are how long that took.
	Waited, Mounted time.Duration

	end   chan struct{}
	ended chan error
}

// MountPrivate waits for the disk and mounts it. The caller must Close it.
func MountPrivate(ctx context.Context, d Disk) (*Private, error) {
	begin := time.Now()
	device, err := system.find(ctx, d)
	if err != nil {
		return nil, err
	}
	return mountPrivate(device, d.FileSystem, begin)
}

func mountPrivate(device, kind string, begin time.Time) (*Private, error) {
	found := time.Now()
	p := &Private{Waited: found.Sub(begin), end: make(chan struct{}), ended: make(chan error, 1)}
	made := make(chan error)
	go p.hold(device, kind, made)
	if err := <-made; err != nil {
		return nil, err
	}
	p.Mounted = time.Since(found)
	return p, nil
}

// hold keeps the namespace, which belongs to one thread. The thread is not
// given back: it ends with this goroutine, and the namespace with it.
func (p *Private) hold(device, kind string, made chan<- error) {
	runtime.LockOSThread()
	where, err := p.mount(device, kind)
	made <- err
	if err != nil {
		return
	}
	<-p.end
	p.ended <- errors.Join(unmount(where), os.Remove(where))
}

func (p *Private) mount(device, kind string) (where string, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return "", fmt.Errorf("make a mount namespace: %w", err)
	}
	// A slave: ours stays here, and what the guest unmounts goes here, too.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return "", fmt.Errorf("make a mount namespace: %w", err)
	}
	if where, err = os.MkdirTemp("", "imago-view-"); err != nil {
		return "", fmt.Errorf("make the place to mount on: %w", err)
	}
	if err = mount(device, where, kind); err != nil {
		return "", errors.Join(err, os.Remove(where))
	}
	if p.root, err = os.Open(where); err != nil {
		return "", errors.Join(err, unmount(where), os.Remove(where))
	}
	return where, nil
}

// Open opens a directory of the view. Links in the path, also absolute ones,
// lead to where they lead in the view.
func (p *Private) Open(path string) (*os.File, error) {
	fd, err := unix.Openat2(int(p.root.Fd()), strings.TrimPrefix(path, "/")+"/.", &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // before Linux 5.6, or a filter
		fd, err = p.step(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %q in the view: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// step opens a path one name after the other, without following links.
func (p *Private) step(path string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(p.root.Fd()), ".", flags, 0)
	for _, name := range strings.Split(filepath.Clean("/"+path), "/") {
		if name == "" || err != nil {
			continue
		}
		var next int
		next, err = unix.Openat(fd, name, flags, 0)
		_ = unix.Close(fd)
		fd = next
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			err = fmt.Errorf("%q is no directory or a link, which this guest's kernel cannot follow safely: %w", name, err)
		}
	}
	return fd, err
}

// Close unmounts the view. Everything opened in it must be closed before.
func (p *Private) Close() error {
	err := p.root.Close()
	close(p.end)
	return errors.Join(err, <-p.ended)
}
