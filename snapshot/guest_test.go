package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// guestCache keeps what the test guest is made of between runs.
const guestCache = "/var/cache/imago/test-guest"

// guestModules in the order in which they are loaded.
var guestModules = []string{"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk", "virtio_console"}

// buildGuest assembles kernel and initramfs of the test guest from Debian's
// cloud kernel, Debian's guest agent and testdata/guest. It returns their folder.
func buildGuest(t *testing.T) string {
	t.Helper()
	needTools(t, "apt-get", "apt-cache", "dpkg")
	root := unpackPackages(t)
	dir := t.TempDir()
	kernels, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if len(kernels) == 0 {
		t.Fatalf("no kernel in %s", root)
	}
	copyFile(t, kernels[0], filepath.Join(dir, "vmlinuz"))
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "init"), "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, out)
	}
	must(t, os.WriteFile(filepath.Join(dir, "initrd"), initramfs(t, root, filepath.Join(dir, "init")), 0o600))
	return dir
}

// unpackPackages downloads without installing: the host gets no kernel.
func unpackPackages(t *testing.T) string {
	t.Helper()
	root := filepath.Join(guestCache, "root")
	if _, err := os.Stat(root); err == nil {
		return root
	}
	must(t, os.MkdirAll(guestCache, 0o755))
	work, err := os.MkdirTemp(guestCache, "get-*")
	must(t, err)
	defer func() { _ = os.RemoveAll(work) }()
	get := exec.Command("apt-get", "download", kernelPackage(t), "qemu-guest-agent")
	get.Dir = work
	out, err := get.CombinedOutput()
	need(t, err == nil, "Debian's package mirror: "+string(out))
	debs, _ := filepath.Glob(filepath.Join(work, "*.deb"))
	for _, deb := range debs {
		run(t, "dpkg", "-x", deb, filepath.Join(work, "root"))
	}
	if err := os.Rename(filepath.Join(work, "root"), root); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return root
}

func kernelPackage(t *testing.T) string {
	t.Helper()
	name := regexp.MustCompile(`Depends: (linux-image-\S+)`).FindStringSubmatch(run(t, "apt-cache", "depends", "linux-image-cloud-amd64"))
	need(t, name != nil, "the package linux-image-cloud-amd64")
	return name[1]
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o755))
}

// initramfs packs the guest's files as a cpio archive.
func initramfs(t *testing.T, root, init string) []byte {
	t.Helper()
	var a cpio
	for _, dir := range []string{"dev", "proc", "sys", "modules", "usr", "usr/sbin", "lib", "lib64"} {
		a.add(dir, 0o040755, nil)
	}
	a.add("init", 0o100755, readFile(t, init))
	for _, m := range guestModules {
		found := findModule(t, root, m)
		a.add("modules/"+m+".ko", 0o100644, readFile(t, found))
	}
	agent := filepath.Join(root, "usr/sbin/qemu-ga")
	a.add("usr/sbin/qemu-ga", 0o100755, readFile(t, agent))
	for _, lib := range regexp.MustCompile(`(/\S+) \(0x`).FindAllStringSubmatch(run(t, "ldd", agent), -1) {
		dir := "lib/"
		if strings.Contains(lib[1], "ld-linux") {
			dir = "lib64/"
		}
		a.add(dir+filepath.Base(lib[1]), 0o100755, readFile(t, lib[1]))
	}
	a.add("TRAILER!!!", 0, nil)
	return a.Bytes()
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

func findModule(t *testing.T, root, name string) string {
	t.Helper()
	var found string
	_ = filepath.WalkDir(filepath.Join(root, "lib/modules"), func(path string, _ fs.DirEntry, _ error) error {
		if filepath.Base(path) == name+".ko" {
			found = path
		}
		return nil
	})
	if found == "" {
		t.Fatalf("no module %s in %s", name, root)
	}
	return found
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

// guest is a running test guest.
type guest struct {
	t       *testing.T
	dom     *libvirt.Domain
	name    string
	console string
	once    sync.Once
}

// diskSize of the two pattern disks.
const diskSize = 32 << 20

// startGuest boots a guest on the disks given.
func startGuest(t *testing.T, conn *libvirt.Connect, name string, disks []libvirtxml.DomainDisk, channels ...libvirtxml.DomainChannel) *guest {
	t.Helper()
	g := &guest{t: t, name: name, console: filepath.Join(os.Getenv(inNamespaces), name+".console")}
	files := os.Getenv("IMAGO_TEST_GUEST")
	doc := libvirtxml.Domain{
		Type: "qemu", Name: name,
		Memory: &libvirtxml.DomainMemory{Value: 192, Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: 1},
		OS: &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"},
			Kernel: files + "/vmlinuz", Initrd: files + "/initrd", Cmdline: "console=ttyS0 quiet panic=-1"},
		Devices: &libvirtxml.DomainDeviceList{
			Disks:       disks,
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
			Serials:     []libvirtxml.DomainSerial{{Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{Path: g.console}}}},
			Channels:    channels,
		},
	}
	text, err := doc.Marshal()
	must(t, err)
	g.dom, err = conn.DomainDefineXML(text)
	must(t, err)
	must(t, g.dom.Create())
	t.Cleanup(g.remove)
	return g
}

// withAgent is the port for the guest agent.
func withAgent() libvirtxml.DomainChannel {
	return libvirtxml.DomainChannel{Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
		Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: agentChannel}}}
}

func (g *guest) remove() {
	g.once.Do(func() {
		_ = g.dom.Destroy()
		_ = g.dom.Undefine()
		_ = g.dom.Free()
	})
}

// said returns all numbers that the console shows after a word, newest last.
func (g *guest) said(word string) [][]uint64 {
	text, _ := os.ReadFile(g.console)
	var all [][]uint64
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != word || !strings.HasSuffix(line, "\n") {
			continue
		}
		var nums []uint64
		for _, f := range fields[1:] {
			n, err := strconv.ParseUint(f, 10, 64)
			if err == nil {
				nums = append(nums, n)
			}
		}
		all = append(all, nums)
	}
	return all
}

// count is how many writes the guest has said it made.
func (g *guest) count() uint64 {
	all := g.said("COUNT")
	if len(all) == 0 || len(all[len(all)-1]) == 0 {
		return 0
	}
	return all[len(all)-1][0]
}

func (g *guest) waitCount(past uint64) {
	g.t.Helper()
	eventually(g.t, 40*time.Second, fmt.Sprintf("guest %s writes past %d", g.name, past), func() error {
		if n := g.count(); n <= past {
			text, _ := os.ReadFile(g.console)
			return fmt.Errorf("it is at %d; console: %s", n, tail(text, 600))
		}
		return nil
	})
}

func tail(text []byte, n int) []byte {
	if len(text) > n {
		return text[len(text)-n:]
	}
	return text
}

func (g *guest) waitAgent() {
	g.t.Helper()
	eventually(g.t, 30*time.Second, "guest agent of "+g.name, func() error {
		status, err := g.freezeStatus()
		if err == nil && status == "thawed" {
			return nil
		}
		text, _ := os.ReadFile(g.console)
		return fmt.Errorf("it says %q: %w; console: %s", status, err, tail(text, 600))
	})
}

func (g *guest) freezeStatus() (string, error) {
	out, err := g.dom.QemuAgentCommand(`{"execute":"guest-fsfreeze-status"}`, 5, 0)
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`"return":"(\w+)"`).FindStringSubmatch(out)
	if m == nil {
		return "", errors.New(out)
	}
	return m[1], nil
}

func fileDisk(target, path, format string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: format},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: target, Bus: "virtio"}}
}
