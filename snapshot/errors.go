package snapshot

import (
	"errors"
	"fmt"

	"libvirt.org/go/libvirt"
)

var (
	// ErrForeignJob says that a backup or other job which is not ours runs on a
	// domain; libvirt allows one at a time, and we never end somebody else's.
	ErrForeignJob = errors.New("a job that is not imago's runs on the domain")
	// ErrLeftover says that a backup job of an earlier run of ours still runs; see [EndJob].
	ErrLeftover = errors.New("a backup job left by an earlier run still runs on the domain")
	// ErrNotRunning says that a view needs a running domain.
	ErrNotRunning = errors.New("domain is not running")
	// ErrCloneLost says that a clone's disk will never be complete, because the
	// view under it is gone. Throw the clone away; production is not affected.
	ErrCloneLost = errors.New("the clone is lost")
	// ErrGuardFired says that the thaw guard had to act, so the frozen instant was broken.
	ErrGuardFired = errors.New("the thaw guard fired")
	// ErrNoSpace is what [NoSpaceError] is, for errors.Is.
	ErrNoSpace = errors.New("not enough disk space")
)

// NoSpaceError says that the scratch files do not fit. Production was not touched.
type NoSpaceError struct {
	Dir  string
	Need uint64 // bytes
	Free uint64 // bytes
}

func (e *NoSpaceError) Error() string {
	return fmt.Sprintf("scratch files in %s need %s, but only %s are free", e.Dir, size(e.Need), size(e.Free))
}

// Is makes errors.Is(err, ErrNoSpace) true.
func (e *NoSpaceError) Is(target error) bool { return target == ErrNoSpace }

// size writes bytes for people.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}

// isCode tells whether err is a libvirt error with one of the codes.
func isCode(err error, codes ...libvirt.ErrorNumber) bool {
	var lv libvirt.Error
	if !errors.As(err, &lv) {
		return false
	}
	for _, c := range codes {
		if lv.Code == c {
			return true
		}
	}
	return false
}
