package hypervisor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const stallText = "some avg10=2.14 avg60=1.96 avg300=1.57 total=540005765\nfull avg10=2.10 avg60=1.76 avg300=1.36 total=198271498\n"

func TestParseStall(t *testing.T) {
	s, err := parseStall(stallText)
	if err != nil || s.Some.Avg10 != 2.14 || s.Some.Avg60 != 1.96 || s.Full.Avg300 != 1.36 || s.Some.Total != 540005765*time.Microsecond {
		t.Errorf("%+v %v", s, err)
	}
	old, _, _ := strings.Cut(stallText, "full")
	if s, err := parseStall(old); err != nil || s.Some.Avg10 != 2.14 || s.Full != (Stalled{}) {
		t.Errorf("of a kernel without \"full\": %+v %v", s, err)
	}
	for _, bad := range []string{
		"", "full avg10=1 avg60=1 avg300=1 total=1", "some", "some avg10=1 avg60=1 avg300=1", "some avg10=NaN avg60=1 avg300=1 total=1",
		"some avg10=101 avg60=1 avg300=1 total=1", "some avg10=-1 avg60=1 avg300=1 total=1", "some avg10=1 avg60=1 avg300=1 total=-1",
		"some avg10=1 avg60=1 avg300=1 total=9223372036854775807",
	} {
		if s, err := parseStall(bad); err == nil {
			t.Errorf("%q was taken for %+v", bad, s)
		}
	}
}

func FuzzParseStall(f *testing.F) {
	f.Add(stallText)
	f.Add("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseStall(text)
		if err == nil && (s.Some.Total < 0 || s.Some.Avg10 < 0 || s.Some.Avg10 > 100) {
			t.Errorf("%q: %+v", text, s)
		}
		machineGroup(text)
		cgroupMount(text)
		namesGuest([]byte(text), "web")
	})
}

func TestStalledSince(t *testing.T) {
	a, b := Stalled{Total: time.Second}, Stalled{Total: 1500 * time.Millisecond}
	for _, c := range []struct {
		from, to Stalled
		d        time.Duration
		want     float64
	}{{a, b, 2 * time.Second, 25}, {a, b, 100 * time.Millisecond, 100}, {b, a, time.Second, 0}, {a, b, 0, 0}} {
		if got := c.to.Since(c.from, c.d); got != c.want {
			t.Errorf("%v: %v, want %v", c, got, c.want)
		}
	}
}

func TestHostPressure(t *testing.T) {
	p, err := HostPressure(t.Context())
	if errors.Is(err, ErrNoPressure) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil || p.CPU.Some.Total <= 0 || time.Since(p.At) > time.Minute {
		t.Errorf("%+v %v", p, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	root, ok := cgroupMount(string(mounts))
	if _, err := os.Stat(root + "/io.pressure"); !ok || err != nil {
		return // a root group with pressure is there only with newer kernels
	}
	if p, err := readPressure(root, ".pressure"); err != nil || p.CPU.Some.Total <= 0 {
		t.Errorf("of the root control group: %+v %v", p, err)
	}
}

func TestNoPressure(t *testing.T) {
	dir := t.TempDir()
	if _, err := readPressure(dir, ".pressure"); !errors.Is(err, ErrNoPressure) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"io", "cpu", "memory"} {
		must(t, os.WriteFile(filepath.Join(dir, name+".pressure"), []byte(stallText), 0o600))
	}
	if p, err := readPressure(dir, ".pressure"); err != nil || p.Memory.Some.Avg10 != 2.14 {
		t.Errorf("%+v %v", p, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "io.pressure"), nil, 0o600))
	if _, err := readPressure(dir, ".pressure"); err == nil || errors.Is(err, ErrNoPressure) {
		t.Errorf("an empty file: %v", err)
	}
}

func TestMachineGroup(t *testing.T) {
	for text, want := range map[string]string{
		"0::/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt/emulator\n": "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope",
		"9:name=systemd:/\n0::/machine/qemu-1-web.libvirt-qemu/emulator\n":      "/machine/qemu-1-web.libvirt-qemu",
		"0::/system.slice/libvirtd.service\n":                                   "",
		"0::/\n":                                                                "",
		"4:memory:/machine.slice/machine-qemu-1.scope\n":                        "",
		"0::/../machine.slice/machine-qemu.scope\n":                             "",
		"0::/machine.slice/machine-lxc\\x2d1.scope/libvirt\n":                   "",
	} {
		if got, ok := machineGroup(text); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v", text, got, ok)
		}
	}
}

// TestQEMUCgroup lays out a /proc with one guest.
func TestQEMUCgroup(t *testing.T) {
	proc, pids := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
	if _, err := qemuCgroup(proc, pids, "web"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no pid file: %v", err)
	}
	write(pids+"/web.pid", "42\n")
	write(proc+"/42/cmdline", "qemu\x00-name\x00guest=website,debug-threads=on\x00")
	if _, err := qemuCgroup(proc, pids, "web"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("another guest's process: %v", err)
	}
	write(proc+"/42/cmdline", "qemu\x00-name\x00guest=web,debug-threads=on\x00")
	write(proc+"/42/cgroup", "0::/\n")
	if _, err := qemuCgroup(proc, pids, "web"); !errors.Is(err, ErrNoCgroup) {
		t.Errorf("no group of its own: %v", err)
	}
	write(proc+"/42/cgroup", "0::/machine.slice/machine-qemu.scope/libvirt/vcpu0\n")
	write(proc+"/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n")
	got, err := qemuCgroup(proc, pids, "web")
	if err != nil || got != "/sys/fs/cgroup/unified/machine.slice/machine-qemu.scope" {
		t.Errorf("%q %v", got, err)
	}
	if !namesGuest([]byte("-name\x00guest=a,,b,x=y\x00"), "a,b") || namesGuest([]byte("-name\x00guest=a,,b\x00"), "a") {
		t.Error("commas in names")
	}
}
