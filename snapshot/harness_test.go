package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"libvirt.org/go/libvirt"
)

// inNamespaces is set in the copy of this test that runs in namespaces of its own.
const inNamespaces = "IMAGO_SNAPSHOT_TEST_NS"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "guard-thaw":
			exitOn(RunGuard(context.Background(), os.Stdin, os.Stdout))
		case "victim":
			exitOn(runVictim(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// need skips, or in CI fails, where the machine cannot run the test.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must have %s", what)
	}
	t.Skipf("needs %s", what)
}

func needTools(t *testing.T, tools ...string) {
	t.Helper()
	need(t, os.Geteuid() == 0, "root")
	for _, tool := range tools {
		_, err := exec.LookPath(tool)
		need(t, err == nil, tool)
	}
}

// isolate runs the calling test again in new pid, mount and network
// namespaces and returns true in the outer process. The shell is there because
// process 1 must reap the QEMUs that libvirtd leaves behind.
func isolate(t *testing.T) (outer bool) {
	t.Helper()
	if os.Getenv(inNamespaces) != "" {
		return false
	}
	needTools(t, "unshare", "libvirtd", "qemu-system-x86_64", "qemu-img", "mkfs.ext4", "ip", "go")
	dir := t.TempDir()
	guest := buildGuest(t)
	cmd := exec.Command("unshare", "--fork", "--pid", "--kill-child", "--mount-proc", "--mount", "--net",
		"sh", "-c", `"$@"; exit $?`, "sh", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=170s")
	cmd.Env = append(os.Environ(), inNamespaces+"="+dir, "IMAGO_TEST_GUEST="+guest)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("in its namespaces: %v", err)
	}
	return true
}

// privateLibvirt starts a libvirtd that nobody else sees and connects to it.
func privateLibvirt(t *testing.T) *libvirt.Connect {
	t.Helper()
	dir := os.Getenv(inNamespaces)
	must(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	must(t, syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	for _, sub := range []string{"/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt"} {
		own := filepath.Join(dir, sub)
		must(t, os.MkdirAll(own, 0o755))
		must(t, os.MkdirAll(sub, 0o755))
		must(t, syscall.Mount(own, sub, "", syscall.MS_BIND, ""))
	}
	must(t, os.WriteFile("/etc/libvirt/qemu.conf", []byte(`user="root"
group="root"
dynamic_ownership=0
remember_owner=0
security_driver="none"
namespaces=[]
stdio_handler="file"
cgroup_controllers=[]
`), 0o600))
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("lo up: %v %s", err, out)
	}
	logFile, err := os.Create(filepath.Join(dir, "libvirtd.log"))
	must(t, err)
	daemon := exec.Command("libvirtd")
	daemon.Stdout, daemon.Stderr = logFile, logFile
	must(t, daemon.Start())
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
		_ = logFile.Close()
	})
	startEventLoop(t)
	var conn *libvirt.Connect
	eventually(t, 20*time.Second, "libvirtd answers", func() error {
		var err error
		conn, err = libvirt.NewConnect("qemu+unix:///system?socket=/run/libvirt/libvirt-sock")
		return err
	})
	t.Cleanup(func() { _, _ = conn.Close() })
	return conn
}

func startEventLoop(t *testing.T) {
	t.Helper()
	must(t, libvirt.EventRegisterDefaultImpl())
	var stop atomic.Bool
	done := make(chan struct{})
	// A periodic timer, so that the loop sees the end.
	_, err := libvirt.EventAddTimeout(100, func(int) {})
	must(t, err)
	go func() {
		defer close(done)
		for !stop.Load() {
			_ = libvirt.EventRunDefaultImpl()
		}
	}()
	t.Cleanup(func() { stop.Store(true); <-done })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition; the last error says what was missing.
func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, nil))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out.String()
}

var errNotYet = errors.New("not yet")
