package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"imago.dev/imago/snapshot/testdata/pattern"
)

func TestOursByScratchFiles(t *testing.T) {
	file := func(path string) libvirtxml.DomainBackupPullDisk {
		return libvirtxml.DomainBackupPullDisk{Name: "vda", Scratch: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}}}
	}
	for _, c := range []struct {
		name  string
		disks []libvirtxml.DomainBackupPullDisk
		dir   string
		ours  bool
	}{
		{"all under it", []libvirtxml.DomainBackupPullDisk{file("/s/v1/a"), file("/s/v1/b")}, "/s", true},
		{"trailing slash", []libvirtxml.DomainBackupPullDisk{file("/s/a")}, "/s/", true},
		{"disk without backup", []libvirtxml.DomainBackupPullDisk{file("/s/a"), {Name: "vdb", Backup: "no"}}, "/s", true},
		{"one elsewhere", []libvirtxml.DomainBackupPullDisk{file("/s/a"), file("/t/b")}, "/s", false},
		{"similar name", []libvirtxml.DomainBackupPullDisk{file("/s2/a")}, "/s", false},
		{"dots lead out", []libvirtxml.DomainBackupPullDisk{file("/s/../t/a")}, "/s", false},
		{"no disks", nil, "/s", false},
		{"no scratch", []libvirtxml.DomainBackupPullDisk{{Name: "vda", Backup: "yes"}}, "/s", false},
		{"no folder", []libvirtxml.DomainBackupPullDisk{file("/s/a")}, "", false},
	} {
		doc := &libvirtxml.DomainBackup{Pull: &libvirtxml.DomainBackupPull{Disks: &libvirtxml.DomainBackupPullDisks{Disks: c.disks}}}
		if got := scratchUnder(doc, c.dir); got != c.ours {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if scratchUnder(&libvirtxml.DomainBackup{Push: &libvirtxml.DomainBackupPush{}}, "/") {
		t.Error("a push backup passes as ours")
	}
}

func TestBackupXML(t *testing.T) {
	text, err := backupXML(&vmView{name: "x", socket: "/run/i/0/nbd", disks: []diskView{{SourceDisk{"vda", 1}, "/s/0-vda.qcow2"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`mode="pull"`, `transport="unix" socket="/run/i/0/nbd"`, `exportname="vda"`, `<driver type="qcow2">`, `<scratch file="/s/0-vda.qcow2">`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

func TestTakeChecksBeforeItTouchesAnything(t *testing.T) {
	good := Options{Dir: "/s", SocketDir: "/r", GuardCommand: []string{"x"}}
	src := []Source{{Domain: &libvirt.Domain{}, Name: "a", Disks: []SourceDisk{{"vda", 1}}}}
	for name, change := range map[string]func(*Options, *[]Source){
		"relative folder": func(o *Options, _ *[]Source) { o.Dir = "s" },
		"guard":           func(o *Options, _ *[]Source) { o.GuardCommand = nil },
		"no VM":           func(_ *Options, s *[]Source) { *s = nil },
		"given twice":     func(_ *Options, s *[]Source) { *s = append(*s, (*s)[0]) },
		"unique target": func(_ *Options, s *[]Source) {
			*s = []Source{{Domain: &libvirt.Domain{}, Name: "a", Disks: []SourceDisk{{"../x", 1}}}}
		},
		"no domain": func(_ *Options, s *[]Source) { *s = []Source{{Name: "a", Disks: []SourceDisk{{"vda", 1}}}} },
	} {
		opts, sources := good, append([]Source(nil), src...)
		change(&opts, &sources)
		if _, err := Take(t.Context(), sources, opts); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(name, "relative ")) && !strings.Contains(err.Error(), "not an absolute path") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestScratchNeverExceedsItsEstimate(t *testing.T) {
	needTools(t, "qemu-img")
	for _, capacity := range []uint64{4096, 1 << 20, 100<<20 + 512} {
		path := filepath.Join(t.TempDir(), "s")
		if err := createScratch(t.Context(), path, capacity, Options{}.withDefaults()); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil || uint64(st.Size()) > scratchBytes(capacity) {
			t.Errorf("scratch for %d has %d bytes, estimated %d (%v)", capacity, st.Size(), scratchBytes(capacity), err)
		}
	}
}

func TestViewURI(t *testing.T) {
	v := View{Socket: "/run/a b&c/nbd", Export: "vda"}
	u, err := url.Parse(v.URI())
	if err != nil || u.Scheme != "nbd+unix" || u.Path != "/vda" || u.Query().Get("socket") != v.Socket {
		t.Errorf("%s: %v", v.URI(), err)
	}
	if _, err := (&Set{}).View("a", "vda"); !errors.Is(err, ErrNoView) {
		t.Errorf("got %v", err)
	}
}

func TestQemuOwner(t *testing.T) {
	for label, want := range map[string]*owner{"+64055:+109": {64055, 109}, "0:0": {0, 0}, "libvirt-qemu:kvm": nil, "": nil, "+1": nil} {
		got := qemuOwner(&libvirtxml.Domain{SecLabel: []libvirtxml.DomainSecLabel{{Model: "apparmor", Label: "x"}, {Model: "dac", Label: label}}})
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%q: %+v", label, got)
		}
	}
}

func TestGuardNeedsAnOrder(t *testing.T) {
	for _, in := range []string{"", "no newline", "not json\n", `{"uri":"nosuch:///x"}` + "\n"} {
		var out bytes.Buffer
		if err := RunGuard(t.Context(), strings.NewReader(in), &out); err == nil || out.Len() > 0 {
			t.Errorf("%q: %v, said %q", in, err, out.String())
		}
	}
}

// TestGuardProtocol runs the guard on libvirt's built-in test driver.
func TestGuardProtocol(t *testing.T) {
	const order = `{"uri":"test:///default","domains":["6695eb01-f6a4-8304-79aa-97f2502e193f"],"dir":"/s","patience":%s}` + "\n"
	for _, c := range []struct {
		name, patience, then string
		closed               bool
		want                 error
	}{
		{"done", "60000000000", "done\n", false, nil},
		{"parent dies", "60000000000", "", true, ErrGuardFired},
		{"parent says nonsense", "60000000000", "dones\n", false, ErrGuardFired},
		{"parent hangs", "50000000", "", false, ErrGuardFired},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in, feed := io.Pipe()
			defer func() { _ = feed.Close() }()
			out, said := io.Pipe()
			end := make(chan error, 1)
			go func() { end <- RunGuard(context.Background(), in, said); _ = said.Close() }()
			_, _ = io.WriteString(feed, strings.Replace(order, "%s", c.patience, 1))
			ready := make([]byte, 16)
			if n, err := out.Read(ready); string(ready[:n]) != "ready\n" {
				t.Fatalf("said %q: %v %v", ready[:n], err, <-end)
			}
			go func() { _, _ = io.Copy(io.Discard, out) }()
			if c.then != "" {
				_, _ = io.WriteString(feed, c.then)
			}
			if c.closed {
				_ = feed.Close()
			}
			select {
			case err := <-end:
				if !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			case <-time.After(30 * time.Second):
				t.Error("it does not end")
			}
		})
	}
}

func TestPatternState(t *testing.T) {
	disk := make([]byte, 64*pattern.Block)
	for n := uint64(1); n <= 200; n++ {
		at := pattern.Place(n, 64) * pattern.Block
		pattern.Fill(disk[at:at+pattern.Block], n)
		if got, err := pattern.State(disk); err != nil || got != n {
			t.Fatalf("after %d: %d %v", n, got, err)
		}
	}
	disk[pattern.Place(190, 64)*pattern.Block+8]++
	if _, err := pattern.State(disk); err == nil {
		t.Error("a changed byte was not seen")
	}
}
