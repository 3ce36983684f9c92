package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"imago.dev/imago/snapshot/testdata/pattern"
)

// world is what the integration cases share: one libvirtd, two source guests.
type world struct {
	conn    *libvirt.Connect
	dir     string
	sockets string
	guests  []*guest
}

// TestRealGuests works on real guests under a real libvirtd. One boot of the
// sources serves all cases, to stay fast under software emulation.
func TestRealGuests(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	if isolate(t) {
		return
	}
	w := newWorld(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *world)
	}{
		{"view is one exact instant and clones boot on it while it is pulled", testClone},
		{"no room is refused before production is touched", testNoRoom},
		{"full scratch costs the view and not production", testScratchFull},
		{"foreign job is refused and left alone", testForeignJob},
		{"failed begin leaves nothing", testFailedBegin},
		{"guest is thawed when the process is killed", testKilled},
		{"guard thaws a process that hangs", testHangs},
		{"production that goes off costs the clone", testSourceOff},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, w) })
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{conn: privateLibvirt(t), dir: os.Getenv(inNamespaces), sockets: "/run/im"}
	must(t, os.Mkdir(w.sockets, 0o755))
	for _, name := range []string{"one", "two"} {
		vda, vdb := filepath.Join(w.dir, name+"-a.qcow2"), filepath.Join(w.dir, name+"-b.raw")
		run(t, "qemu-img", "create", "-q", "-f", "qcow2", vda, fmt.Sprint(diskSize))
		run(t, "qemu-img", "create", "-q", "-f", "raw", vdb, fmt.Sprint(diskSize))
		disks := []libvirtxml.DomainDisk{fileDisk("vda", vda, "qcow2"), fileDisk("vdb", vdb, "raw")}
		var channels []libvirtxml.DomainChannel
		if name == "one" { // the other one has no agent
			channels = append(channels, withAgent())
			data := filepath.Join(w.dir, name+"-c.raw")
			run(t, "qemu-img", "create", "-q", "-f", "raw", data, "8M")
			run(t, "mkfs.ext4", "-q", data)
			disks = append(disks, fileDisk("vdc", data, "raw"))
		}
		w.guests = append(w.guests, startGuest(t, w.conn, name, disks, channels...))
	}
	for _, g := range w.guests {
		g.waitCount(50)
	}
	w.guests[0].waitAgent()
	return w
}

func (w *world) options(t *testing.T) Options {
	t.Helper()
	dir, err := os.MkdirTemp(w.dir, "s")
	must(t, err)
	return Options{Dir: dir, SocketDir: w.sockets, GuardCommand: []string{"/proc/self/exe", "guard-thaw"}, Log: testLog(t)}
}

func (w *world) sources() []Source {
	var list []Source
	for _, g := range w.guests {
		list = append(list, Source{Domain: g.dom, Name: g.name, Disks: []SourceDisk{{"vda", diskSize}, {"vdb", diskSize}}})
	}
	return list
}

// production is what must be the same before and after.
func (w *world) production(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, g := range w.guests {
		for _, flags := range []libvirt.DomainXMLFlags{0, libvirt.DOMAIN_XML_INACTIVE | libvirt.DOMAIN_XML_SECURE} {
			text, err := g.dom.GetXMLDesc(flags)
			must(t, err)
			b.WriteString(text)
		}
		var img map[string]any
		must(t, json.Unmarshal([]byte(run(t, "qemu-img", "info", "-U", "--output=json", "-f", "qcow2", filepath.Join(w.dir, g.name+"-a.qcow2"))), &img))
		delete(img, "actual-size") // grows with the guest's writes
		text, err := json.Marshal(img)
		must(t, err)
		b.Write(text)
		nodes, err := g.dom.QemuMonitorCommand(`{"execute":"query-named-block-nodes","arguments":{"flat":true}}`, 0)
		must(t, err)
		fmt.Fprintln(&b, strings.Count(nodes, `"node-name"`), "block nodes")
	}
	return b.String()
}

func (w *world) mustRun(t *testing.T) {
	t.Helper()
	for _, g := range w.guests {
		state, reason, err := g.dom.GetState()
		must(t, err)
		if state != libvirt.DOMAIN_RUNNING {
			t.Fatalf("production %s is in state %d reason %d", g.name, state, reason)
		}
		if running, _, err := runningJob(g.dom, "/"); err != nil || running {
			t.Fatalf("production %s still has a backup job: %v", g.name, err)
		}
	}
}

func mustBeEmpty(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			t.Errorf("left behind: %s", filepath.Join(dir, e.Name()))
		}
	}
}

// read copies a whole view out.
func read(t *testing.T, v View) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "view")
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", v.URI(), out)
	return readFile(t, out)
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func testClone(t *testing.T, w *world) {
	ctx := t.Context()
	before := w.production(t)
	opts := w.options(t)
	set, err := Take(ctx, w.sources(), opts)
	must(t, err)
	defer func() { _ = set.End(ctx) }()
	atView := w.guests[0].count()
	for _, r := range set.Report() {
		t.Logf("%s: frozen %s, %+v", r.Name, r.Frozen, r.Consistency)
		if want := r.Name == "one"; r.Consistency.FileSystems != want {
			t.Errorf("%s: file systems consistent %v, want %v", r.Name, r.Consistency.FileSystems, want)
		}
	}
	states := exactInstant(t, w, set)

	clone := startClone(t, w, set, "one", opts.Dir)
	rate := NewRate(256 << 10)
	pulled := make(chan error, 1)
	var lastDone, lastTotal uint64
	go func() {
		pulled <- Pull(ctx, clone.dom, []string{"vda", "vdb"}, rate, func(done, total uint64) { lastDone, lastTotal = done, total })
	}()
	eventually(t, 40*time.Second, "the clone boots", func() error {
		if len(clone.said("STATE")) == 0 {
			return errNotYet
		}
		return nil
	})
	select {
	case err := <-pulled:
		t.Fatalf("the pull ended before the clone booted: %v", err)
	default:
	}
	if got := clone.said("STATE")[0]; got[0] != states[0] || got[1] != states[1] {
		t.Errorf("the clone booted with state %v, the view has %v", got, states)
	}
	rate.Set(0)
	must(t, <-pulled)
	if lastTotal == 0 || lastDone != lastTotal {
		t.Errorf("progress ended at %d of %d", lastDone, lastTotal)
	}
	must(t, set.End(ctx))
	must(t, set.Err())
	mustBeEmptyBut(t, opts.Dir, "clone-")
	mustBeEmpty(t, w.sockets)

	defer clone.remove()
	// The clone stands alone now, and production went on all the time.
	clone.waitCount(clone.count())
	for _, g := range w.guests {
		g.waitCount(atView + 1)
	}
	w.mustRun(t)
	if after := w.production(t); after != before {
		t.Errorf("production changed:\nbefore %s\nafter %s", before, after)
	}
}

func mustBeEmptyBut(t *testing.T, dir, prefix string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			t.Errorf("left behind: %s", filepath.Join(dir, e.Name()))
		}
	}
}

// exactInstant reads the views twice while the guests write, and checks that
// both disks of each guest show the same moment, byte for byte.
func exactInstant(t *testing.T, w *world, set *Set) (first []uint64) {
	t.Helper()
	for _, g := range w.guests {
		var states []uint64
		var hashes []string
		for round := range 2 {
			for _, disk := range []string{"vda", "vdb"} {
				v, err := set.View(g.name, disk)
				must(t, err)
				data := read(t, v)
				n, err := pattern.State(data)
				if err != nil {
					t.Fatalf("%s %s: %v", g.name, disk, err)
				}
				states, hashes = append(states, n), append(hashes, hash(data))
			}
			if round == 0 {
				g.waitCount(g.count() + 20)
			}
		}
		if hashes[0] != hashes[2] || hashes[1] != hashes[3] {
			t.Errorf("%s: the view changed: %v", g.name, states)
		}
		if d := states[0] - states[1]; d > 1 {
			t.Errorf("%s: the two disks are of different moments: %v", g.name, states)
		}
		if states[0] == 0 || g.count() <= states[0] {
			t.Errorf("%s: the source did not write on: view %d, now %d", g.name, states[0], g.count())
		}
		if first == nil {
			first = states[:2]
		}
	}
	return first
}

func startClone(t *testing.T, w *world, set *Set, source, dir string) *guest {
	t.Helper()
	var disks []libvirtxml.DomainDisk
	for _, target := range []string{"vda", "vdb"} {
		v, err := set.View(source, target)
		must(t, err)
		path := filepath.Join(dir, "clone-"+target+".qcow2")
		must(t, CreateOverlay(t.Context(), path, v))
		if err := CreateOverlay(t.Context(), path, v); !errors.Is(err, os.ErrExist) {
			t.Errorf("an overlay replaced an existing file: %v", err)
		}
		disk := fileDisk(target, path, "qcow2")
		disk.BackingStore = &libvirtxml.DomainDiskBackingStore{
			Format: &libvirtxml.DomainDiskFormat{Type: "raw"},
			Source: &libvirtxml.DomainDiskSource{Network: &libvirtxml.DomainDiskSourceNetwork{Protocol: "nbd", Name: v.Export,
				Hosts: []libvirtxml.DomainDiskSourceHost{{Transport: "unix", Socket: v.Socket}}}},
			BackingStore: &libvirtxml.DomainDiskBackingStore{}}
		disks = append(disks, disk)
	}
	return startGuest(t, w.conn, "clone", disks, withAgent())
}
