package catchup

import (
	"time"

	"golang.org/x/sys/unix"
)

// stat is what is kept of an entry's attributes.
type stat struct {
	mode, uid, gid            uint32
	nlink, rdev, dev, ino     uint64
	size, atime, mtime, ctime int64
}

func statFrom(st *unix.Stat_t) stat {
	return stat{
		mode: st.Mode, uid: st.Uid, gid: st.Gid, nlink: uint64(st.Nlink), rdev: uint64(st.Rdev), dev: uint64(st.Dev), ino: st.Ino,
		size: st.Size, atime: nanos(st.Atim), mtime: nanos(st.Mtim), ctime: nanos(st.Ctim),
	}
}

// nanos counts from 1970. A time outside of what int64 holds (1677 to 2262)
// wraps, which only ever makes two times differ.
func nanos(ts unix.Timespec) int64 { return ts.Sec*int64(time.Second) + ts.Nsec }

// lstat looks at a name below an open directory; no link is followed.
func lstat(dir int, name string) (stat, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return stat{}, err
	}
	return statFrom(&st), nil
}

func fstat(fd int) (stat, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return stat{}, err
	}
	return statFrom(&st), nil
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func (s *stat) kind() uint32  { return s.mode & unix.S_IFMT }
func (s *stat) isDir() bool   { return s.kind() == unix.S_IFDIR }
func (s *stat) isFile() bool  { return s.kind() == unix.S_IFREG }
func (s *stat) isLink() bool  { return s.kind() == unix.S_IFLNK }
func (s *stat) perm() uint32  { return s.mode & 0o7777 }
func (s *stat) inode() inode  { return inode{s.dev, s.ino} }
func (s *stat) linked() bool  { return s.nlink > 1 && !s.isDir() }
func (s *stat) isSock() bool  { return s.kind() == unix.S_IFSOCK }
func (s *stat) device() bool  { return s.kind() == unix.S_IFCHR || s.kind() == unix.S_IFBLK }
func (s *stat) special() bool { return s.device() || s.kind() == unix.S_IFIFO }

// inode names a file of a mounted file system.
type inode struct{ dev, ino uint64 }

// ident is what tells whether an entry is still the one that was seen before.
// It leaves out the device number, which is another one for each view.
type ident struct {
	ino                uint64
	size, mtime, ctime int64
}

// ident of a directory leaves out its size, which means nothing.
func (s *stat) ident() ident {
	id := ident{ino: s.ino, size: s.size, mtime: s.mtime, ctime: s.ctime}
	if s.isDir() {
		id.size = 0
	}
	return id
}

// targetIdent is the ident of what we made. Further names of a file come and go
// after it was noted, and each changes its ctime, which then counts for nothing.
func targetIdent(src, dst *stat) ident {
	id := dst.ident()
	if src.linked() {
		id.ctime = 0
	}
	return id
}

// like compares two target idents, one of which may have been noted when the
// file had several names.
func (id ident) like(o ident) bool {
	if id.ctime == 0 || o.ctime == 0 {
		id.ctime, o.ctime = 0, 0
	}
	return id == o
}

// sameTime allows for a file system that keeps whole seconds.
func sameTime(src, dst int64) bool {
	return src == dst || dst == src-((src%int64(time.Second))+int64(time.Second))%int64(time.Second)
}
