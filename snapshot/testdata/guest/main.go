// Command guest is the whole user space of the test guest: it loads drivers,
// checks what its disks hold, runs the QEMU guest agent, and then writes the
// pattern to its disks in turn for ever, telling the console how far it is.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"imago.dev/imago/snapshot/testdata/pattern"
)

var modules = []string{"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk", "virtio_console"}

func main() {
	if err := run(); err != nil {
		fmt.Println("GUEST FAILED", err)
	}
	for {
		time.Sleep(time.Hour)
	}
}

func run() error {
	for _, m := range [][3]string{{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"}} {
		_ = os.MkdirAll(m[1], 0o755)
		if err := syscall.Mount(m[0], m[1], m[2], 0, ""); err != nil && !errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	for _, m := range modules {
		if err := load("/modules/" + m + ".ko"); err != nil {
			return fmt.Errorf("load %s: %w", m, err)
		}
	}
	disks, err := open("/dev/vda", "/dev/vdb")
	if err != nil {
		return err
	}
	n, err := check(disks)
	if err != nil {
		return err
	}
	if err := agent(); err != nil {
		fmt.Println("NO AGENT", err)
	}
	return write(disks, n)
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	empty := []byte{0}
	_, _, errno := syscall.Syscall(313 /* finit_module */, f.Fd(), uintptr(unsafe.Pointer(&empty[0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func open(paths ...string) ([]*os.File, error) {
	var list []*os.File
	for _, p := range paths {
		if err := wait(p); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(p, os.O_RDWR|syscall.O_DIRECT, 0)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

func wait(path string) error {
	for range 500 {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s does not appear", path)
}

// check prints what state the disks are in, before anything is written.
func check(disks []*os.File) (uint64, error) {
	var states []uint64
	for _, f := range disks {
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return 0, err
		}
		data := aligned(int(size))
		for off := 0; off < len(data); off += 1 << 20 {
			if _, err := f.ReadAt(data[off:off+1<<20], int64(off)); err != nil {
				return 0, err
			}
		}
		n, err := pattern.State(data)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f.Name(), err)
		}
		states = append(states, n)
	}
	fmt.Printf("STATE %d %d\n", states[0], states[1])
	return states[1], nil // a write that only the first disk got is repeated
}

// aligned makes memory that O_DIRECT accepts.
func aligned(n int) []byte {
	buf, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return buf
}

// agent starts the real guest agent, with a real file system to freeze if
// there is a third disk.
func agent() error {
	if _, err := os.Stat("/usr/sbin/qemu-ga"); err != nil {
		return err
	}
	port := ""
	for range 200 {
		if port = agentPort(); port != "" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if port == "" {
		return errors.New("no port")
	}
	if wait("/dev/vdc") == nil {
		_ = os.MkdirAll("/data", 0o755)
		if err := syscall.Mount("/dev/vdc", "/data", "ext4", 0, ""); err != nil {
			return err
		}
	}
	_ = os.MkdirAll("/run", 0o755)
	cmd := exec.Command("/usr/sbin/qemu-ga", "-m", "virtio-serial", "-p", port, "-t", "/run")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Start()
}

func agentPort() string {
	entries, _ := os.ReadDir("/sys/class/virtio-ports")
	for _, e := range entries {
		name, _ := os.ReadFile("/sys/class/virtio-ports/" + e.Name() + "/name")
		if strings.TrimSpace(string(name)) == "org.qemu.guest_agent.0" {
			return "/dev/" + e.Name()
		}
	}
	return ""
}

func write(disks []*os.File, n uint64) error {
	size, err := disks[0].Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	blocks := uint64(size) / pattern.Block
	block := aligned(pattern.Block)
	last := time.Now()
	for {
		n++
		pattern.Fill(block, n)
		for _, f := range disks {
			if _, err := f.WriteAt(block, int64(pattern.Place(n, blocks)*pattern.Block)); err != nil {
				return err
			}
		}
		if time.Since(last) > 100*time.Millisecond {
			last = time.Now()
			fmt.Printf("COUNT %d\n", n)
		}
		time.Sleep(time.Millisecond)
	}
}
