package viewmount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mountFlags: nothing in a view is run, trusted or changed. A file system that
// was cut off replays its journal all the same, which is why the device must
// be writable.
const mountFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME

// busyWait is how long a mount may be in use after the last of ours.
const busyWait = 5 * time.Second

// mount mounts the device on a directory.
func mount(device, where, kind string) error {
	if kind == "" {
		found, err := fileSystem(device)
		if err != nil {
			return fmt.Errorf("mount %s: %w", device, err)
		}
		kind = found
	}
	data, err := mountData(kind)
	if err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	if err := unix.Mount(device, where, kind, mountFlags, data); err != nil {
		return fmt.Errorf("mount %s (%s): %w%s", device, kind, err, hint(kind, err))
	}
	return nil
}

// hint says what an error of mount(2) most often means here.
func hint(kind string, err error) string {
	switch {
	case errors.Is(err, unix.ENODEV):
		return ": the guest's kernel has no " + kind
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES):
		return ": its journal must be replayed, but the disk is read-only"
	case errors.Is(err, unix.EEXIST) && kind == "btrfs":
		return ": the guest has a file system of the same UUID mounted"
	}
	return ""
}

// unmount unmounts a directory and waits until nothing uses the device.
func unmount(where string) error {
	for until := time.Now().Add(busyWait); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Unmount(where, unix.UMOUNT_NOFOLLOW)
		if err == nil || errors.Is(err, unix.EINVAL) { // not mounted
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(until) {
			return fmt.Errorf("unmount %s: %w", where, err)
		}
	}
}

// Mount waits for the disk and mounts it where everybody in the guest sees it.
func Mount(ctx context.Context, d Disk, where string) error {
	if err := checkWhere(where); err != nil {
		return err
	}
	if err := os.MkdirAll(where, 0o700); err != nil {
		return fmt.Errorf("make the place to mount on: %w", err)
	}
	// An earlier call's view may still be there, of a disk that is gone.
	if mounted, err := isMount(where); err != nil {
		return err
	} else if mounted {
		if err := unmount(where); err != nil {
			return err
		}
	}
	if entries, err := os.ReadDir(where); err != nil || len(entries) > 0 {
		return errors.Join(err, fmt.Errorf("%s is not an empty directory", where))
	}
	device, err := system.find(ctx, d)
	if err != nil {
		return err
	}
	return mount(device, where, d.FileSystem)
}

// Unmount unmounts what Mount mounted, and removes the directory.
func Unmount(where string) error {
	if err := checkWhere(where); err != nil {
		return err
	}
	if _, err := os.Lstat(where); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	mounted, err := isMount(where)
	if err == nil && mounted {
		err = unmount(where)
	}
	if err != nil {
		return err
	}
	if err := os.Remove(where); err != nil {
		return fmt.Errorf("remove the place that was mounted on: %w", err)
	}
	return nil
}

// isMount tells whether something is mounted exactly there.
func isMount(where string) (bool, error) {
	// Of this thread: another one may be in a namespace of its own (Private).
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return false, fmt.Errorf("read what is mounted: %w", err)
	}
	return mountedAt(string(text), where), nil
}

// mountedAt reads mountinfo, whose fifth field is where something is mounted.
func mountedAt(mountinfo, where string) bool {
	escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(where)
	for line := range strings.Lines(mountinfo) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == escaped {
			return true
		}
	}
	return false
}

func checkWhere(where string) error {
	if !filepath.IsAbs(where) || filepath.Clean(where) != where || strings.Count(where, "/") < 2 {
		return fmt.Errorf("%q is not a clean absolute path at least two levels deep", where)
	}
	return nil
}
