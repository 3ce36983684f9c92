package hypervisor

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirtxml"
)

// guestCache is where package snapshot's tests keep Debian's cloud kernel.
const guestCache = "/var/cache/imago/test-guest/root"

var guestModules = []string{"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"}

// buildGuest assembles kernel and initramfs of the test guest in the test's own
// folder, in the outer process, which has the network that go build may need.
func buildGuest(t *testing.T, dir string) {
	t.Helper()
	kernels, _ := filepath.Glob(filepath.Join(guestCache, "boot/vmlinuz-*"))
	if len(kernels) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI must have a kernel in %s; the tests of package snapshot fetch it", guestCache)
		}
		t.Skipf("no kernel in %s; the tests of package snapshot fetch it", guestCache)
	}
	copyTo(t, kernels[0], filepath.Join(dir, "vmlinuz"))
	init := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", init, "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, out)
	}
	var a cpio
	for _, d := range []string{"dev", "proc", "sys", "modules", "mnt"} {
		a.add(d, 0o040755, nil)
	}
	data, err := os.ReadFile(init)
	must(t, err)
	a.add("init", 0o100755, data)
	for _, m := range guestModules {
		a.add("modules/"+m+".ko", 0o100644, module(t, m))
	}
	a.add("TRAILER!!!", 0, nil)
	must(t, os.WriteFile(filepath.Join(dir, "initrd"), a.Bytes(), 0o600))
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o600))
}

func module(t *testing.T, name string) []byte {
	t.Helper()
	var data []byte
	_ = filepath.WalkDir(filepath.Join(guestCache, "lib/modules"), func(path string, _ fs.DirEntry, _ error) error {
		if filepath.Base(path) == name+".ko" {
			data, _ = os.ReadFile(path)
		}
		return nil
	})
	if data == nil {
		t.Fatalf("no module %s in %s", name, guestCache)
	}
	return data
}

// cpio writes the "newc" format that the kernel unpacks.
type cpio struct {
	bytes.Buffer
	inode int
}

func (c *cpio) add(name string, mode int, data []byte) {
	c.inode++
	fmt.Fprintf(c, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	c.WriteString(name + "\x00")
	c.pad()
	c.Write(data)
	c.pad()
}

func (c *cpio) pad() {
	for c.Len()%4 != 0 {
		c.WriteByte(0)
	}
}

// testGuest is a running guest that answers on its second serial port.
type testGuest struct {
	t      *testing.T
	dom    *Domain
	socket string
	conn   net.Conn
	in     *bufio.Reader
}

// startGuest boots the test guest as a VM of the universe is made, with an ext4
// file system in a qcow2 image on its first disk.
func startGuest(t *testing.T, conn *Conn, name string, memoryMiB uint, change func(*libvirtxml.Domain)) *testGuest {
	t.Helper()
	dir := os.Getenv(inNamespaces)
	raw, disk := filepath.Join(dir, name+".raw"), filepath.Join(dir, name+".qcow2")
	qemuImg(t, "create", "-q", "-f", "raw", raw, "64M")
	if out, err := exec.Command("mkfs.ext4", "-q", raw).CombinedOutput(); err != nil {
		t.Fatalf("mkfs: %v %s", err, out)
	}
	qemuImg(t, "convert", "-f", "raw", "-O", "qcow2", raw, disk)
	doc, err := NewMachineXML(MachineSpec{Name: name, UUID: cloneUUID, Run: "r1", MemoryMiB: memoryMiB, VCPUs: 1, Type: TypeQEMU,
		Disks:  []MachineDisk{{CloneDisk: CloneDisk{Path: disk, Format: "qcow2"}, Target: "vda", Serial: "ROOT"}},
		Kernel: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initrd"), Cmdline: "console=ttyS0 quiet panic=-1",
		ConsoleLog: filepath.Join(dir, name+".console")})
	must(t, err)
	socket := filepath.Join("/run", name+".sock")
	first, port := uint(0), uint(1)
	doc.Devices.Serials[0].Target = &libvirtxml.DomainSerialTarget{Port: &first}
	doc.Devices.Serials = append(doc.Devices.Serials, libvirtxml.DomainSerial{
		Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind", Path: socket}},
		Target: &libvirtxml.DomainSerialTarget{Port: &port}})
	if change != nil {
		change(doc)
	}
	dom, err := conn.StartDomain(t.Context(), doc)
	must(t, err)
	g := &testGuest{t: t, dom: dom, socket: socket}
	t.Cleanup(func() {
		if g.conn != nil {
			_ = g.conn.Close()
		}
		_ = dom.raw.Destroy()
		_ = dom.raw.UndefineFlags(0)
		_ = dom.Free()
	})
	g.waitReady(filepath.Join(dir, name+".console"))
	g.dial()
	return g
}

// dial connects to the guest's port, also after QEMU was started anew.
func (g *testGuest) dial() {
	g.t.Helper()
	if g.conn != nil {
		_ = g.conn.Close()
	}
	var err error
	g.conn, err = net.Dial("unix", g.socket)
	must(g.t, err)
	g.in = bufio.NewReader(g.conn)
	g.is("ping", "pong")
}

func (g *testGuest) waitReady(console string) {
	g.t.Helper()
	for until := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		text, _ := os.ReadFile(console)
		if strings.Contains(string(text), "READY") {
			return
		}
		if time.Now().After(until) || strings.Contains(string(text), "GUEST FAILED") {
			g.t.Fatalf("the guest does not boot: %s", text)
		}
	}
}

// ask sends a command and returns the answer.
func (g *testGuest) ask(command string) string {
	g.t.Helper()
	must(g.t, g.conn.SetDeadline(time.Now().Add(60*time.Second)))
	_, err := fmt.Fprintln(g.conn, command)
	must(g.t, err)
	line, err := g.in.ReadString('\n')
	must(g.t, err)
	return strings.TrimSpace(line)
}

func (g *testGuest) is(command, want string) {
	g.t.Helper()
	if got := g.ask(command); got != want {
		g.t.Fatalf("%s: %q, want %q", command, got, want)
	}
}
