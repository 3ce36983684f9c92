package catchup

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var errOtherDevice = errors.New("it is another file system, mounted there; give it as a tree of its own")

// removeAll removes an entry with all that is in it, and says how many entries
// that were. It stops at another file system.
func removeAll(dir int, name string, dev uint64) (n int64, err error) {
	err = unix.Unlinkat(dir, name, 0)
	switch {
	case err == nil:
		return 1, nil
	case errors.Is(err, unix.ENOENT):
		return 0, nil
	}
	st, lerr := lstat(dir, name)
	if lerr != nil || !st.isDir() {
		return 0, refused(dir, name, "remove it", err)
	}
	if st.dev != dev {
		return 0, errOtherDevice
	}
	fd, err := openDir(dir, name)
	if err != nil {
		return 0, fmt.Errorf("remove it: %w", err)
	}
	defer closeFD(fd)
	list, err := names(fd)
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		m, err := removeAll(fd, e.name, dev)
		n += m
		if err != nil {
			return n, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil {
		return n, refused(dir, name, "remove it", err)
	}
	return n + 1, nil
}

// refused explains an error of a change as far as the file tells.
func refused(dir int, name, what string, err error) error {
	if errors.Is(err, unix.EPERM) {
		if why := immutable(dir, name); why != "" {
			return fmt.Errorf("%s: %s: %w", what, why, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}
