package catchup

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// attributed is a file whose extended attributes can be read and set. It is
// reached by descriptor, or by a path below one for what cannot be opened.
type attributed struct {
	fd   int
	path string
}

// below is an entry that is not to be opened: a link or a special file.
func belowFD(dir int, name string) attributed {
	return attributed{fd: -1, path: fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)}
}

func (a attributed) list(buf []byte) (int, error) {
	if a.fd >= 0 {
		return unix.Flistxattr(a.fd, buf)
	}
	return unix.Llistxattr(a.path, buf)
}

func (a attributed) get(name string, buf []byte) (int, error) {
	if a.fd >= 0 {
		return unix.Fgetxattr(a.fd, name, buf)
	}
	return unix.Lgetxattr(a.path, name, buf)
}

func (a attributed) set(name string, value []byte) error {
	if a.fd >= 0 {
		return unix.Fsetxattr(a.fd, name, value, 0)
	}
	return unix.Lsetxattr(a.path, name, value, 0)
}

func (a attributed) remove(name string) error {
	if a.fd >= 0 {
		return unix.Fremovexattr(a.fd, name)
	}
	return unix.Lremovexattr(a.path, name)
}

// notCarried are attributes that belong to the system and not to the file: they
// are made by the guest's own policy or keys.
var notCarried = []string{"security.selinux", "security.ima", "security.evm", "security.apparmor", "security.SMACK64"}

// carried tells whether an attribute goes with a file.
func carried(name string) bool {
	for _, prefix := range notCarried {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	switch space, _, _ := strings.Cut(name, "."); space {
	case "user", "trusted", "security":
		return true
	}
	return name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// grown calls with a buffer that is large enough.
func grown(call func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := call(buf)
		switch {
		case err == nil:
			return buf[:n], nil
		case !errors.Is(err, unix.ERANGE) || len(buf) > 1<<20:
			return nil, err
		}
		buf = make([]byte, 4*len(buf))
	}
}

// names lists the attributes that are carried, sorted.
func (a attributed) names() ([]string, error) {
	raw, err := grown(a.list)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) && a.fd < 0 {
		return nil, nil
	}
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	var list []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(raw), "\x00"), "\x00") {
		if carried(name) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}

// all reads the attributes that are carried.
func (a attributed) all() (map[string][]byte, error) {
	list, err := a.names()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	values := make(map[string][]byte, len(list))
	for _, name := range list {
		v, err := grown(func(buf []byte) (int, error) { return a.get(name, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the attribute %s: %w", name, err)
		}
		values[name] = v
	}
	return values, nil
}

// equalAttributes gives dst the attributes of src, or only tells whether they
// differ.
func equalAttributes(src, dst attributed, only bool) (differ bool, err error) {
	want, err := src.all()
	if err != nil {
		return false, err
	}
	have, err := dst.all()
	if err != nil {
		return false, err
	}
	for name := range have {
		if _, keep := want[name]; keep {
			continue
		}
		differ = true
		if only {
			return true, nil
		}
		if err := dst.remove(name); err != nil && !errors.Is(err, unix.ENODATA) {
			return true, fmt.Errorf("remove the attribute %s: %w", name, err)
		}
	}
	for name, value := range want {
		if old, ok := have[name]; ok && bytes.Equal(old, value) {
			continue
		}
		differ = true
		if only {
			return true, nil
		}
		if err := dst.set(name, value); err != nil {
			return true, fmt.Errorf("set the attribute %s: %w", name, err)
		}
	}
	return differ, nil
}
