package netswitch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where named namespaces are mounted, as ip-netns(8) does.
const netnsDir = "/run/netns"

func netnsPath(name string) string { return filepath.Join(netnsDir, name) }

// openNetNS opens a named namespace. It returns ErrNoUniverse when there is none,
// also when only the empty mount point of a crashed creation is left.
func openNetNS(name string) (netns.NsHandle, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(netnsPath(name), &fs)
	if errors.Is(err, unix.ENOENT) || err == nil && fs.Type != unix.NSFS_MAGIC {
		return netns.None(), fmt.Errorf("namespace %q: %w", name, ErrNoUniverse)
	}
	if err != nil {
		return netns.None(), fmt.Errorf("look at namespace %q: %w", name, err)
	}
	h, err := netns.GetFromPath(netnsPath(name))
	if err != nil {
		return netns.None(), fmt.Errorf("open namespace %q: %w", name, err)
	}
	return h, nil
}

// createNetNS makes a named namespace. A mount point left by a crash is used again.
func createNetNS(name string) error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", netnsDir, err)
	}
	f, err := os.OpenFile(netnsPath(name), os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("make mount point of namespace %q: %w", name, err)
	}
	f.Close()
	done := make(chan error, 1)
	go func() {
		// The thread ends with this goroutine, because it is never unlocked: it
		// must not serve others from inside the new namespace.
		runtime.LockOSThread()
		done <- unshareOnto(netnsPath(name))
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("make namespace %q: %w", name, err)
	}
	return nil
}

func unshareOnto(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// deleteNetNS unmounts and removes a named namespace; none is no error.
func deleteNetNS(name string) error {
	err := unix.Unmount(netnsPath(name), unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount namespace %q: %w", name, err)
	}
	if err := os.Remove(netnsPath(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove namespace %q: %w", name, err)
	}
	return nil
}

// inNetNS runs f on a thread that is inside the namespace for its duration.
// f must not start goroutines that do network work, they would be outside.
func inNetNS(h netns.NsHandle, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- onThreadIn(h, f) }()
	return <-done
}

func onThreadIn(h netns.NsHandle, f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own namespace: %w", err)
	}
	defer home.Close()
	if err := netns.Set(h); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace: %w", err)
	}
	result := f()
	// A thread that cannot go home stays locked and dies with the goroutine.
	if err := netns.Set(home); err == nil {
		runtime.UnlockOSThread()
	}
	return result
}

// removeEmptyMountPoint removes what a crash between making the mount point and
// mounting left; a file with content is not ours.
func removeEmptyMountPoint(name string) error {
	st, err := os.Lstat(netnsPath(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at namespace %q: %w", name, err)
	}
	if !st.Mode().IsRegular() || st.Size() != 0 {
		return fmt.Errorf("namespace %q: %w", name, ErrForeign)
	}
	return deleteNetNS(name)
}
