package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

const inNamespaces = "IMAGO_HYPERVISOR_TEST_NS"

// isolate runs the calling test again in pid, mount and network namespaces of
// its own and returns true in the outer process. The shell is there because
// process 1 must reap the QEMUs that libvirtd leaves behind.
func isolate(t *testing.T) (outer bool) {
	t.Helper()
	if os.Getenv(inNamespaces) != "" {
		return false
	}
	return isolateWith(t, func(string) {})
}

// isolateWith prepares the inner test's folder before it begins.
func isolateWith(t *testing.T, prepare func(dir string)) (outer bool) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "root"
	}
	for _, tool := range []string{"unshare", "libvirtd", "qemu-system-x86_64", "qemu-img", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = tool
		}
	}
	if missing != "" && os.Getenv("CI") == "true" {
		t.Fatalf("CI must have %s", missing)
	}
	if missing != "" {
		t.Skipf("needs %s", missing)
	}
	dir := t.TempDir()
	prepare(dir)
	cmd := exec.Command("unshare", "--fork", "--pid", "--kill-child", "--mount-proc", "--mount", "--net",
		"sh", "-c", `"$@"; exit $?`, "sh", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=110s")
	cmd.Env = append(os.Environ(), inNamespaces+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("in its namespaces: %v", err)
	}
	return true
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// privateLibvirt starts a libvirtd that nobody else sees and opens it.
func privateLibvirt(t *testing.T) *Conn {
	t.Helper()
	dir := os.Getenv(inNamespaces)
	must(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	must(t, syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	for _, sub := range []string{"/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
		must(t, os.MkdirAll(sub, 0o755))
		must(t, syscall.Mount(filepath.Join(dir, sub), sub, "", syscall.MS_BIND, ""))
	}
	must(t, os.WriteFile("/etc/libvirt/qemu.conf", []byte("user=\"root\"\ngroup=\"root\"\ndynamic_ownership=0\nremember_owner=0\n"+
		"security_driver=\"none\"\nnamespaces=[]\nstdio_handler=\"file\"\ncgroup_controllers=[]\n"), 0o600))
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("lo up: %v %s", err, out)
	}
	daemon := exec.Command("libvirtd")
	must(t, daemon.Start())
	t.Cleanup(func() { _ = daemon.Process.Signal(syscall.SIGTERM); _ = daemon.Wait() })
	var conn *Conn
	err := WaitReady(t.Context(), "libvirtd", []Condition{{What: "it answers", Timeout: 20 * time.Second, Check: func(ctx context.Context) (err error) {
		conn, err = Open(ctx, "qemu+unix:///system?socket=/run/libvirt/libvirt-sock", slog.New(slog.DiscardHandler))
		return err
	}}}, nil)
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	return conn
}

const (
	prodUUID  = "aaaaaaaa-bbbb-4ccc-8ddd-000000000001"
	cloneUUID = "aaaaaaaa-bbbb-4ccc-8ddd-000000000002"
	netUUID   = "aaaaaaaa-bbbb-4ccc-8ddd-000000000003"
)

// TestRealLibvirt clones a running domain, whose guest is no more than its
// firmware, under a real libvirtd.
func TestRealLibvirt(t *testing.T) {
	if testing.Short() {
		t.Skip("starts virtual machines")
	}
	if isolate(t) {
		return
	}
	conn := privateLibvirt(t)
	ctx := t.Context()
	must(t, conn.Ping(ctx))
	if _, err := conn.LookupDomain("nobody"); !errors.Is(err, ErrNoDomain) {
		t.Errorf("got %v", err)
	}
	prod := production(t, conn)
	before, err := prod.Fingerprint(ctx)
	must(t, err)

	testNetwork(t, conn)
	vm := testClone(t, conn, prod)
	testMachine(t, conn)
	testNICs(t, vm)
	testMonitor(t, vm, prod)
	testNotOurs(t, conn, prod)

	after, err := prod.Fingerprint(ctx)
	must(t, err)
	if d := Diff(before, after); d != nil {
		t.Errorf("production changed: %q", d)
	}
	testFingerprintSees(t, prod, before)
	testCrash(t, vm)
	must(t, vm.Remove(ctx))
	must(t, vm.Remove(ctx)) // gone is fine
	must(t, conn.RemoveNetwork(ctx, "imago-u1", netUUID))
	must(t, conn.RemoveNetwork(ctx, "imago-u1", netUUID))
	left, err := conn.Marked(ctx, "")
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v %v", left, err) // the new machine
	}
	if _, err := net.InterfaceByName("imb0"); err == nil {
		t.Error("the bridge is still there")
	}
}

func image(t *testing.T, name, format string) string {
	t.Helper()
	path := filepath.Join(os.Getenv(inNamespaces), name)
	qemuImg(t, "create", "-q", "-f", format, path, "4M")
	return path
}

// production defines and starts a domain as an admin would, without a mark.
func production(t *testing.T, conn *Conn) *Domain {
	t.Helper()
	spec := MachineSpec{Name: "prod", UUID: prodUUID, Run: "x", MemoryMiB: 64, VCPUs: 2, Type: TypeQEMU,
		Disks: []MachineDisk{{CloneDisk: CloneDisk{Path: image(t, "a.qcow2", "qcow2"), Format: "qcow2"}, Target: "vda", Serial: "ROOT"},
			{CloneDisk: CloneDisk{Path: image(t, "b.raw", "raw"), Format: "raw"}, Target: "vdb", Serial: "DATA"}},
		NICs: []MachineNIC{{MAC: "52:54:00:aa:00:01", Bridge: "br-prod"}}}
	doc, err := NewMachineXML(spec)
	must(t, err)
	doc.Metadata = nil
	doc.Devices.Graphics = []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{Port: 5950, AutoPort: "no", Passwd: "secret"}}}
	for _, br := range []string{"br-prod", "br-other"} {
		if out, err := exec.Command("ip", "link", "add", br, "type", "bridge").CombinedOutput(); err != nil {
			t.Fatalf("bridge: %v %s", err, out)
		}
	}
	text, err := doc.Marshal()
	must(t, err)
	raw, err := conn.Raw().DomainDefineXML(text)
	must(t, err)
	d, err := conn.wrap(raw)
	must(t, err)
	must(t, d.Start(t.Context()))
	return d
}

func testNetwork(t *testing.T, conn *Conn) {
	ctx := t.Context()
	spec := NetworkSpec{Name: "imago-u1", UUID: netUUID, Bridge: "imb0"}
	for range 2 { // a second time changes nothing
		must(t, conn.DefineNetwork(ctx, spec))
		must(t, conn.StartNetwork(ctx, spec.Name, spec.UUID))
	}
	link, err := net.InterfaceByName("imb0")
	must(t, err)
	addrs, err := link.Addrs()
	if must(t, err); slices.ContainsFunc(addrs, func(a net.Addr) bool { return !strings.HasPrefix(a.String(), "fe80") }) {
		t.Errorf("the bridge has addresses %v", addrs)
	}
	if err := conn.RemoveNetwork(ctx, spec.Name, prodUUID); !errors.Is(err, ErrNotOurs) {
		t.Errorf("removed a network with another UUID: %v", err)
	}
	if err := conn.RemoveNetwork(ctx, "default", netUUID); !errors.Is(err, ErrNotOurs) {
		t.Errorf("got %v", err)
	}
}

func testClone(t *testing.T, conn *Conn, prod *Domain) *Domain {
	ctx := t.Context()
	src, err := prod.Describe(ctx)
	must(t, err)
	dir := os.Getenv(inNamespaces)
	top := filepath.Join(dir, "top.qcow2")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image(t, "base.raw", "raw"), top, "4M")
	spec := CloneSpec{Name: "imago-r1-prod", UUID: cloneUUID, Run: "r1", Network: "imago-u1", HWUUID: conn.KnowsHWUUID(),
		ConsoleLog: filepath.Join(dir, "console"),
		Disks: map[string]CloneDisk{"vda": {Path: top, Format: "qcow2", Backing: &Backing{Path: filepath.Join(dir, "base.raw"), Format: "raw"}},
			"vdb": {Path: image(t, "c.qcow2", "qcow2"), Format: "qcow2"}},
		ExtraDisks: []ExtraDisk{{CloneDisk: CloneDisk{Path: image(t, "d.raw", "raw"), Format: "raw"}, Serial: "imago-x-vda", ReadOnly: true}}}
	doc, err := CloneXML(src, spec)
	must(t, err)
	vm, err := conn.StartDomain(ctx, doc)
	must(t, err)
	got, err := vm.Describe(ctx)
	must(t, err)
	disks, err := vm.Disks(ctx)
	must(t, err)
	if len(disks) != 3 || disks[0].Serial != "ROOT" || disks[0].Capacity != 4<<20 || disks[2].Target != "vdc" || !disks[2].ReadOnly {
		t.Errorf("disks %+v", disks)
	}
	for i, d := range got.Devices.Disks[:2] {
		if want := src.Devices.Disks[i].Address.PCI; *d.Address.PCI.Bus != *want.Bus {
			t.Errorf("disk %d moved on the PCI bus", i)
		}
	}
	nics, err := vm.NICs(ctx)
	if must(t, err); len(nics) != 1 || nics[0].MAC != "52:54:00:aa:00:01" || nics[0].Bridge != "imb0" {
		t.Errorf("nics %+v", nics)
	}
	testIdentity(t)
	mark, ours, err := vm.IsOurs(ctx)
	if err != nil || !ours || mark.Run != "r1" || mark.SourceUUID != prodUUID {
		t.Errorf("mark %+v %v %v", mark, ours, err)
	}
	for run, want := range map[string]int{"r1": 1, "r2": 0, "": 1} {
		list, err := conn.Marked(ctx, run)
		if err != nil || len(list) != want {
			t.Errorf("marked %q: %v %v", run, list, err)
		}
		freeAll(list)
	}
	return vm
}

// testIdentity looks at the clone's QEMU: the last -uuid or -smbios wins.
func testIdentity(t *testing.T) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		text, _ := os.ReadFile(f)
		line := string(text)
		if strings.Contains(line, "guest=imago-r1-prod") && strings.LastIndex(line, prodUUID) > strings.LastIndex(line, cloneUUID) {
			return
		}
	}
	t.Error("the clone's QEMU does not give the guest its source's UUID")
}

func testMachine(t *testing.T, conn *Conn) {
	doc, err := NewMachineXML(MachineSpec{Name: "imago-new", UUID: "aaaaaaaa-bbbb-4ccc-8ddd-000000000009", Run: "r1", MemoryMiB: 64, VCPUs: 1, Type: TypeQEMU,
		Disks: []MachineDisk{{CloneDisk: CloneDisk{Path: image(t, "new.qcow2", "qcow2"), Format: "qcow2"}, Target: "vda"}}})
	must(t, err)
	d, err := conn.StartDomain(t.Context(), doc)
	must(t, err)
	if st, err := d.State(); err != nil || !st.Running() {
		t.Errorf("%s %v", st, err)
	}
	if err := d.AgentResponds(t.Context()); !errors.Is(err, ErrNoAgent) {
		t.Errorf("firmware has an agent? %v", err)
	}
	doc.Metadata = nil
	if _, err := conn.Define(t.Context(), doc); !errors.Is(err, ErrNotOurs) {
		t.Errorf("defined a domain without a mark: %v", err)
	}
}

func testNICs(t *testing.T, vm *Domain) {
	ctx := t.Context()
	must(t, vm.MoveNIC(ctx, "52:54:00:AA:00:01", NICTarget{Bridge: "br-other"}))
	nics, err := vm.NICs(ctx)
	if err != nil || nics[0].Bridge != "br-other" {
		t.Fatalf("%+v %v", nics, err)
	}
	master, err := os.Readlink(filepath.Join("/sys/class/net", nics[0].Device, "master"))
	if err == nil && filepath.Base(master) != "br-other" {
		t.Errorf("the tap is on %s", master)
	}
	out, err := exec.Command("ip", "-o", "link", "show", nics[0].Device).Output()
	if err != nil || !strings.Contains(string(out), "master br-other") {
		t.Errorf("%s %v", out, err)
	}
	inactive, err := vm.DescribeInactive(ctx)
	if err != nil || inactive.Devices.Interfaces[0].Source.Bridge == nil {
		t.Errorf("the next start would be on another network: %v", err)
	}
	for _, bad := range []NICTarget{{}, {Network: "a", Bridge: "b"}} {
		if err := vm.MoveNIC(ctx, "52:54:00:aa:00:01", bad); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
	if err := vm.MoveNIC(ctx, "52:54:00:aa:00:99", NICTarget{Bridge: "br-other"}); err == nil {
		t.Error("moved a NIC that is not there")
	}
}

func testMonitor(t *testing.T, vm, prod *Domain) {
	ctx := t.Context()
	must(t, vm.AnnounceSelf(ctx))
	nodes, err := vm.BlockNodes(ctx)
	if err != nil || !slices.ContainsFunc(nodes, func(n BlockNode) bool { return strings.HasSuffix(n.File, "top.qcow2") && n.Driver == "qcow2" }) {
		t.Errorf("%+v %v", nodes, err)
	}
	if _, err := vm.qmp(ctx, "no-such-command", nil); err == nil || !strings.Contains(err.Error(), "no-such-command") {
		t.Errorf("got %v", err)
	}
	if err := prod.AnnounceSelf(ctx); !errors.Is(err, ErrNotOurs) {
		t.Errorf("touched the monitor of production: %v", err)
	}
}

func testNotOurs(t *testing.T, conn *Conn, prod *Domain) {
	ctx := t.Context()
	for name, err := range map[string]error{
		"destroy": prod.Destroy(ctx), "undefine": prod.Undefine(ctx), "remove": prod.Remove(ctx),
		"move": prod.MoveNIC(ctx, "52:54:00:aa:00:01", NICTarget{Bridge: "br-other"}),
	} {
		if !errors.Is(err, ErrNotOurs) {
			t.Errorf("%s of production: %v", name, err)
		}
	}
	doc, err := NewMachineXML(MachineSpec{Name: "prod", UUID: prodUUID, Run: "r1", MemoryMiB: 64, VCPUs: 1, Type: TypeQEMU,
		Kernel: "/k"})
	must(t, err)
	if _, err := conn.Define(ctx, doc); !errors.Is(err, ErrNotOurs) {
		t.Errorf("replaced production's definition: %v", err)
	}
	if st, err := prod.State(); err != nil || !st.Running() {
		t.Errorf("production is %s: %v", st, err)
	}
}

// testFingerprintSees changes production on purpose, in each way that counts.
func testFingerprintSees(t *testing.T, prod *Domain, before Fingerprint) {
	ctx := t.Context()
	must(t, prod.raw.SetMetadata(libvirt.DOMAIN_METADATA_TITLE, "changed", "", "", libvirt.DOMAIN_AFFECT_CONFIG))
	now, err := prod.Fingerprint(ctx)
	must(t, err)
	if d := Diff(before, now); len(d) != 1 || d[0] != "configured: + <title>changed</title>" {
		t.Errorf("%q", d)
	}
	must(t, prod.raw.Destroy())
	qemuImg(t, "bitmap", "--add", now.DiskChain["vda"][0].Path, "left-behind")
	now, err = prod.Fingerprint(ctx)
	must(t, err)
	if d := strings.Join(Diff(before, now), "\n"); !strings.Contains(d, "left-behind") || strings.Contains(d, "secret") {
		t.Errorf("%s", d)
	}
}

func testCrash(t *testing.T, vm *Domain) {
	ctx := t.Context()
	conds := []Condition{{What: "never", Timeout: time.Minute, Check: func(context.Context) error { return errors.New("no") }, Liveness: vm.Alive}}
	go func() {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range all {
			if text, _ := os.ReadFile(f); strings.Contains(string(text), "guest=imago-r1-prod") {
				var pid int
				_, _ = fmt.Sscanf(f, "/proc/%d/", &pid)
				_ = syscall.Kill(pid, syscall.SIGSEGV)
			}
		}
	}()
	start := time.Now()
	err := WaitReady(ctx, "clone", conds, nil)
	if err == nil || !strings.Contains(err.Error(), "shut off (crashed)") || time.Since(start) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
}
