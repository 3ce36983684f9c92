package catchup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// listed is a name in a directory.
type listed struct {
	name string
	ino  uint64
	st   stat
	gone bool
}

// names lists a directory in byte order. The descriptor's position is set back
// first, so it may be listed again.
func names(dir int) ([]listed, error) {
	if _, err := unix.Seek(dir, 0, 0); err != nil {
		return nil, err
	}
	var all []listed
	buf := make([]byte, 32<<10)
	for {
		var n int
		err := retry(func() (err error) { n, err = unix.Getdents(dir, buf); return err })
		if err != nil {
			return nil, fmt.Errorf("list the directory: %w", err)
		}
		if n <= 0 {
			break
		}
		if all, err = appendNames(all, buf[:n]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// The layout of linux_dirent64, which the kernel fills in.
const (
	direntLength = 16
	direntName   = 19
)

func appendNames(all []listed, buf []byte) ([]listed, error) {
	for len(buf) > 0 {
		if len(buf) < direntName {
			return nil, fmt.Errorf("list the directory: %w", unix.EBADMSG)
		}
		size := int(binary.NativeEndian.Uint16(buf[direntLength:]))
		if size < direntName || size > len(buf) {
			return nil, fmt.Errorf("list the directory: %w", unix.EBADMSG)
		}
		raw, ino := buf[direntName:size], binary.NativeEndian.Uint64(buf)
		if end := bytes.IndexByte(raw, 0); end >= 0 {
			raw = raw[:end]
		}
		if name := string(raw); goodName(name) {
			all = append(all, listed{name: name, ino: ino})
		} else if name != "." && name != ".." {
			// A damaged file system; it must not lead us elsewhere.
			return nil, fmt.Errorf("list the directory: the name %q is impossible: %w", name, unix.EBADMSG)
		}
		buf = buf[size:]
	}
	return all, nil
}

// goodName tells whether a name stays in its directory.
func goodName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// stats looks at all entries of a directory, in the order of their inodes, in
// which a file system that was just mounted can read them at a stretch.
func stats(dir int, all []listed) error {
	order := make([]int32, len(all))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		switch {
		case all[a].ino < all[b].ino:
			return -1
		case all[a].ino > all[b].ino:
			return 1
		}
		return 0
	})
	for _, i := range order {
		st, err := lstat(dir, all[i].name)
		switch err {
		case nil:
			all[i].st = st
		case unix.ENOENT:
			all[i].gone = true // what vanished since the listing is not there
		default:
			return fmt.Errorf("look at %q: %w", all[i].name, err)
		}
	}
	return nil
}
