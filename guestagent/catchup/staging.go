package catchup

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// stagingDir lies directly below the target's root while something changes
// there: on the same file system, so that what is ready can be renamed to its
// place. It is never copied, listed or counted. It also says, when it is found
// by the next call, that the last one was interrupted.
const stagingDir = ".imago-sync"

// staging is the private directory.
type staging struct {
	root int
	// interrupted: it was there when the call began.
	interrupted bool
	last        atomic.Int64 // number of the last nameless thing in it

	mu   sync.Mutex
	fd   int
	made bool
	err  error
}

func (s *staging) open(root int) {
	s.root = root
	_, err := lstat(root, stagingDir)
	s.interrupted = err == nil
}

// dir makes the directory when the first change comes, and returns it.
func (s *staging) dir() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.made {
		s.made = true
		s.fd, s.err = s.make()
		if s.err != nil {
			s.err = fmt.Errorf("make the staging directory %s: %w", stagingDir, s.err)
		}
	}
	return s.fd, s.err
}

func (s *staging) make() (int, error) {
	st, err := lstat(s.root, stagingDir)
	if err == nil && (!st.isDir() || int(st.uid) != os.Geteuid()) {
		// Somebody else's, or a link to elsewhere.
		if _, err := removeAll(s.root, stagingDir, st.dev); err != nil {
			return -1, err
		}
		err = unix.ENOENT
	}
	if errors.Is(err, unix.ENOENT) {
		err = unix.Mkdirat(s.root, stagingDir, 0o700)
	}
	if err != nil {
		return -1, err
	}
	fd, err := openDir(s.root, stagingDir)
	if err != nil {
		return -1, err
	}
	if err := errors.Join(unix.Fchmod(fd, 0o700), s.tidy(fd)); err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// tidy keeps only files that may be half of what is wanted again.
func (s *staging) tidy(fd int) error {
	list, err := names(fd)
	if err != nil {
		return err
	}
	for _, e := range list {
		st, err := lstat(fd, e.name)
		if err != nil {
			return err
		}
		if st.isFile() && len(e.name) == stagedName {
			continue
		}
		if _, err := removeAll(fd, e.name, st.dev); err != nil {
			return err
		}
	}
	return nil
}

// stagedName is the length of a staged file's name.
const stagedName = 32

// fileName is the same each time, so that an interrupted file is resumed.
func fileName(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:stagedName/2])
}

// anyName names a link or a special file in the staging directory.
func (s *staging) anyName() string { return "n" + strconv.FormatInt(s.last.Add(1), 10) }

// file makes the private file for path, or finds what an interrupted call left
// of it.
func (s *staging) file(path string) (fd int, name string, had int64, err error) {
	dir, err := s.dir()
	if err != nil {
		return -1, "", 0, err
	}
	name = fileName(path)
	if s.interrupted {
		if fd, err = openFile(dir, name, unix.O_RDWR); err == nil {
			st, err := fstat(fd)
			if err == nil && st.isFile() && st.nlink == 1 && int(st.uid) == os.Geteuid() {
				return fd, name, st.size, nil
			}
			closeFD(fd)
		}
		if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return -1, "", 0, fmt.Errorf("stage the file: %w", err)
		}
	}
	if fd, err = openFile(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL); err != nil {
		return -1, "", 0, fmt.Errorf("stage the file: %w", err)
	}
	return fd, name, 0, nil
}

// remove ends the staging. Nothing of it is needed any more.
func (s *staging) remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.made && !s.interrupted {
		return nil
	}
	s.made = true
	closeFD(s.fd)
	s.fd = -1
	st, err := lstat(s.root, stagingDir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		_, err = removeAll(s.root, stagingDir, st.dev)
	}
	if err != nil {
		return fmt.Errorf("remove the staging directory: %w", err)
	}
	return nil
}

// used tells whether the root's own time was changed by the staging.
func (s *staging) used() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made || s.interrupted
}

func (s *staging) close() { closeFD(s.fd) }
