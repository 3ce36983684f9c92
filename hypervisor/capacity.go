package hypervisor

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"
)

// Capacity is what a host has and what is free of it, in bytes.
type Capacity struct {
	MemoryTotal     uint64
	MemoryAvailable uint64
	DiskTotal       uint64
	DiskFree        uint64 // for unprivileged users, so root's reserve stays
	CPUs            int
}

// HostCapacity reads this host's memory and the file system that holds dir.
func HostCapacity(dir string) (Capacity, error) {
	var c Capacity
	if err := c.readDisk(dir); err != nil {
		return Capacity{}, err
	}
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return Capacity{}, fmt.Errorf("read the host's memory: %w", err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		c.readMeminfo(lines.Text())
	}
	if c.MemoryTotal == 0 || c.MemoryAvailable == 0 {
		return Capacity{}, fmt.Errorf("read the host's memory: /proc/meminfo has no MemTotal or MemAvailable")
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return Capacity{}, fmt.Errorf("count the host's CPUs: %w", err)
	}
	c.CPUs = set.Count()
	return c, nil
}

func (c *Capacity) readDisk(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("ask for the free space in %s: %w", dir, err)
	}
	c.DiskTotal, c.DiskFree = st.Blocks*uint64(st.Bsize), st.Bavail*uint64(st.Bsize)
	return nil
}

func (c *Capacity) readMeminfo(line string) {
	name, value, _ := strings.Cut(line, ":")
	kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
	if err != nil {
		return
	}
	switch name {
	case "MemTotal":
		c.MemoryTotal = kib << 10
	case "MemAvailable":
		c.MemoryAvailable = kib << 10
	}
}

// NodeMemory asks libvirt for the memory of the host it runs on, which may be
// another one than this. Available counts caches as free. Both in bytes.
func (c *Conn) NodeMemory(ctx context.Context) (total, available uint64, err error) {
	if ctx.Err() != nil {
		return 0, 0, context.Cause(ctx)
	}
	s, err := c.raw.GetMemoryStats(int(libvirt.NODE_MEMORY_STATS_ALL_CELLS), 0)
	if err != nil {
		return 0, 0, fmt.Errorf("ask libvirt for the host's memory: %w", err)
	}
	return s.Total << 10, (s.Free + s.Buffers + s.Cached) << 10, nil
}
