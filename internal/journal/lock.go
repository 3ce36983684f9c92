package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another imago is changing things; errors.As with [*LockedError] gives which.
var ErrLocked = errors.New("another imago holds the lock")

// LockedError names the holder of the lock. PID is 0 when it is not known.
type LockedError struct{ PID int }

// Error names the holder.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return ErrLocked.Error()
	}
	return fmt.Sprintf("%v: process %d", ErrLocked, e.PID)
}

// Is makes errors.Is(err, ErrLocked) true.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// Lock is the writer lock of a journal. The kernel frees it when the process dies, however it dies.
type Lock struct {
	journal *Journal
	file    *os.File
}

// Lock takes the writer lock without waiting; while another process, or this one, holds it the error is a
// [*LockedError]. Every write needs it.
func (j *Journal) Lock(ctx context.Context) (*Lock, error) {
	if j.readOnly {
		return nil, errors.New("lock journal: it is open for reading only")
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("lock journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	path := filepath.Join(j.dir, "lock")
	// Close-on-exec is set by os: a child, such as a hold keeper, does not inherit the lock.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := readPID(path)
		closing := file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(&LockedError{PID: holder}, closing)
		}
		return nil, errors.Join(fmt.Errorf("lock %q: %w", path, err), closing)
	}
	if err := writePID(file); err != nil {
		return nil, errors.Join(fmt.Errorf("write pid to lock: %w", err), file.Close())
	}
	j.lock = &Lock{journal: j, file: file}
	return j.lock, nil
}

// Unlock gives the lock up. A second call does nothing.
func (l *Lock) Unlock() error {
	l.journal.mu.Lock()
	defer l.journal.mu.Unlock()
	if l.journal.lock != l {
		return nil
	}
	l.journal.lock = nil
	// The pid is removed while the lock is still ours, so that it never names one who does not hold it.
	return errors.Join(l.file.Truncate(0), l.file.Close())
}

func writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func readPID(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}
