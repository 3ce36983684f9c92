package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// isolateGuest is isolate for tests with a guest that has user space.
func isolateGuest(t *testing.T) (outer bool) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts virtual machines")
	}
	if dir := os.Getenv(inNamespaces); dir != "" {
		return false
	}
	return isolateWith(t, func(dir string) { buildGuest(t, dir) })
}

// marked makes an image of 1 MiB that begins with text.
func marked(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(os.Getenv(inNamespaces), name)
	data := make([]byte, 1<<20)
	copy(data, text)
	must(t, os.WriteFile(path, data, 0o600))
	return path
}

// TestHotplug attaches and detaches disks of a running guest.
func TestHotplug(t *testing.T) {
	if isolateGuest(t) {
		return
	}
	conn := privateLibvirt(t)
	ctx := t.Context()
	g := startGuest(t, conn, "hot", 192, nil)
	top := filepath.Join(os.Getenv(inNamespaces), "top.qcow2")
	view := serveView(t, marked(t, "view.raw", "the view"))
	qemuImg(t, "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "nbd+unix:///x?socket="+view, top, "1M")

	spec := DiskSpec{Path: top, Format: "qcow2", Backing: &Backing{Socket: view, Export: "x"}, Serial: "view-1"}
	for round := range 3 {
		begin := time.Now()
		target, err := g.dom.AttachDisk(ctx, spec)
		must(t, err)
		attached := time.Since(begin)
		if target != "vdb" {
			t.Errorf("target %s", target)
		}
		g.is("wait view-1", "is vdb")
		seen := time.Since(begin)
		g.is("head vdb", fmt.Sprintf("is %x ro=0", "the view\x00\x00\x00\x00\x00\x00\x00\x00"))
		again, err := g.dom.AttachDisk(ctx, spec)
		if err != nil || again != target {
			t.Errorf("a second time: %q %v", again, err)
		}
		begin = time.Now()
		must(t, g.dom.DetachDisk(ctx, "view-1"))
		t.Logf("round %d: attached after %s, seen by the guest after %s, detached in %s", round, attached, seen, time.Since(begin))
		g.is("gone view-1", "is")
		must(t, g.dom.DetachDisk(ctx, "view-1"))
	}
	// Nothing of it is left in QEMU, so the image may be removed.
	nodes, err := g.dom.BlockNodes(ctx)
	must(t, err)
	for _, n := range nodes {
		if strings.Contains(n.File, "top.qcow2") || strings.Contains(n.File, "nbd") {
			t.Errorf("left: %+v", n)
		}
	}
	t.Run("several", func(t *testing.T) { testSeveral(t, g) })
	t.Run("refused", func(t *testing.T) { testHotplugRefuses(t, g) })
}

// serveView is an NBD server as a frozen view is.
func serveView(t *testing.T, image string) string {
	t.Helper()
	socket := "/run/view.sock"
	cmd := exec.Command("qemu-nbd", "-f", "raw", "-r", "-t", "-e", "4", "-x", "x", "-k", socket, image)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 200 {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("qemu-nbd does not start")
	return ""
}

// testSeveral asks how many disks a new machine takes beside each other.
func testSeveral(t *testing.T, g *testGuest) {
	ctx := t.Context()
	n := 0
	for ; n < 8; n++ {
		spec := DiskSpec{Path: marked(t, fmt.Sprint("s", n), "x"), Format: "raw", Serial: fmt.Sprint("s", n), ReadOnly: true}
		_, err := g.dom.AttachDisk(ctx, spec)
		if errors.Is(err, ErrNoSlot) {
			t.Logf("no more: %v", err)
			break
		}
		must(t, err)
		g.ask("wait " + spec.Serial)
	}
	if n < spareSlots {
		t.Errorf("only %d disks fit", n)
	}
	if got := g.ask("head vdb"); !strings.HasSuffix(got, "ro=1") {
		t.Errorf("a read-only disk: %s", got)
	}
	for i := range n {
		must(t, g.dom.DetachDisk(ctx, fmt.Sprint("s", i)))
	}
}

func testHotplugRefuses(t *testing.T, g *testGuest) {
	ctx := t.Context()
	one := marked(t, "one", "x")
	must(t, second(g.dom.AttachDisk(ctx, DiskSpec{Path: one, Format: "raw", Serial: "one"})))
	for name, c := range map[string]struct {
		spec DiskSpec
		want error
	}{
		"a serial that is taken": {DiskSpec{Path: marked(t, "two", "x"), Format: "raw", Serial: "one"}, ErrSerialTaken},
		"the root's serial":      {DiskSpec{Path: one, Format: "raw", Serial: "ROOT"}, ErrSerialTaken},
		"no serial":              {DiskSpec{Path: one, Format: "raw"}, nil},
		"a long serial":          {DiskSpec{Path: one, Format: "raw", Serial: strings.Repeat("x", 21)}, nil},
		"a format to be guessed": {DiskSpec{Path: one, Serial: "x"}, nil},
		"an image that is not":   {DiskSpec{Path: "/none", Format: "raw", Serial: "x"}, nil},
		"a qcow2 that is a raw":  {DiskSpec{Path: one, Format: "qcow2", Serial: "x"}, nil},
	} {
		_, err := g.dom.AttachDisk(ctx, c.spec)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", c.spec.Serial)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, g.dom.DetachDisk(ctx, "one"))
	must(t, g.dom.DetachDisk(ctx, "never was there"))

	// A guest that does not run at the moment lets go of nothing.
	must(t, second(g.dom.AttachDisk(ctx, DiskSpec{Path: one, Format: "raw", Serial: "one"})))
	g.ask("wait one")
	must(t, g.dom.raw.Suspend())
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := g.dom.DetachDisk(short, "one"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a suspended guest: %v", err)
	}
	must(t, g.dom.raw.Resume())
	must(t, g.dom.DetachDisk(ctx, "one"))

	mark := g.dom.uuid
	g.dom.uuid = prodUUID // its mark is another one's then
	if _, err := g.dom.AttachDisk(ctx, DiskSpec{Path: one, Format: "raw", Serial: "one"}); !errors.Is(err, ErrNotOurs) {
		t.Errorf("not ours: %v", err)
	}
	if err := g.dom.DetachDisk(ctx, "ROOT"); !errors.Is(err, ErrNotOurs) {
		t.Errorf("not ours: %v", err)
	}
	g.dom.uuid = mark
	must(t, g.dom.raw.Destroy())
	if _, err := g.dom.AttachDisk(ctx, DiskSpec{Path: one, Format: "raw", Serial: "one"}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("off: %v", err)
	}
	must(t, g.dom.DetachDisk(ctx, "one"))
}

func second[T any](_ T, err error) error { return err }
