package catchup

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wanted is what an entry's attributes must be in the target.
type wanted struct {
	uid, gid, mode uint32
	atime, mtime   int64
}

func (c *run) want(src *stat) wanted {
	w := wanted{uid: src.uid, gid: src.gid, mode: src.perm(), atime: src.atime, mtime: src.mtime}
	if c.opts.UID >= 0 {
		w.uid = uint32(c.opts.UID)
	}
	if c.opts.GID >= 0 {
		w.gid = uint32(c.opts.GID)
	}
	return w
}

// matches leaves out the mode of a link, which means nothing, and extended
// attributes.
func (w wanted) matches(dst *stat) bool {
	return w.uid == dst.uid && w.gid == dst.gid && (w.mode == dst.perm() || dst.isLink()) && sameTime(w.mtime, dst.mtime)
}

// setFD gives an open file all its attributes. The owner comes first, since
// changing it takes the set-user-id bit and capabilities away; the time last.
func (w wanted) setFD(fd int, dst *stat, src attributed) error {
	if w.uid != dst.uid || w.gid != dst.gid {
		if err := unix.Fchown(fd, int(w.uid), int(w.gid)); err != nil {
			return fmt.Errorf("set the owner: %w", err)
		}
	}
	// Always: a new owner may have changed it.
	if err := unix.Fchmod(fd, w.mode); err != nil {
		return fmt.Errorf("set the mode: %w", err)
	}
	if _, err := equalAttributes(src, attributed{fd: fd}, false); err != nil {
		return err
	}
	if err := futimens(fd, w.atime, w.mtime); err != nil {
		return fmt.Errorf("set the time: %w", err)
	}
	return nil
}

// setBelow gives attributes to what cannot be opened, a link or a special file.
// The directory must be private: a name is looked up more than once.
func (w wanted) setBelow(dir int, name string, kind uint32, src attributed) error {
	if err := unix.Fchownat(dir, name, int(w.uid), int(w.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the owner: %w", err)
	}
	if kind != unix.S_IFLNK {
		if err := unix.Fchmodat(dir, name, w.mode, 0); err != nil {
			return fmt.Errorf("set the mode: %w", err)
		}
	}
	if _, err := equalAttributes(src, belowFD(dir, name), false); err != nil {
		return err
	}
	times := []unix.Timespec{timespec(w.atime), timespec(w.mtime)}
	if err := unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the time: %w", err)
	}
	return nil
}

// timespec also works for times before 1970.
func timespec(ns int64) unix.Timespec {
	sec, rest := ns/1e9, ns%1e9
	if rest < 0 {
		sec, rest = sec-1, rest+1e9
	}
	return unix.Timespec{Sec: sec, Nsec: rest}
}

// futimens is utimensat(2) without a path, which package unix does not offer.
func futimens(fd int, atime, mtime int64) error {
	times := [2]unix.Timespec{timespec(atime), timespec(mtime)}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// immutable says in words why a change was refused, if the file says so.
func immutable(dir int, name string) string {
	for _, n := range []string{name, "."} {
		var st unix.Statx_t
		if unix.Statx(dir, n, unix.AT_SYMLINK_NOFOLLOW, 0, &st) != nil {
			continue
		}
		what := "it"
		if n == "." {
			what = "its directory"
		}
		switch {
		case st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0:
			return what + " is immutable (chattr +i)"
		case st.Attributes&unix.STATX_ATTR_APPEND != 0:
			return what + " is append-only (chattr +a)"
		}
	}
	return ""
}

// unkept tells whether an open source file is immutable or append-only.
func unkept(fd int) bool {
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &st) != nil {
		return false
	}
	return st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0
}
