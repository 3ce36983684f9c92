package images

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// leftovers of package installation: what is machine-bound, or differs from one
// build to the next and is made again when needed.
var leftovers = []string{
	"var/lib/apt/lists/*", "var/cache/apt/*", "var/log/*.log", "var/log/apt/*", "var/cache/debconf/*-old",
	"var/cache/ldconfig/aux-cache", "var/lib/dpkg/*-old", "var/lib/dbus/machine-id", "etc/*-", "etc/.pwd.lock",
	"tmp/*", "run/*", "dev/*", "mnt/imago", "usr/sbin/policy-rc.d", "etc/resolv.conf", "etc/hostname",
	"var/lib/systemd/random-seed", "root/.bash_history", "etc/ssh/ssh_host_*",
}

// clean removes leftovers and settles the times.
func (j *job) clean(context.Context) error {
	for _, pattern := range leftovers {
		found, err := filepath.Glob(filepath.Join(j.root, pattern))
		if err != nil {
			return err
		}
		for _, p := range found {
			if err := os.RemoveAll(p); err != nil {
				return err
			}
		}
	}
	// Empty, it makes systemd take the boot for a first one; instances get their own.
	if err := os.WriteFile(filepath.Join(j.root, "etc/machine-id"), nil, 0o444); err != nil {
		return err
	}
	return j.clampTimes()
}

// clampTimes makes nothing newer than the recipe's epoch.
func (j *job) clampTimes() error {
	epoch := time.Unix(j.r.epoch(), 0)
	var late []string
	err := filepath.WalkDir(j.root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && info.ModTime().After(epoch) {
			late = append(late, p)
		}
		return err
	})
	if err != nil {
		return err
	}
	ts := unix.NsecToTimespec(epoch.UnixNano())
	for _, p := range late {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "set time", Path: p, Err: err}
		}
	}
	return nil
}
