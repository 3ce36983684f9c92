package hypervisor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestUsableKVM(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dev := write("kvm", "")
	for _, c := range []struct {
		flags, dev string
		usable     bool
		why        string
	}{
		{"flags\t\t: fpu vmx sse\n", dev, true, "vmx"},
		{"flags\t\t: fpu svm sse\n", dev, true, "svm"},
		{"flags\t\t: fpu sse\n", dev, false, "neither"},
		{"vmx flags\t: vmx_ept\nflags\t\t: fpu vmxish\n", dev, false, "neither"},
		{"flags\t\t: vmx\n", filepath.Join(dir, "none"), false, "no such file"},
	} {
		usable, why := probeKVM(write("cpuinfo", c.flags), c.dev)
		if usable != c.usable || !strings.Contains(why, c.why) {
			t.Errorf("%q: %v %q", c.flags, usable, why)
		}
	}
	for override, want := range map[string]bool{"kvm": true, "qemu": false} {
		if got, _, err := UsableKVM(override); got != want || err != nil {
			t.Errorf("%s: %v %v", override, got, err)
		}
	}
	if _, _, err := UsableKVM("xen"); err == nil {
		t.Error("accepted an unknown override")
	}
}

func TestHostCapacity(t *testing.T) {
	c, err := HostCapacity(t.TempDir())
	if err != nil || c.MemoryTotal < 64<<20 || c.MemoryAvailable > c.MemoryTotal || c.DiskFree > c.DiskTotal || c.CPUs < 1 {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := HostCapacity("/does/not/exist"); err == nil {
		t.Error("no error for a folder that does not exist")
	}
}

func TestDiff(t *testing.T) {
	a := Fingerprint{XMLSHA256: "1", DiskChainSHA256: "1", ActiveXML: "a\nb\nc\nd", DiskChain: map[string][]ImageHeader{"vda": {{Path: "/x"}}}}
	if d := Diff(a, a); d != nil {
		t.Errorf("equal ones differ: %v", d)
	}
	b := a
	b.XMLSHA256, b.ActiveXML = "2", "a\nX\nc\nd\ne"
	if d := Diff(a, b); !slices.Equal(d, []string{"running: - b", "running: + X", "running: + e"}) {
		t.Errorf("%q", d)
	}
	b = a
	b.DiskChainSHA256, b.DiskChain = "2", map[string][]ImageHeader{"vda": {{Path: "/x", Bitmaps: []Bitmap{{Name: "left"}}}}}
	if d := strings.Join(Diff(a, b), " "); !strings.Contains(d, `"left"`) {
		t.Errorf("%q", d)
	}
	b = a
	b.XMLSHA256 = "2"
	if d := Diff(a, b); len(d) != 1 || !strings.Contains(d[0], "secret") {
		t.Errorf("%q", d)
	}
}

func TestSocketPaths(t *testing.T) {
	for uri, want := range map[string]string{
		"qemu+unix:///system?socket=/run/x/sock": "/run/x/sock", "qemu:///system": defaultSockets[0],
		"qemu+ssh://host/system": "", "qemu:///session": "", "test:///default": "",
	} {
		paths, err := socketPaths(uri)
		if want == "" {
			if !errors.Is(err, ErrNoMonitor) {
				t.Errorf("%s: %v %v", uri, paths, err)
			}
		} else if err != nil || paths[0] != want {
			t.Errorf("%s: %v %v", uri, paths, err)
		}
	}
}

func TestNetworkSpecs(t *testing.T) {
	ok := NetworkSpec{Name: "imago-u1", UUID: "11111111-2222-4333-8444-555555555555", Bridge: "imb0"}
	if _, err := NewNetworkXML(ok); err != nil {
		t.Error(err)
	}
	for _, bad := range []NetworkSpec{{"other", ok.UUID, "b"}, {"imago-", ok.UUID, "b"}, {ok.Name, "", "b"}, {ok.Name, ok.UUID, ""}, {ok.Name, ok.UUID, "sixteen-letters-"}} {
		if _, err := NewNetworkXML(bad); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}
