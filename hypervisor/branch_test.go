package hypervisor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirtxml"
)

// TestBranch keeps a guest's state, lets it write, and puts it back.
func TestBranch(t *testing.T) {
	if isolateGuest(t) {
		return
	}
	conn := privateLibvirt(t)
	ctx := t.Context()
	g := startGuest(t, conn, "branch", 256, nil)
	if err := g.dom.Revert(ctx, "before"); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("no snapshot: %v", err)
	}
	g.is("fill 64", "ok")
	g.is("set memory one", "ok")
	g.is("write file first", "ok")

	begin := time.Now()
	must(t, g.dom.Snapshot(ctx, "before"))
	t.Logf("a guest of 256 MiB, 64 MiB of it random: kept in %s", time.Since(begin))
	ticks := g.number("ticks")
	if has, err := g.dom.HasSnapshot(ctx, "before"); err != nil || !has {
		t.Errorf("%v %v", has, err)
	}
	if err := g.dom.Snapshot(ctx, "before"); !errors.Is(err, ErrSnapshotExists) {
		t.Errorf("a second time: %v", err)
	}
	for round := range 2 { // the snapshot can be used again
		g.is("set memory two", "ok")
		g.is("write file changed", "ok")
		g.is("write other new", "ok")
		time.Sleep(300 * time.Millisecond)
		begin = time.Now()
		must(t, g.dom.Revert(ctx, "before"))
		t.Logf("round %d: put back in %s", round, time.Since(begin))
		g.dial() // libvirt starts QEMU anew, which has new ends of everything
		g.is("get memory", "is one")
		g.is("read file", "is first")
		if got := g.ask("read other"); !strings.Contains(got, "no such file") {
			t.Errorf("a file made later: %s", got)
		}
		if now := g.number("ticks"); now > ticks+25 {
			t.Errorf("the guest runs on from tick %d, the snapshot was at %d", now, ticks)
		}
	}
	if st, err := g.dom.State(); err != nil || !st.Running() {
		t.Errorf("%s %v", st, err)
	}
	if _, ours, err := g.dom.IsOurs(ctx); err != nil || !ours {
		t.Errorf("the mark is lost: %v", err)
	}
	t.Run("with hot-plugged disks", func(t *testing.T) { testBranchHotplug(t, g) })
	begin = time.Now()
	must(t, g.dom.DeleteSnapshot(ctx, "before"))
	t.Logf("deleted in %s", time.Since(begin))
	must(t, g.dom.DeleteSnapshot(ctx, "before"))
	g.is("read file", "is first")
	if has, err := g.dom.HasSnapshot(ctx, "before"); err != nil || has {
		t.Errorf("%v %v", has, err)
	}
	g.is("write file last", "ok")
	must(t, g.dom.Destroy(ctx))
	out, err := exec.Command("qemu-img", "check", "-f", "qcow2", filepath.Join(os.Getenv(inNamespaces), "branch.qcow2")).CombinedOutput()
	if err != nil {
		t.Errorf("the image: %v %s", err, out)
	}
}

func (g *testGuest) number(command string) int {
	g.t.Helper()
	n, err := strconv.Atoi(g.ask(command))
	must(g.t, err)
	return n
}

func testBranchHotplug(t *testing.T, g *testGuest) {
	ctx := t.Context()
	must(t, second(g.dom.AttachDisk(ctx, DiskSpec{Path: marked(t, "h", "x"), Format: "raw", Serial: "hot", ReadOnly: true})))
	g.is("wait hot", "is vdb")
	var no *NotRevertibleError
	for what, err := range map[string]error{"snapshot": g.dom.Snapshot(ctx, "other"), "revert": g.dom.Revert(ctx, "before")} {
		if !errors.As(err, &no) || !strings.Contains(err.Error(), "disk vdb (serial hot)") || !strings.Contains(err.Error(), "detach") {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, g.dom.DetachDisk(ctx, "hot"))
	must(t, g.dom.Revert(ctx, "before"))
	g.dial()
	g.is("get memory", "is one")
	// And the guest takes disks again, as if nothing had been.
	must(t, second(g.dom.AttachDisk(ctx, DiskSpec{Path: marked(t, "h", "x"), Format: "raw", Serial: "hot2"})))
	g.is("wait hot2", "is vdb")
	must(t, g.dom.DetachDisk(ctx, "hot2"))
}

func TestBranchRefuses(t *testing.T) {
	file := func(format string, readOnly bool) libvirtxml.DomainDisk {
		d := libvirtxml.DomainDisk{Driver: &libvirtxml.DomainDiskDriver{Type: format}, Source: fileSource("/x"),
			Target: &libvirtxml.DomainDiskTarget{Dev: "vda"}}
		if readOnly {
			d.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
		}
		return d
	}
	onView := file("qcow2", false)
	onView.BackingStore = (&Backing{Socket: "/s", Export: "x"}).store()
	onFile := file("qcow2", false)
	onFile.BackingStore = (&Backing{Path: "/base", Format: "qcow2"}).store()
	job := file("qcow2", false)
	job.Mirror = &libvirtxml.DomainDiskMirror{}
	block := file("raw", false)
	block.Source = &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: "/dev/x"}}
	one := func(d libvirtxml.DomainDisk) *libvirtxml.Domain {
		return &libvirtxml.Domain{Devices: &libvirtxml.DomainDeviceList{Disks: []libvirtxml.DomainDisk{d}}}
	}
	uefi := one(file("qcow2", false))
	uefi.OS = &libvirtxml.DomainOS{NVRam: &libvirtxml.DomainNVRam{}}
	more := one(file("qcow2", false))
	more.Devices.Hostdevs = make([]libvirtxml.DomainHostdev, 1)
	more.Devices.TPMs = make([]libvirtxml.DomainTPM, 1)
	more.Devices.Filesystems = make([]libvirtxml.DomainFilesystem, 1)
	for name, c := range map[string]struct {
		dom  *libvirtxml.Domain
		want string
		n    int
	}{
		"qcow2":               {one(file("qcow2", false)), "", 0},
		"on an image file":    {one(onFile), "", 0},
		"read-only raw":       {one(file("raw", true)), "", 0},
		"writable raw":        {one(file("raw", false)), "disk vda: a writable raw image", 1},
		"a block device":      {one(block), "no image file", 1},
		"on a view":           {one(onView), "frozen view", 1},
		"with a job":          {one(job), "block job", 1},
		"UEFI":                {uefi, "UEFI", 1},
		"devices of the host": {more, "host device 0", 3},
	} {
		got := notRevertible(c.dom, c.dom)
		if text := reasonsText(got); len(got) != c.n || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q", name, text)
		}
	}
	if got := notRevertible(one(file("raw", true)), &libvirtxml.Domain{}); len(got) != 1 {
		t.Errorf("hot-plugged: %v", got)
	}
	for _, name := range []string{"", "1", "a b", "-x", "a/b", "ä", strings.Repeat("x", 61)} {
		if plainName.MatchString(name) {
			t.Errorf("accepted %q", name)
		}
	}
}
