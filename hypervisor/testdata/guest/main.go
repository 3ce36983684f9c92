// Command guest is the whole user space of this package's test guest: it mounts
// its first disk and answers commands, one line each, on its second serial port.
package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var modules = []string{"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"}

func main() {
	if err := run(); err != nil {
		fmt.Println("GUEST FAILED", err)
	}
	for {
		time.Sleep(time.Hour)
	}
}

func run() error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	for _, m := range modules {
		f, err := os.Open("/modules/" + m + ".ko")
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
			return fmt.Errorf("load %s: %w", m, err)
		}
	}
	for range 500 {
		if _, err := os.Stat("/dev/vda"); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := unix.Mount("/dev/vda", "/mnt", "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	return serve()
}

func serve() error {
	port, err := os.OpenFile("/dev/ttyS1", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	t, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, t); err != nil {
		return err
	}
	g := &guest{memory: map[string]string{}}
	go g.tick()
	fmt.Println("READY")
	in := bufio.NewScanner(port)
	for in.Scan() {
		answer, err := g.do(strings.Fields(in.Text()))
		if err != nil {
			answer = "error " + err.Error()
		}
		if _, err := fmt.Fprintf(port, "%s\n", strings.ReplaceAll(answer, "\n", " ")); err != nil {
			return err
		}
	}
	return in.Err()
}

type guest struct {
	memory  map[string]string
	ballast []byte
	ticks   atomic.Int64
}

// tick counts in memory, so that a test sees whether time stood still.
func (g *guest) tick() {
	for {
		time.Sleep(10 * time.Millisecond)
		g.ticks.Add(1)
	}
}

func (g *guest) do(words []string) (string, error) {
	if len(words) == 0 {
		return "", errors.New("no command")
	}
	arg := append(words[1:], "", "")
	switch words[0] {
	case "ping":
		return "pong", nil
	case "ticks":
		return strconv.FormatInt(g.ticks.Load(), 10), nil
	case "set":
		g.memory[arg[0]] = arg[1]
		return "ok", nil
	case "get":
		return "is " + g.memory[arg[0]], nil
	case "write":
		return "ok", write(filepath.Join("/mnt", arg[0]), arg[1])
	case "read":
		text, err := os.ReadFile(filepath.Join("/mnt", arg[0]))
		return "is " + string(text), err
	case "fill":
		n, err := strconv.Atoi(arg[0])
		if err != nil {
			return "", err
		}
		g.ballast = make([]byte, n<<20)
		_, err = rand.Read(g.ballast)
		return "ok", err
	case "wait":
		return wait(arg[0], true)
	case "gone":
		return wait(arg[0], false)
	case "head":
		return head(arg[0])
	}
	return "", errors.New("unknown command")
}

func write(path, text string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// wait waits for a disk by its serial number to be there, or not.
func wait(serial string, there bool) (string, error) {
	for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(2 * time.Millisecond) {
		found := ""
		files, _ := filepath.Glob("/sys/block/*/serial")
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(text)) == serial {
				found = filepath.Base(filepath.Dir(f))
			}
		}
		if (found != "") == there {
			return "is " + found, nil
		}
	}
	return "", errors.New("not within 20 s")
}

func head(dev string) (string, error) {
	f, err := os.Open("/dev/" + filepath.Base(dev))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 16)
	if _, err := f.Read(b); err != nil {
		return "", err
	}
	ro, _ := os.ReadFile("/sys/block/" + filepath.Base(dev) + "/ro")
	return fmt.Sprintf("is %x ro=%s", b, strings.TrimSpace(string(ro))), nil
}
