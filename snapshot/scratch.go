package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// scratchLayout allocates everything at creation, metadata included, so no
// write by the guest can ever find the scratch full: QEMU would pause the
// production VM for that. Extended L2 entries give 4 KiB granularity on 128 KiB clusters.
const scratchLayout = "extended_l2=on,cluster_size=128k,preallocation=falloc"

// Upper bounds of what qcow2 with that layout adds to the disk's size: a
// 16-byte L2 entry and a 2-byte refcount per cluster, and the tables' ends.
const (
	scratchCluster   = 128 << 10
	bytesPerCluster  = 16 + 2
	scratchFixedCost = 2 << 20
)

// scratchBytes is how much disk space the scratch file of a disk takes at most.
func scratchBytes(capacity uint64) uint64 {
	clusters := (capacity + scratchCluster - 1) / scratchCluster
	return clusters*scratchCluster + clusters*bytesPerCluster + scratchFixedCost
}

// checkSpace refuses a view whose scratch files would not fit.
func checkSpace(sources []Source, opts Options) error {
	need := opts.Reserve
	for _, s := range sources {
		for _, d := range s.Disks {
			need += scratchBytes(d.Capacity)
		}
	}
	free, err := freeBytes(opts.Dir)
	if err != nil {
		return err
	}
	if need > free {
		return &NoSpaceError{Dir: opts.Dir, Need: need, Free: free}
	}
	return nil
}

func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the free space in %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// createScratch makes one scratch file with all its space.
func createScratch(ctx context.Context, path string, capacity uint64, opts Options) error {
	err := qemuImg(ctx, "create", "-q", "-f", "qcow2", "-u", "-o", opts.hooks.scratchLayout, "--", path, strconv.FormatUint(capacity, 10))
	if errors.Is(err, syscall.ENOSPC) {
		free, _ := freeBytes(opts.Dir)
		return &NoSpaceError{Dir: opts.Dir, Need: scratchBytes(capacity), Free: free}
	}
	if err != nil {
		return fmt.Errorf("create scratch file %s: %w", path, err)
	}
	if opts.hooks.skipSpace {
		return nil
	}
	return checkAllocated(path, capacity)
}

// checkAllocated finds file systems that accept fallocate but reserve nothing.
func checkAllocated(path string, capacity uint64) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("look at scratch file %s: %w", path, err)
	}
	if got := uint64(st.Blocks) * 512; got < capacity {
		return fmt.Errorf("scratch file %s got only %s of %s: its file system does not reserve space, use another one", path, size(got), size(capacity))
	}
	return nil
}

// qemuImg runs qemu-img. Its "No space left" becomes ENOSPC.
func qemuImg(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "qemu-img", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	text := strings.TrimSpace(stderr.String())
	if strings.Contains(text, "No space left on device") {
		return fmt.Errorf("qemu-img %s: %w", args[0], syscall.ENOSPC)
	}
	return fmt.Errorf("qemu-img %s: %w: %s", args[0], err, text)
}
