package guestagent

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imago.dev/imago/guestagent/wire"
)

// viewImage is the disk of a production VM; views of it are copies that are
// taken while it is mounted, as after a power cut.
type viewImage struct {
	t                   *testing.T
	dir, raw, mnt, disk string
	dev                 string
}

// newViewImage shows views as disks with the serial number "view".
func newViewImage(t *testing.T) *viewImage {
	t.Helper()
	needNamespaces(t)
	dir := t.TempDir()
	v := &viewImage{t: t, dir: dir, raw: filepath.Join(dir, "raw"), mnt: filepath.Join(dir, "mnt"), disk: filepath.Join(dir, "disk")}
	script(t, dir, "mkdir mnt; truncate -s 64M raw; mkfs.ext4 -q raw; mount -o loop raw mnt; mkdir -p /dev/disk/by-id; mount -t tmpfs tmpfs /dev/disk/by-id")
	t.Cleanup(func() {
		v.detach()
		script(t, dir, "umount mnt; umount /dev/disk/by-id")
	})
	return v
}

func (v *viewImage) detach() {
	if v.dev == "" {
		return
	}
	script(v.t, v.dir, "losetup -d "+v.dev+"; rm -f /dev/disk/by-id/virtio-view")
	v.dev = ""
}

// take replaces the view by a new one.
func (v *viewImage) take() {
	v.t.Helper()
	v.detach()
	script(v.t, v.mnt, "sync -f .")
	script(v.t, v.dir, "cp --sparse=always raw disk")
	v.attach()
}

func (v *viewImage) attach() {
	v.dev = strings.TrimSpace(script(v.t, v.dir, "losetup --find --show disk"))
	script(v.t, v.dir, "ln -s ../../"+filepath.Base(v.dev)+" /dev/disk/by-id/virtio-view")
}

// free waits until nobody uses the view's device.
func (v *viewImage) free() {
	v.t.Helper()
	eventually(v.t, 10*time.Second, "the view's device is free", func() bool {
		f, err := os.OpenFile(v.dev, os.O_RDONLY|unix.O_EXCL, 0)
		if err == nil {
			f.Close()
		}
		return err == nil
	})
}

func (v *viewImage) options() CatchUpOptions {
	return CatchUpOptions{View: &ViewDisk{Serial: "view", Wait: 5 * time.Second}, Delete: true, Manifest: filepath.Join(v.dir, "state/manifest"), Frozen: true}
}

func TestCatchUpFromViews(t *testing.T) {
	v := newViewImage(t)
	s := newSessionForTest(t)
	ctx, to := context.Background(), filepath.Join(v.dir, "new")
	script(t, v.mnt, "mkdir -p srv; ln -s /srv var; cd srv; "+makeTree)
	v.take()
	opts := v.options()
	res, err := s.CatchUpTree(ctx, "/var/images", to, opts, nil)
	if err != nil || res.Files != 306 || res.Copied != 306 || res.Specials != 1 {
		t.Fatalf("%+v %v", res, err)
	}
	same := func() {
		t.Helper()
		if a, b := listing(t, filepath.Join(v.mnt, "srv/images")), listing(t, to); a != b {
			t.Fatalf("trees differ:\n%s\n---\n%s", a, b)
		}
	}
	same()
	v.free()

	t.Run("only what moved between views", func(t *testing.T) {
		script(t, v.mnt, "sleep 2.1; cd srv/images; echo more >>n5; rm n6; mkdir new; echo x >new/file")
		v.take()
		res, err := s.CatchUpTree(ctx, "/var/images", to, opts, nil)
		if err != nil || res.Copied != 2 || res.Deleted != 1 || res.Foreign != 0 {
			t.Fatalf("%+v %v", res, err)
		}
		same()
		v.take()
		if res, err = s.CatchUpTree(ctx, "/var/images", to, opts, nil); err != nil || res.Differed != 0 || res.Skipped < 300 {
			t.Fatalf("%+v %v", res, err)
		}
		t.Logf("nothing moved: waited %s, mounted %s, worked %s, unmounted %s", res.Waited, res.Mounted, res.Worked, res.Unmounted)
	})
	t.Run("the call may begin before the disk is there", func(t *testing.T) {
		v.detach()
		time.AfterFunc(300*time.Millisecond, v.attach)
		res, err := s.CatchUpTree(ctx, "/srv/images", to, opts, nil)
		if err != nil || res.Waited < 100*time.Millisecond || res.Files != 306 {
			t.Fatalf("%+v %v", res, err)
		}
		v.free()
	})
	t.Run("links of the view do not lead out of it", func(t *testing.T) {
		script(t, v.mnt, "ln -sfn /etc srv/etc")
		v.take()
		if _, err := s.CatchUpTree(ctx, "/srv/etc", to+"-etc", opts, nil); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("got %v", err)
		}
		v.free()
	})
	t.Run("no disk", func(t *testing.T) {
		none := opts
		none.View = &ViewDisk{Serial: "none", Wait: 100 * time.Millisecond}
		if _, err := s.CatchUpTree(ctx, "/srv", to, none, nil); err == nil || !strings.Contains(err.Error(), `"none"`) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestDataThatComesLaterThanItsTime: without a freeze a view may hold a file's
// new time and its old data; the next view has the data, and nothing else of
// the file is different.
func TestDataThatComesLaterThanItsTime(t *testing.T) {
	v := newViewImage(t)
	s := newSessionForTest(t)
	ctx, to := context.Background(), filepath.Join(v.dir, "new")
	script(t, v.mnt, "mkdir t; echo old-data-of-the-file >t/file")
	v.take()
	for _, frozen := range []bool{true, false} {
		opts := v.options()
		opts.Frozen, opts.Taken = frozen, time.Now()
		opts.Manifest += map[bool]string{true: "-frozen", false: "-cut"}[frozen]
		if _, err := s.CatchUpTree(ctx, "/t", to, opts, nil); err != nil {
			t.Fatal(err)
		}
		v.detach()
		data, err := os.ReadFile(v.disk)
		if err != nil {
			t.Fatal(err)
		}
		from, into := "old-data-of-the-file", "new-data-of-the-file"
		if !frozen {
			from, into = into, "2nd-data-of-the-file"
		}
		if bytes.Count(data, []byte(from)) != 1 {
			t.Fatalf("%d places in the image", bytes.Count(data, []byte(from)))
		}
		if err := os.WriteFile(v.disk, bytes.Replace(data, []byte(from), []byte(into), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		v.attach()
		opts.Taken = opts.Taken.Add(20 * time.Second) // the next view
		if _, err := s.CatchUpTree(ctx, "/t", to, opts, nil); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(script(t, to, "cat file")); got != into {
			t.Errorf("frozen %v: the target has %q, the view %q", frozen, got, into)
		}
	}
}

func TestCatchUpIsBrokenOff(t *testing.T) {
	v := newViewImage(t)
	g := startGuest(t, newEd25519(t))
	script(t, v.mnt, "head -c 30000000 /dev/urandom >big; for i in $(seq 200); do echo $i >n$i; done")
	v.take()
	to := filepath.Join(v.dir, "new")
	opts := v.options()
	opts.Rate = NewRate(4_000_000)

	t.Run("by the caller", func(t *testing.T) {
		s := g.connect(g.target())
		ctx, cancel := context.WithCancelCause(context.Background())
		stop := errors.New("enough")
		begin := time.Now()
		_, err := s.CatchUpTree(ctx, "/", to, opts, func(p CatchUpProgress) {
			if p.Read > 0 {
				cancel(stop)
			}
		})
		if !errors.Is(err, stop) || time.Since(begin) > 20*time.Second {
			t.Fatalf("%v after %s", err, time.Since(begin))
		}
		v.free()
	})
	t.Run("by the network", func(t *testing.T) {
		s := g.connect(g.target())
		pid := sessionProcess(t, s)
		_, err := s.CatchUpTree(context.Background(), "/", to, opts, func(p CatchUpProgress) {
			if p.Read > 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
		if !errors.Is(err, ErrConnectionLost) {
			t.Fatalf("got %v", err)
		}
		v.free() // the agent has gone, and the mount with it
	})
	t.Run("by the death of the agent", func(t *testing.T) {
		s := g.connect(g.target())
		_, err := s.CatchUpTree(context.Background(), "/", to, opts, func(p CatchUpProgress) {
			if p.Read > 0 {
				_ = exec.Command("pkill", "-KILL", "-f", filepath.Base(s.agentPath())+" call").Run() // in the test's own pid namespace
			}
		})
		if !errors.Is(err, ErrNotAgent) {
			t.Fatalf("got %v", err)
		}
		v.free()
	})
	t.Run("and gone on with, at another rate", func(t *testing.T) {
		s := g.connect(g.target())
		opts.Rate = NewRate(0)
		paused := false
		begin := time.Now()
		res, err := s.CatchUpTree(context.Background(), "/", to, opts, func(p CatchUpProgress) {
			if p.Paused && !paused {
				paused = true
				time.AfterFunc(300*time.Millisecond, func() { opts.Rate.Set(Unlimited) })
			}
		})
		if err != nil || !paused || res.Files != 201 || res.Foreign != 0 || time.Since(begin) > 20*time.Second {
			t.Fatalf("%+v %v, paused %v", res, err, paused)
		}
		script(t, v.dir, "cmp mnt/big new/big; diff -r mnt new; test ! -e new/.imago-sync")
	})
}

func TestCatchUpReports(t *testing.T) {
	s := newSessionForTest(t)
	dir, ctx := t.TempDir(), context.Background()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	script(t, dir, "mkdir from; cd from; echo 1 >a; echo 2 >b; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")' 2>/dev/null || true")
	opts := CatchUpOptions{Delete: true, Owner: "games:daemon"}
	if _, err := s.CatchUpTree(ctx, from, to, opts, nil); err != nil {
		t.Fatal(err)
	}
	if got := script(t, to, "stat -c %U:%G a"); got != "games:daemon\n" {
		t.Errorf("owner %q", got)
	}
	t.Run("what differs", func(t *testing.T) {
		script(t, to, "echo x >a; echo x >extra\x1b[2J")
		check := opts
		check.CheckOnly = true
		res, err := s.CatchUpTree(ctx, from, to, check, nil)
		if err != nil || res.Differed != 3 || strings.Contains(strings.Join(res.Different, ""), "\x1b") {
			t.Errorf("%+v %v", res, err)
		}
	})
	t.Run("what cannot be made equal", func(t *testing.T) {
		script(t, to, "chattr +i a")
		defer script(t, to, "chattr -i a")
		_, err := s.CatchUpTree(ctx, from, to, opts, nil)
		var faults *CatchUpError
		if !errors.As(err, &faults) || faults.Count != 1 || faults.Faults[0].Path != "a" || !strings.Contains(err.Error(), "immutable") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("everything compared", func(t *testing.T) {
		full := opts
		full.Full = true
		if res, err := s.CatchUpTree(ctx, from, to, full, nil); err != nil || res.Compared != 2 || res.ComparedBytes != 4 {
			t.Errorf("%+v %v", res, err)
		}
	})
	t.Run("what makes no sense", func(t *testing.T) {
		for _, c := range []struct {
			from, to string
			opts     CatchUpOptions
		}{
			{"relative", to, CatchUpOptions{}}, {from, "/", CatchUpOptions{}}, {"/", to, CatchUpOptions{}}, {from, to, CatchUpOptions{Manifest: "x"}},
			{from, to, CatchUpOptions{View: &ViewDisk{}}}, {from, to, CatchUpOptions{Manifest: to + "/m"}}, {from, from, CatchUpOptions{}},
			{from, to, CatchUpOptions{Owner: "nobody-knows"}}, {from + "-none", to, CatchUpOptions{}},
		} {
			if _, err := s.CatchUpTree(ctx, c.from, c.to, c.opts, nil); err == nil {
				t.Errorf("%+v passed", c)
			}
		}
	})
	t.Run("an agent that lies", func(t *testing.T) {
		hello := frame(wire.KindHello, `{"version":2}`)
		liar(t, s, says(t, hello, frame(wire.KindProgress, `{}`), frame(wire.KindResult, `{}`))+"cat >/dev/null")
		if _, err := s.CatchUpTree(ctx, from, to, opts, nil); !errors.Is(err, ErrNotAgent) {
			t.Errorf("no result: %v", err)
		}
		liar(t, s, says(t, hello, frame(wire.KindResult, `{"catchup":{"files":3,"nothing_compared":true}}`))+"cat >/dev/null")
		if _, err := s.CatchUpTree(ctx, from, to, opts, nil); !errors.Is(err, ErrNothingCompared) {
			t.Errorf("nothing compared: %v", err)
		}
		liar(t, s, says(t, hello, frame(wire.KindEntry, `{}`))+"cat >/dev/null")
		if _, err := s.CatchUpTree(ctx, from, to, opts, nil); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("an entry: %v", err)
		}
	})
}

func TestMountView(t *testing.T) {
	v := newViewImage(t)
	s := newSessionForTest(t)
	ctx, where := context.Background(), filepath.Join(v.dir, "at", "view")
	script(t, v.mnt, "echo content >file")
	v.take()
	for range 2 {
		if err := s.MountView(ctx, *v.options().View, where); err != nil {
			t.Fatal(err)
		}
	}
	if got := script(t, where, "cat file"); got != "content\n" {
		t.Errorf("read %q", got)
	}
	for range 2 {
		if err := s.UnmountView(ctx, where); err != nil {
			t.Fatal(err)
		}
	}
	v.free()
	if err := s.MountView(ctx, ViewDisk{Serial: "none", Wait: 50 * time.Millisecond}, where); err == nil || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("got %v", err)
	}
}

// TestThousandFilesUnmoved is the pass inside the hold, but for the slow guest.
func TestThousandFilesUnmoved(t *testing.T) {
	v := newViewImage(t)
	s := newSessionForTest(t)
	ctx, to := context.Background(), filepath.Join(v.dir, "new")
	script(t, v.mnt, "for d in $(seq 20); do mkdir d$d; for i in $(seq 50); do echo $d $i >d$d/f$i; done; done; sleep 2.1; echo x >last")
	opts := v.options()
	for range 3 {
		v.take()
		begin := time.Now()
		res, err := s.CatchUpTree(ctx, "/", to, opts, nil)
		if err != nil || res.Files != 1001 {
			t.Fatalf("%+v %v", res, err)
		}
		t.Logf("%s in all: mounted %s, worked %s, unmounted %s; %d copied", time.Since(begin), res.Mounted, res.Worked, res.Unmounted, res.Copied)
	}
}
