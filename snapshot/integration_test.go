package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
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

// tmpfs mounts a small file system.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func testNoRoom(t *testing.T, w *world) {
	opts := w.options(t)
	opts.Dir = tmpfs(t, "40m")
	opts.Reserve = 1
	before := w.production(t)
	for _, early := range []bool{true, false} {
		opts.hooks.skipSpace = !early // without it the allocation itself must fail
		_, err := Take(t.Context(), w.sources(), opts)
		var space *NoSpaceError
		if !errors.As(err, &space) || !errors.Is(err, ErrNoSpace) {
			t.Fatalf("checked early %v: got %v, want a NoSpaceError", early, err)
		}
		if space.Need < diskSize || space.Free > 40<<20 {
			t.Errorf("need %d free %d", space.Need, space.Free)
		}
		mustBeEmpty(t, opts.Dir, w.sockets)
	}
	w.mustRun(t)
	if w.production(t) != before {
		t.Error("production changed")
	}
}

func testScratchFull(t *testing.T, w *world) {
	opts := w.options(t)
	opts.Dir = tmpfs(t, "4m")
	opts.hooks = hooks{scratchLayout: "cluster_size=64k", skipSpace: true}
	set, err := Take(t.Context(), w.sources()[:1], opts)
	must(t, err)
	defer func() { _ = set.End(t.Context()) }()
	select {
	case loss := <-set.Lost():
		t.Log(loss)
	case <-time.After(40 * time.Second):
		t.Fatal("a full scratch was not noticed")
	}
	if set.Err() == nil {
		t.Error("no error although the view is lost")
	}
	w.guests[0].waitCount(w.guests[0].count() + 100) // it writes on
	w.mustRun(t)
	must(t, set.End(t.Context()))
	mustBeEmpty(t, opts.Dir, w.sockets)
}

func testForeignJob(t *testing.T, w *world) {
	opts := w.options(t)
	g := w.guests[0]
	scratch := filepath.Join(w.dir, "foreign.qcow2")
	must(t, g.dom.BackupBegin(fmt.Sprintf(`<domainbackup mode='pull'><server transport='unix' socket='/run/foreign'/>
		<disks><disk name='vda' backup='yes' type='file'><scratch file='%s'/></disk></disks></domainbackup>`, scratch), "", 0))
	_, err := Take(t.Context(), w.sources(), opts)
	if !errors.Is(err, ErrForeignJob) {
		t.Errorf("got %v, want ErrForeignJob", err)
	}
	if err := EndJob(t.Context(), g.dom, opts.Dir); !errors.Is(err, ErrForeignJob) {
		t.Errorf("EndJob gave %v, want ErrForeignJob", err)
	}
	if running, _, err := runningJob(g.dom, opts.Dir); !running || err != nil {
		t.Fatalf("the foreign job was ended: %v", err)
	}
	mustBeEmpty(t, opts.Dir, w.sockets)
	must(t, EndJob(t.Context(), g.dom, w.dir)) // under this folder it counts as ours
	must(t, EndJob(t.Context(), g.dom, w.dir)) // and a second time nothing is left to do
	w.mustRun(t)
}

// testFailedBegin lets the second VM fail after the first one's job has begun.
func testFailedBegin(t *testing.T, w *world) {
	opts := w.options(t)
	sources := w.sources()
	sources[1].Disks = append(sources[1].Disks, SourceDisk{"vdz", 1 << 20})
	if _, err := Take(t.Context(), sources, opts); err == nil {
		t.Fatal("a disk that does not exist was accepted")
	}
	w.mustRun(t)
	mustBeEmpty(t, opts.Dir, w.sockets)
	w.mustBeThawed(t)
}

func (w *world) mustBeThawed(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, "the guest is thawed", func() error {
		status, err := w.guests[0].freezeStatus()
		if err == nil && status != "thawed" {
			return errors.New(status)
		}
		return err
	})
}

// runVictim takes a view and stops for ever while the guest is frozen.
func runVictim(args []string) error {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	must(libvirt.EventRegisterDefaultImpl())
	go func() {
		for {
			_ = libvirt.EventRunDefaultImpl()
		}
	}()
	conn, err := libvirt.NewConnect("qemu:///system")
	must(err)
	dom, err := conn.LookupDomainByName(args[0])
	must(err)
	opts := Options{Dir: args[1], SocketDir: args[2], GuardCommand: []string{"/proc/self/exe", "guard-thaw"}, URI: "qemu:///system"}
	opts.hooks.afterFreeze = func() {
		fmt.Println("frozen")
		select {}
	}
	_, err = Take(context.Background(), []Source{{Domain: dom, Name: args[0], Disks: []SourceDisk{{"vda", diskSize}}}}, opts)
	return err
}

func testKilled(t *testing.T, w *world) {
	opts := w.options(t)
	victim := exec.Command("/proc/self/exe", "victim", "one", opts.Dir, opts.SocketDir)
	var stderr bytes.Buffer
	victim.Stderr = &stderr
	out, err := victim.StdoutPipe()
	must(t, err)
	must(t, victim.Start())
	line := make([]byte, 16)
	n, err := out.Read(line)
	if err != nil || string(line[:n]) != "frozen\n" {
		t.Fatalf("the victim said %q: %v %s", line[:n], err, stderr.String())
	}
	if status, err := w.guests[0].freezeStatus(); err != nil || status != "frozen" {
		t.Fatalf("the guest is %q, the test proves nothing: %v", status, err)
	}
	must(t, victim.Process.Signal(syscall.SIGKILL))
	_ = victim.Wait()
	w.mustBeThawed(t)
	w.mustRun(t)
	w.noGuard(t)
	must(t, os.RemoveAll(w.sockets))
	must(t, os.Mkdir(w.sockets, 0o755))
}

// noGuard waits until no guard process is left.
func (w *world) noGuard(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, "the guard ends", func() error {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range all {
			text, _ := os.ReadFile(f)
			if bytes.Contains(text, []byte("\x00guard-thaw\x00")) {
				return fmt.Errorf("%s still runs", f)
			}
		}
		return nil
	})
}

func testHangs(t *testing.T, w *world) {
	opts := w.options(t)
	opts.FreezeTimeout, opts.BeginTimeout = time.Second, 500*time.Millisecond
	opts.hooks.afterFreeze = func() { w.mustBeThawedFrom(t, "frozen") }
	set, err := Take(t.Context(), w.sources()[:1], opts)
	if !errors.Is(err, ErrGuardFired) {
		if set != nil {
			_ = set.End(t.Context())
		}
		t.Fatalf("got %v, want ErrGuardFired", err)
	}
	w.mustRun(t)
	mustBeEmpty(t, opts.Dir, w.sockets)
}

func (w *world) mustBeThawedFrom(t *testing.T, status string) {
	if got, err := w.guests[0].freezeStatus(); err != nil || got != status {
		t.Errorf("the guest is %q: %v", got, err)
	}
	w.mustBeThawed(t)
}

func testSourceOff(t *testing.T, w *world) {
	opts := w.options(t)
	g := w.guests[1]
	set, err := Take(t.Context(), w.sources()[1:], opts)
	must(t, err)
	clone := startClone(t, w, set, "two", opts.Dir)
	pulled := make(chan error, 1)
	var started atomic.Bool
	go func() {
		pulled <- Pull(t.Context(), clone.dom, []string{"vda"}, NewRate(64<<10), func(uint64, uint64) { started.Store(true) })
	}()
	eventually(t, 10*time.Second, "the pull starts", func() error {
		if !started.Load() {
			return errNotYet
		}
		return nil
	})
	must(t, g.dom.Destroy())
	select {
	case loss := <-set.Lost():
		if loss.VM != "two" {
			t.Errorf("lost %v", loss)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("not noticed")
	}
	select {
	case err := <-pulled:
		if !errors.Is(err, ErrCloneLost) {
			t.Errorf("the pull gave %v, want ErrCloneLost", err)
		}
	case <-time.After(40 * time.Second):
		t.Error("the pull goes on without its view")
	}
	clone.remove()
	must(t, os.RemoveAll(filepath.Join(opts.Dir, "clone-vda.qcow2")))
	must(t, os.RemoveAll(filepath.Join(opts.Dir, "clone-vdb.qcow2")))
	must(t, set.End(t.Context()))
	mustBeEmpty(t, opts.Dir, w.sockets)
	if _, err := Take(t.Context(), w.sources()[1:], opts); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v, want ErrNotRunning", err)
	}
}
