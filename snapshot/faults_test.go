package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"libvirt.org/go/libvirt"
)

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
