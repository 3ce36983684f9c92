package viewmount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Disk says which disk, and what of it.
type Disk struct {
	Serial string
	// Partition is its number; 0 is the whole disk.
	Partition int
	// FileSystem is ext4, xfs or btrfs; empty finds out.
	FileSystem string
	// Wait is how long the disk may take to appear.
	Wait time.Duration
}

// roots are where the kernel shows devices; tests have their own.
type roots struct{ sys, dev string }

var system = roots{sys: "/sys", dev: "/dev"}

const (
	pollFirst = 2 * time.Millisecond
	pollMost  = 20 * time.Millisecond
	// partitionWait is how long a disk that is there may hide its partitions.
	partitionWait = 2 * time.Second
)

// find waits for the disk and returns the path of its device. It reads sysfs,
// where a disk is as soon as the kernel knows it: links by serial come later,
// from udev, which may be slow or missing.
func (r roots) find(ctx context.Context, d Disk) (string, error) {
	if d.Serial == "" {
		return "", errors.New("no serial number given")
	}
	ctx, cancel := context.WithTimeout(ctx, d.Wait)
	defer cancel()
	for wait := pollFirst; ; wait = min(2*wait, pollMost) {
		dev, err := r.look(d.Serial)
		if err != nil {
			return "", err
		}
		if dev != "" {
			return r.part(ctx, dev, d.Partition)
		}
		if err := sleep(ctx, wait); err != nil {
			return "", fmt.Errorf("no disk with the serial number %q appeared within %s; there are %s", d.Serial, d.Wait, r.serials())
		}
	}
}

// sleep returns an error once the time is over.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// look returns the name of the disk (vdb), or nothing.
func (r roots) look(serial string) (string, error) {
	var found []string
	for name, s := range r.disks() {
		if s == serial {
			found = append(found, name)
		}
	}
	if len(found) > 1 {
		slices.Sort(found)
		return "", fmt.Errorf("the disks %s all have the serial number %q", strings.Join(found, ", "), serial)
	}
	if len(found) == 1 {
		return found[0], nil
	}
	// A disk on another bus: only udev knows its serial number.
	to, err := os.Readlink(filepath.Join(r.dev, "disk/by-id/virtio-"+serial))
	if err != nil || !goodName(filepath.Base(to)) {
		return "", nil
	}
	return filepath.Base(to), nil
}

func goodName(name string) bool { return name != "" && !strings.ContainsAny(name, "./\x00") }

// disks maps names to serial numbers.
func (r roots) disks() map[string]string {
	entries, _ := os.ReadDir(filepath.Join(r.sys, "block"))
	all := make(map[string]string, len(entries))
	for _, e := range entries {
		for _, file := range []string{"serial", "device/serial"} { // virtio; NVMe
			text, err := os.ReadFile(filepath.Join(r.sys, "block", e.Name(), file))
			if s := strings.Trim(string(text), " \x00\n"); err == nil && s != "" {
				all[e.Name()] = s
				break
			}
		}
	}
	return all
}

func (r roots) serials() string {
	var list []string
	for name, s := range r.disks() {
		list = append(list, fmt.Sprintf("%s (%q)", name, s))
	}
	if len(list) == 0 {
		return "none with a serial number"
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// part returns the path of the device for the disk or its partition.
func (r roots) part(ctx context.Context, disk string, number int) (string, error) {
	if number == 0 {
		return r.node(ctx, disk, filepath.Join(r.sys, "block", disk))
	}
	ctx, cancel := context.WithTimeout(ctx, partitionWait)
	defer cancel()
	for {
		parts := r.partitions(disk)
		if name, ok := parts[number]; ok {
			return r.node(ctx, name, filepath.Join(r.sys, "block", disk, name))
		}
		if sleep(ctx, pollMost) != nil {
			return "", fmt.Errorf("the disk %s has no partition %d; it has %v", disk, number, sortedKeys(parts))
		}
	}
}

func sortedKeys(m map[int]string) []int {
	var keys []int
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (r roots) partitions(disk string) map[int]string {
	dir := filepath.Join(r.sys, "block", disk)
	entries, _ := os.ReadDir(dir)
	parts := map[int]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name(), "partition"))
		if err != nil {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			parts[n] = e.Name()
		}
	}
	return parts
}

// node waits for the file in /dev and makes sure that it is the device.
func (r roots) node(ctx context.Context, name, sys string) (string, error) {
	path := filepath.Join(r.dev, name)
	text, err := os.ReadFile(filepath.Join(sys, "dev"))
	if err != nil {
		return "", fmt.Errorf("look at the disk %s: %w", name, err)
	}
	want := strings.TrimSpace(string(text))
	for {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && want == fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)) {
			return path, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look at the disk %s: %w", name, err)
		}
		if sleep(ctx, pollFirst) != nil {
			return "", fmt.Errorf("the disk %s (%s) is there, but %s is not", name, want, path)
		}
	}
}
