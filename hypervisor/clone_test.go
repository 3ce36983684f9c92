package hypervisor

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirtxml"
)

// sourceXML is a running production VM with what a clone must keep and drop.
func sourceXML(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/source.xml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parse(t *testing.T, text string) *libvirtxml.Domain {
	t.Helper()
	dom := new(libvirtxml.Domain)
	if err := dom.Unmarshal(text); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return dom
}

func testSpec() CloneSpec {
	return CloneSpec{
		Name: "imago-r1-web", UUID: "11111111-2222-4333-8444-555555555555", Run: "r1",
		Expires: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC),
		Disks: map[string]CloneDisk{
			"vda": {Path: "/c/vda.qcow2", Format: "qcow2", Backing: &Backing{Socket: "/run/i/0/nbd", Export: "vda"}},
			"sdb": {Path: "/c/sdb.qcow2", Format: "qcow2", Backing: &Backing{Path: "/c/base.raw", Format: "raw"}},
		},
		Network:    "imago-net",
		Networks:   map[string]string{"52:54:00:00:00:02": "imago-net2"},
		NVRAM:      "/c/nvram.fd",
		ConsoleLog: "/c/console.log",
	}
}

func clone(t *testing.T, text string, spec CloneSpec) (*libvirtxml.Domain, string) {
	t.Helper()
	src := parse(t, text)
	before, err := src.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	dom, err := CloneXML(src, spec)
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := src.Marshal(); after != before {
		t.Error("CloneXML changed its source")
	}
	out, err := dom.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return dom, out
}

func TestCloneKeepsIdentityAndDropsBindings(t *testing.T) {
	dom, out := clone(t, sourceXML(t), testSpec())
	for _, want := range []string{
		"<name>imago-r1-web</name>",
		"<uuid>11111111-2222-4333-8444-555555555555</uuid>",
		`<mac address="52:54:00:00:00:01">`, `<mac address="52:54:00:00:00:02">`,
		"<serial>DISK-A</serial>", `<target dev="vda" bus="virtio">`, `<target dev="sdb" bus="scsi">`,
		`value="type=1,uuid=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"`,
		"/c/nvram.fd", "<topology sockets=\"1\"", `bus="0x01" slot="0x00"`,
		`<entry name="serial">SN-1</entry>`,
		`<source network="imago-net">`, `<source network="imago-net2">`,
		`protocol="nbd" name="vda"`, `transport="unix" socket="/run/i/0/nbd"`,
		`<source path="/c/console.log" append="on">`,
		`xmlns:imago="https://imago.dev/xmlns/1" run="r1"`, `source="aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"`, `expires="2027-01-02T03:04:05Z"`,
		`<mtu size="1450">`, "/iso/seed.iso", `<alias name="ua-keep">`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %s", want)
		}
	}
	for _, not := range []string{
		"wiki-web", "production-br", "vnet", `name="virtio-disk0"`, "/prod/", "5901", "hunter2", "libvirt-12", `state="connected"`,
		"/dev/pts", "vcpupin", "hugepages", "machine/special", "openvswitch", "vlan", "clean-traffic", "genid>ffff", "other.example", `id="7"`,
		`name="uuid"`, "isolated", "index=\"3\"",
	} {
		if strings.Contains(out, not) {
			t.Errorf("kept %s", not)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	mark, ours := decodeMark(dom.Metadata.XML, Namespace, dom.UUID)
	if !ours || mark.Run != "r1" || !mark.Expires.Equal(testSpec().Expires) {
		t.Errorf("mark %+v ours %v", mark, ours)
	}
	if _, ours := decodeMark(dom.Metadata.XML, Namespace, "99999999-2222-4333-8444-555555555555"); ours {
		t.Error("a copy of the mark passes on another domain")
	}
}

func TestCloneByHWUUID(t *testing.T) {
	spec := testSpec()
	spec.HWUUID = true
	dom, out := clone(t, sourceXML(t), spec)
	if dom.HWUUID != "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee" || strings.Contains(out, "type=1,uuid") {
		t.Errorf("hwuuid %q\n%s", dom.HWUUID, out)
	}
	// The clone of a clone keeps the first identity.
	spec.Disks["sdb"] = CloneDisk{Path: "/d/b", Format: "raw"}
	spec.Disks["vda"] = CloneDisk{Path: "/d/a", Format: "raw"}
	spec.UUID = "21111111-2222-4333-8444-555555555555"
	dom, _ = clone(t, out, spec)
	if dom.HWUUID != "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee" {
		t.Errorf("hwuuid of the second clone %q", dom.HWUUID)
	}
}

func TestCloneExtraDisks(t *testing.T) {
	spec := testSpec()
	for i := range 30 {
		spec.ExtraDisks = append(spec.ExtraDisks, ExtraDisk{CloneDisk: CloneDisk{Path: fmt.Sprintf("/x/%d", i), Format: "qcow2",
			Backing: &Backing{Socket: "/run/i/1/nbd", Export: "vda"}}, Serial: fmt.Sprintf("imago-%d", i), ReadOnly: true})
	}
	dom, _ := clone(t, sourceXML(t), spec)
	seen := map[string]bool{}
	for _, d := range dom.Devices.Disks {
		if seen[d.Target.Dev] {
			t.Errorf("target %s given twice", d.Target.Dev)
		}
		seen[d.Target.Dev] = true
	}
	if !seen["vdb"] || !seen["vdaa"] {
		t.Errorf("targets %v", seen)
	}
	spec.ExtraDisks[0].Serial = "longer-than-twenty-bytes"
	if _, err := CloneXML(parse(t, sourceXML(t)), spec); err == nil {
		t.Error("a serial that QEMU would cut was accepted")
	}
}

func TestCloneWithoutKVM(t *testing.T) {
	text := strings.Replace(sourceXML(t), "type='qemu'", "type='kvm'", 1)
	spec := testSpec()
	spec.Type = TypeQEMU
	dom, out := clone(t, text, spec)
	if dom.Type != "qemu" || dom.CPU.Model.Value != TCGModel || dom.CPU.Topology == nil {
		t.Errorf("cpu %+v", dom.CPU)
	}
	for _, not := range []string{"kvmclock", "hyperv", "host-passthrough", "<pmu"} {
		if strings.Contains(out, not) {
			t.Errorf("kept %s", not)
		}
	}
	spec.Type = ""
	if dom, _ := clone(t, text, spec); dom.Type != "kvm" || dom.CPU.Mode != "host-passthrough" {
		t.Errorf("a kvm clone changed: %+v", dom.CPU)
	}
}

// TestCloneRefuses gives the source one device more, each time another one
// that cannot be cloned.
func TestCloneRefuses(t *testing.T) {
	disk := func(attrs, inner string) string {
		return `<disk ` + attrs + `><driver name='qemu' type='raw'/>` + inner + `<target dev='vdq' bus='virtio'/></disk>`
	}
	file := `<source file='/prod/q'/>`
	chain := ""
	for range 20 {
		chain = `<backingStore type='file'><format type='qcow2'/><source file='/prod/b'/>` + chain + `</backingStore>`
	}
	nic := func(s string) string { return `<interface ` + s + `<mac address='52:54:00:00:00:09'/></interface>` }
	for _, c := range []struct{ name, device, want string }{
		{"hostdev", `<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='6' slot='0' function='0'/></source></hostdev>`, "hostdev 0"},
		{"usb redirect", `<redirdev bus='usb' type='spicevmc'/>`, "redirdev 0"},
		{"smartcard", `<smartcard mode='host'/>`, "smartcard 0"},
		{"shareable", disk("type='file' device='disk'", file+"<shareable/>"), "shared with other domains"},
		{"transient", disk("type='file' device='disk'", file+"<transient/>"), "transient"},
		{"block", disk("type='block' device='disk'", `<source dev='/dev/vg/x'/>`), "a block device of the host"},
		{"file on a device", disk("type='file' device='disk'", `<source file='/dev/sdq'/>`), "/dev/sdq is a device"},
		{"network disk", disk("type='network' device='disk'", `<source protocol='rbd' name='p/i'/>`), "on the network (rbd)"},
		{"volume", disk("type='volume' device='disk'", `<source pool='p' volume='v'/>`), "storage pool"},
		{"nvme", disk("type='nvme' device='disk'", `<source type='pci' namespace='1'><address domain='0' bus='1' slot='0' function='0'/></source>`), "NVMe"},
		{"vhostuser disk", disk("type='vhostuser' device='disk'", `<source type='unix' path='/x'/>`), "vhost"},
		{"lun", disk("type='block' device='lun'", `<source dev='/dev/sdq'/>`), "passes SCSI commands"},
		{"host cdrom", strings.Replace(disk("type='block' device='cdrom'", `<source dev='/dev/sr0'/><readonly/>`), "virtio", "sata", 1), "cdrom vdq"},
		{"encrypted", disk("type='file' device='disk'", `<source file='/prod/q'><encryption format='luks'><secret type='passphrase' uuid='aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee'/></encryption></source>`), "encrypted"},
		{"encrypted backing", disk("type='file' device='disk'", file+`<backingStore type='file'><format type='qcow2'/><source file='/b'><encryption format='luks'/></source></backingStore>`), "encrypted"},
		{"deep chain", disk("type='file' device='disk'", file+chain), "21 images"},
		{"vmdk", strings.Replace(disk("type='file' device='disk'", file), "'raw'", "'vmdk'", 1), `format is "vmdk"`},
		{"no format", strings.Replace(disk("type='file' device='disk'", file), "type='raw'", "", 1), `format is ""`},
		{"writable and no replacement", disk("type='file' device='disk'", file), "no replacement"},
		{"block job", disk("type='file' device='disk'", file+`<mirror type='file' job='copy'><format type='raw'/><source file='/m'/></mirror>`), "block job"},
		{"filesystem", `<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv'/><target dir='share'/></filesystem>`, "filesystem share"},
		{"shmem", `<shmem name='s0'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>`, "shmem s0"},
		{"tpm", `<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>`, "tpm 0"},
		{"nvdimm", `<memory model='nvdimm'><source><path>/tmp/nv</path></source><target><size unit='KiB'>524288</size><node>0</node></target></memory>`, "nvdimm"},
		{"vsock", `<vsock model='virtio'><cid auto='no' address='3'/></vsock>`, "vsock"},
		{"macvtap", nic(`type='direct'><source dev='eth0' mode='bridge'/>`), `type "direct"`},
		{"sr-iov", nic(`type='hostdev'><source><address type='pci' domain='0' bus='1' slot='0' function='1'/></source>`), `type "hostdev"`},
		{"vhostuser nic", nic(`type='vhostuser'><source type='unix' path='/x' mode='client'/>`), `type "vhostuser"`},
		{"user nic", nic(`type='user'>`), `type "user"`},
		{"vdpa", nic(`type='vdpa'><source dev='/dev/vhost-vdpa-0'/>`), `type "vdpa"`},
		{"mcast", nic(`type='mcast'><source address='230.0.0.1' port='5558'/>`), `type "socket"`},
		{"teaming", nic(`type='bridge'><source bridge='br0'/><teaming type='persistent'/>`), "teamed"},
		{"nic without mac", `<interface type='bridge'><source bridge='br0'/></interface>`, "no MAC"},
		{"host serial", `<serial type='dev'><source path='/dev/ttyS0'/><target port='1'/></serial>`, "/dev/ttyS0"},
		{"guestfwd", `<channel type='pipe'><source path='/x'/><target type='guestfwd' address='10.0.2.1' port='4600'/></channel>`, "channel 2"},
		{"evdev", `<input type='evdev'><source dev='/dev/input/event1'/></input>`, "input"},
		{"lease", `<lease><lockspace>l</lockspace><key>k</key><target path='/l'/></lease>`, "lease k"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(sourceXML(t), "</devices>", c.device+"</devices>", 1)
			spec := testSpec()
			if c.name != "writable and no replacement" {
				spec.Disks["vdq"] = CloneDisk{Path: "/c/q", Format: "qcow2"}
			}
			refused(t, text, spec, 1, c.want)
		})
	}
}

func refused(t *testing.T, text string, spec CloneSpec, count int, want string) {
	t.Helper()
	_, err := CloneXML(parse(t, text), spec)
	var no *NotCloneableError
	if !errors.As(err, &no) {
		t.Fatalf("got %v, want a NotCloneableError", err)
	}
	if len(no.Reasons) != count || !strings.Contains(err.Error(), want) {
		t.Errorf("want %d reason(s) with %q, got: %v", count, want, err)
	}
}

func TestCloneRefusesMachines(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"confidential", "<devices>", "<launchSecurity type='sev'><policy>0x3</policy></launchSecurity><devices>", "launchSecurity"},
		{"memory in files", "<memoryBacking>", "<memoryBacking><source type='file'/>", "memoryBacking"},
		{"other hypervisor", "type='qemu' id", "type='lxc' id", `type "lxc"`},
		{"unknown argument", "</devices>", "</devices><qemu:commandline><qemu:arg value='-drive'/></qemu:commandline>", "qemu:arg -drive"},
		{"environment", "</devices>", "</devices><qemu:commandline><qemu:env name='LD_PRELOAD' value='x'/></qemu:commandline>", "LD_PRELOAD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(sourceXML(t), c.old, c.new, 1)
			refused(t, text, testSpec(), 1, c.want)
		})
	}
	t.Run("harmless argument", func(t *testing.T) {
		text := strings.Replace(sourceXML(t), "</devices>", "</devices><qemu:commandline><qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/x,string=y'/></qemu:commandline>", 1)
		if _, out := clone(t, text, testSpec()); !strings.Contains(out, "name=opt/x") || !strings.Contains(out, "type=1,uuid=") {
			t.Error(out)
		}
	})
	t.Run("no copy of the UEFI variables", func(t *testing.T) {
		spec := testSpec()
		spec.NVRAM = ""
		refused(t, sourceXML(t), spec, 1, "nvram")
	})
	t.Run("all reasons at once", func(t *testing.T) {
		spec := testSpec()
		spec.NVRAM, spec.Disks = "", nil
		refused(t, sourceXML(t), spec, 3, "sdb")
	})
}

func TestCloneSpecIsChecked(t *testing.T) {
	for name, change := range map[string]func(*CloneSpec){
		"name": func(s *CloneSpec) { s.Name = "" }, "uuid": func(s *CloneSpec) { s.UUID = "" },
		"run": func(s *CloneSpec) { s.Run = "" }, "type": func(s *CloneSpec) { s.Type = "xen" },
	} {
		spec := testSpec()
		change(&spec)
		if _, err := CloneXML(parse(t, sourceXML(t)), spec); err == nil {
			t.Errorf("accepted a spec with a bad %s", name)
		}
	}
}

func TestMarkSurvivesHostileText(t *testing.T) {
	const uuid = "11111111-2222-4333-8444-555555555555"
	run := `r1"/><evil xmlns="x"/>&<`
	text, err := encodeMark(Mark{Run: run}, uuid)
	if err != nil {
		t.Fatal(err)
	}
	if got, ours := decodeMark(text, Namespace, uuid); !ours || got.Run != run {
		t.Errorf("%q became %q, ours %v", run, got.Run, ours)
	}
	for _, bad := range []string{"", "<x/>", `<vm run="r" uuid="` + uuid + `"/>`, `<vm xmlns="https://imago.dev/xmlns/1" uuid="` + uuid + `"/>`} {
		if _, ours := decodeMark(bad, Namespace, uuid); ours {
			t.Errorf("%q passes as our mark", bad)
		}
	}
}

func TestMachineXML(t *testing.T) {
	spec := MachineSpec{Name: "m", UUID: "11111111-2222-4333-8444-555555555555", Run: "r", MemoryMiB: 256, VCPUs: 2, Type: TypeQEMU,
		Disks:  []MachineDisk{{CloneDisk: CloneDisk{Path: "/i.qcow2", Format: "qcow2"}, Target: "vda", Serial: "root"}},
		NICs:   []MachineNIC{{MAC: "52:54:00:00:00:01", Network: "imago-n"}, {MAC: "52:54:00:00:00:02", Bridge: "br0"}},
		Kernel: "/k", Initrd: "/i", Cmdline: `root=/dev/vda quiet "x" <y>`, ConsoleLog: "/log"}
	dom, err := NewMachineXML(spec)
	if err != nil {
		t.Fatal(err)
	}
	if dom.OS.Cmdline != spec.Cmdline || dom.Devices.Interfaces[1].Source.Bridge.Bridge != "br0" || dom.Devices.Disks[0].Serial != "root" {
		t.Errorf("%+v", dom)
	}
	for name, change := range map[string]func(*MachineSpec){
		"memory": func(s *MachineSpec) { s.MemoryMiB = 0 }, "type": func(s *MachineSpec) { s.Type = "" },
		"boot": func(s *MachineSpec) { s.Kernel, s.Disks = "", nil }, "name": func(s *MachineSpec) { s.Name = "" },
		"format": func(s *MachineSpec) { s.Disks = []MachineDisk{{CloneDisk: CloneDisk{Path: "/i"}}} },
	} {
		bad := spec
		change(&bad)
		if _, err := NewMachineXML(bad); err == nil {
			t.Errorf("accepted a spec with a bad %s", name)
		}
	}
}
