package viewmount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const inside = "IMAGO_VIEWMOUNT_TEST_INSIDE"

// TestMain runs the tests in a mount namespace of their own.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" && os.Geteuid() == 0 {
		cmd := exec.Command("unshare", append([]string{"--mount", "--", os.Args[0]}, os.Args[1:]...)...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), inside+"=1")
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func needLoop(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("losetup")
	if _, derr := os.Stat("/dev/loop-control"); err == nil && derr == nil && os.Getenv(inside) != "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI must have root, losetup and loop devices")
	}
	t.Skip("needs root, losetup and loop devices")
}

// image makes an ext4 image with what sh puts into it. It is copied while it is
// mounted, so it is as after a power cut.
func image(t *testing.T, sh string) string {
	t.Helper()
	dir := t.TempDir()
	raw, mnt, cut := filepath.Join(dir, "raw"), filepath.Join(dir, "mnt"), filepath.Join(dir, "cut")
	must(t, os.Mkdir(mnt, 0o755))
	must(t, os.WriteFile(raw, nil, 0o600))
	must(t, os.Truncate(raw, 32<<20))
	run(t, "mkfs.ext4", "-q", raw)
	run(t, "mount", "-o", "loop", raw, mnt)
	defer run(t, "umount", mnt)
	run(t, "/bin/sh", "-e", "-c", "cd "+mnt+"; "+sh+"; sync -f .")
	run(t, "cp", raw, cut)
	return cut
}

func loop(t *testing.T, file string, args ...string) string {
	t.Helper()
	dev := run(t, append(append([]string{"losetup", "--find", "--show"}, args...), file)...)
	t.Cleanup(func() { run(t, "losetup", "-d", dev) })
	return dev
}

func TestPrivateMountOfACutFileSystem(t *testing.T) {
	needLoop(t)
	dev := loop(t, image(t, `mkdir -p var/www; echo content >var/www/file; ln -s /var/www abs; ln -s ../../../../../../etc up; ln -s /proc/self/root magic`))
	p, err := mountPrivate(dev, "", time.Now())
	must(t, err)
	if text := run(t, "cat", "/proc/mounts"); strings.Contains(text, dev) {
		t.Errorf("others see it: %s", text)
	}
	for path, want := range map[string]string{"/": "abs lost+found magic up var", "/var/www": "file", "/abs": "file", "/abs/.": "file"} {
		f, err := p.Open(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		names, err := f.Readdirnames(-1)
		must(t, errors.Join(err, f.Close()))
		if len(names) != len(strings.Fields(want)) {
			t.Errorf("%s: %v", path, names)
		}
	}
	// Links stay in the view: there is no /etc in it, and no /proc.
	for _, path := range []string{"/up", "/magic", "/none", "/var/www/file", "/../../etc"} {
		if f, err := p.Open(path); err == nil {
			t.Errorf("opened %s", path)
			f.Close()
		}
	}
	fd, err := p.step("/var/www")
	must(t, err)
	must(t, unix.Close(fd))
	if _, err := p.step("/abs"); err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("without openat2: %v", err)
	}
	if _, err := unix.Openat(int(p.root.Fd()), "new", unix.O_CREAT|unix.O_WRONLY, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("it is writable: %v", err)
	}
	var st unix.Statfs_t
	must(t, unix.Fstatfs(int(p.root.Fd()), &st))
	if want := int64(unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_NOATIME); st.Flags&want != want {
		t.Errorf("flags %x", st.Flags)
	}
	must(t, p.Close())
	mustBeFree(t, dev)
}

// mustBeFree: the device can be opened for one user alone.
func mustBeFree(t *testing.T, dev string) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatalf("still in use: %v", err)
	}
	must(t, f.Close())
}

func TestReadOnlyDiskIsExplained(t *testing.T) {
	needLoop(t)
	dev := loop(t, image(t, "echo x >file"), "--read-only")
	if p, err := mountPrivate(dev, "", time.Now()); err == nil || !strings.Contains(err.Error(), "journal must be replayed") {
		t.Errorf("got %v, %v", p, err)
	}
	mustBeFree(t, dev)
}

// withDisk shows a loop device under a serial number, as udev shows disks.
func withDisk(t *testing.T, serial, dev string) {
	t.Helper()
	must(t, os.MkdirAll("/dev/disk/by-id", 0o755))
	must(t, unix.Mount("tmpfs", "/dev/disk/by-id", "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount("/dev/disk/by-id", 0)) })
	must(t, os.Symlink("../../"+filepath.Base(dev), "/dev/disk/by-id/virtio-"+serial))
}

func TestMountForEverybody(t *testing.T) {
	needLoop(t)
	dev := loop(t, image(t, "echo content >file"))
	withDisk(t, "view-1", dev)
	where := filepath.Join(t.TempDir(), "a b", "view")
	d := Disk{Serial: "view-1", Wait: time.Second}
	for range 2 { // the second time what the first left is unmounted
		must(t, Mount(context.Background(), d, where))
		if got := run(t, "cat", where+"/file"); got != "content" {
			t.Errorf("read %q", got)
		}
	}
	must(t, Unmount(where))
	must(t, Unmount(where))
	if _, err := os.Stat(where); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	mustBeFree(t, dev)
	busy := t.TempDir()
	must(t, os.WriteFile(busy+"/x", nil, 0o600))
	for _, bad := range []string{busy, "/mnt", "relative", "/a/../b"} {
		if err := Mount(context.Background(), d, bad); err == nil {
			t.Errorf("mounted on %s", bad)
		}
	}
}

// fake is a sysfs and a /dev in which disks appear when the test wants it.
type fake struct {
	t *testing.T
	roots
	minor uint32
}

func fakeSystem(t *testing.T) *fake {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make devices")
	}
	dir := t.TempDir()
	f := &fake{t: t, roots: roots{sys: filepath.Join(dir, "sys"), dev: filepath.Join(dir, "dev")}}
	must(t, os.MkdirAll(filepath.Join(f.sys, "block"), 0o755))
	must(t, os.MkdirAll(f.dev, 0o755))
	return f
}

// add makes a disk, or with a partition's number one of its partitions.
func (f *fake) add(path, serial, partition string) {
	at := filepath.Join(f.sys, "block", path)
	f.minor++
	must(f.t, os.MkdirAll(at, 0o755))
	must(f.t, unix.Mknod(filepath.Join(f.dev, filepath.Base(path)), unix.S_IFBLK|0o600, int(unix.Mkdev(7, f.minor))))
	must(f.t, os.WriteFile(filepath.Join(at, "dev"), fmt.Appendf(nil, "7:%d\n", f.minor), 0o644))
	for name, text := range map[string]string{"serial": serial, "partition": partition} {
		if text != "" {
			must(f.t, os.WriteFile(filepath.Join(at, name), []byte(text), 0o644))
		}
	}
}

func TestFindWaits(t *testing.T) {
	f := fakeSystem(t)
	f.add("vda", "ROOT\n", "")
	time.AfterFunc(100*time.Millisecond, func() { f.add("vdb", "view\x00", "") })
	path, err := f.find(context.Background(), Disk{Serial: "view", Wait: 5 * time.Second})
	if err != nil || path != f.dev+"/vdb" {
		t.Fatalf("%q %v", path, err)
	}
	time.AfterFunc(100*time.Millisecond, func() { f.add("vdb/vdb2", "", "2\n") })
	path, err = f.find(context.Background(), Disk{Serial: "view", Partition: 2, Wait: 5 * time.Second})
	if err != nil || path != f.dev+"/vdb2" {
		t.Fatalf("%q %v", path, err)
	}
	must(t, os.WriteFile(filepath.Join(f.sys, "block/vda/dev"), []byte("7:99\n"), 0o644))
	for name, c := range map[string]struct {
		disk Disk
		want string
	}{
		"not there":    {Disk{Serial: "none", Wait: 50 * time.Millisecond}, `vda ("ROOT"), vdb ("view")`},
		"no serial":    {Disk{Wait: time.Second}, "no serial"},
		"wrong node":   {Disk{Serial: "ROOT", Wait: 50 * time.Millisecond}, "vda is not"},
		"no partition": {Disk{Serial: "view", Partition: 3, Wait: 50 * time.Millisecond}, "no partition 3; it has [2]"},
	} {
		if _, err := f.find(context.Background(), c.disk); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.add("vdc", "view", "")
	if _, err := f.find(context.Background(), Disk{Serial: "view", Wait: time.Second}); err == nil || !strings.Contains(err.Error(), "vdb, vdc") {
		t.Errorf("two disks: %v", err)
	}
}

func FuzzDetect(f *testing.F) {
	for _, s := range signatures {
		head := make([]byte, s.at+len(s.text))
		copy(head[s.at:], s.text)
		f.Add(head)
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		kind, err := detect(head)
		if _, derr := mountData(kind); (err == nil) != (derr == nil) {
			t.Fatalf("%q %v %v", kind, err, derr)
		}
		if err != nil && !errors.Is(err, ErrNotMountable) {
			t.Fatal(err)
		}
	})
}

func TestMountInfo(t *testing.T) {
	info := "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n37 35 0:5 / /run/a\\040b\\134c rw - tmpfs tmpfs rw\nshort\n"
	for where, want := range map[string]bool{"/mnt2": true, "/mnt1": false, "/run/a b\\c": true, "/run": false} {
		if got := mountedAt(info, where); got != want {
			t.Errorf("%s: %v", where, got)
		}
	}
}
