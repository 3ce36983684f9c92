package catchup

import (
	"strings"

	"golang.org/x/sys/unix"
)

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK

// openDir opens a directory by one name below another; never a link.
func openDir(dir int, name string) (int, error) {
	var fd int
	err := retry(func() (err error) { fd, err = unix.Openat(dir, name, dirFlags, 0); return err })
	return fd, err
}

// openFile opens a file by one name, without waiting for a fifo or a device
// that took its place.
func openFile(dir int, name string, flags int) (int, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
		return err
	})
	return fd, err
}

// openParent opens the directory that path lies in, component by component
// from the root, and returns it with the last name. The caller closes it.
func openParent(root int, path string) (fd int, name string, err error) {
	parts := strings.Split(path, "/")
	if fd, err = openDir(root, "."); err != nil {
		return -1, "", err
	}
	for _, part := range parts[:len(parts)-1] {
		next, err := openDir(fd, part)
		closeFD(fd)
		if err != nil {
			return -1, "", err
		}
		fd = next
	}
	return fd, parts[len(parts)-1], nil
}

// closeFD closes what was only read, or was synced before.
func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

// join makes a path below the root.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
