package catchup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestNeverLeavesTheTarget puts links to elsewhere wherever something is made.
func TestNeverLeavesTheTarget(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, `mkdir -p sub/deep .imago-sync; echo new >sub/file; echo new >sub/deep/file; echo new >plain; echo s >.imago-sync/s
		mkfifo pipe; ln plain hard; ln -s ../../outside link`)
	tr.sh(tr.dir, `mkdir -p srv/to outside; echo old >outside/file; echo old >outside/plain; mkdir outside/deep
		ln -s ../../outside srv/to/sub; ln -s ../../outside srv/to/.imago-sync; ln -s ../../outside/plain srv/to/plain
		ln -s ../../outside/plain srv/to/pipe; ln -s ../../outside/plain srv/to/hard; ln -s ../../outside srv/to/extra`)
	before := kept(t, filepath.Join(tr.dir, "outside"))
	tr.run(tr.options())
	if after := kept(t, filepath.Join(tr.dir, "outside")); after != before {
		t.Errorf("outside changed:\n%s\n%s", before, after)
	}
	tr.sh(tr.from, "rm -r .imago-sync") // it is not carried
	tr.sh(tr.from, "touch -r "+tr.to+" .")
	tr.mustBeEqual()
	tr.sh(tr.to, "test ! -e .imago-sync -a ! -L .imago-sync")
}

// TestWrongOptions refuses what would lose data by a slip.
func TestWrongOptions(t *testing.T) {
	tr := newTree(t)
	for name, change := range map[string]func(*Options){
		"the root":                 func(o *Options) { o.Target = "/" },
		"relative":                 func(o *Options) { o.Target = "to" },
		"not clean":                func(o *Options) { o.Target = tr.to + "/../x" },
		"manifest in the target":   func(o *Options) { o.Manifest = tr.to + "/m" },
		"the source is the target": func(o *Options) { o.Target = tr.from },
		"a manifest without place": func(o *Options) { o.Manifest = "m" },
	} {
		opts := tr.options()
		change(&opts)
		if _, err := tr.try(opts); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

// TestImmutableIsNamed: one file that cannot be replaced does not stop the rest.
func TestImmutableIsNamed(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, "echo 1 >a; echo 1 >b; mkdir d; echo 1 >d/e; echo 1 >z; ln b b2")
	opts := tr.options()
	tr.run(opts)
	tr.sh(tr.from, "echo 22 >a; echo 22 >b; rm -r d; echo 22 >z; chmod 600 b")
	tr.sh(tr.to, "chattr +i b d/e")
	defer tr.sh(tr.to, "chattr -i b d/e 2>/dev/null || true")
	res, err := tr.try(opts)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range res.Faults {
		got[f.Path] = f.Err.Error()
	}
	if res.FaultCount != 3 || !strings.Contains(got["b"], "immutable") || !strings.Contains(got["d"], "immutable") || !strings.Contains(got["b2"], `further name of "b"`) {
		t.Errorf("%v", got)
	}
	if text := tr.sh(tr.to, "cat a z"); text != "22\n22\n" {
		t.Errorf("the rest: %q", text)
	}
	tr.sh(tr.to, "chattr -i b d/e")
	tr.run(opts) // the manifest did not vouch for what failed
	tr.mustBeEqual()
}

func TestOtherFileSystemsAreNotEntered(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, "mkdir -p a/b; echo x >a/b/f; echo x >c")
	opts := tr.options()
	tr.run(opts)
	mounted, extra := filepath.Join(tr.to, "a/b"), filepath.Join(tr.to, "extra")
	must(t, os.MkdirAll(extra+"/in", 0o755))
	for _, m := range []string{mounted, extra + "/in"} {
		if err := unix.Mount("tmpfs", m, "tmpfs", 0, ""); err != nil {
			t.Skipf("cannot mount: %v", err)
		}
		defer unix.Unmount(m, unix.MNT_DETACH)
		must(t, os.WriteFile(m+"/kept", []byte("x"), 0o644))
	}
	res, err := tr.try(opts)
	if err != nil || res.FaultCount != 2 || !errors.Is(res.Faults[0].Err, errOtherDevice) || !errors.Is(res.Faults[1].Err, errOtherDevice) {
		t.Fatalf("%+v %v", res, err)
	}
	tr.sh(tr.to, "test -e a/b/kept -a -e extra/in/kept")
}

// TestReadersSeeWholeFiles reads while versions replace each other.
func TestReadersSeeWholeFiles(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	const files, size = 6, 400_000
	version := func(v byte) {
		for i := range files {
			must(t, os.WriteFile(filepath.Join(tr.from, fmt.Sprint("f", i)), bytes.Repeat([]byte{v}, size), 0o644))
		}
	}
	version('a')
	opts := tr.options()
	tr.run(opts)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range files {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				data, err := os.ReadFile(filepath.Join(tr.to, fmt.Sprint("f", i)))
				if err != nil || len(data) != size || !bytes.Equal(data, bytes.Repeat(data[:1], size)) {
					t.Errorf("f%d: %d bytes, %v", i, len(data), err)
					return
				}
			}
		})
	}
	for v := byte('b'); v < 'j'; v++ {
		version(v)
		tr.run(opts)
	}
	close(stop)
	wg.Wait()
	tr.mustBeEqual()
}

// TestInterruptedGoesOn breaks a call off at many places, and at the end all is
// as if nothing had been.
func TestInterruptedGoesOn(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, makeTree)
	opts := tr.options()
	broken := 0
	for i := range 40 {
		ctx, cancel := context.WithCancelCause(context.Background())
		stop := errors.New("stop")
		o := opts
		o.Limit = NewLimiter(Unbounded, time.Hour)
		timer := time.AfterFunc(time.Duration(i*i)*20*time.Microsecond, func() { cancel(stop) })
		if i%2 == 0 {
			tr.sh(tr.from, fmt.Sprintf("echo %d >n%d; rm -f n%d; ln -f large another%d", i, 100+i, 50+i, i))
		}
		_, err := tr.tryContext(ctx, o)
		timer.Stop()
		cancel(nil)
		switch {
		case errors.Is(err, stop):
			broken++
		case err != nil:
			t.Fatal(err)
		}
	}
	t.Logf("%d of 40 were broken off", broken)
	if broken < 3 {
		t.Error("hardly any was broken off")
	}
	res := tr.run(opts)
	tr.mustBeEqual()
	if res.Foreign != 0 {
		t.Errorf("what we made ourselves was taken for somebody else's: %+v", res)
	}
	if left, _ := filepath.Glob(tr.manifest + "*"); len(left) != 1 {
		t.Errorf("left %v", left)
	}
	if res = tr.run(opts); res.Differed != 0 {
		t.Errorf("again: %+v", res)
	}
}

// TestHalfAFileIsGoneOnWith: what was staged is not written again.
func TestHalfAFileIsGoneOnWith(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, "head -c 20000000 /dev/urandom >big; truncate -s 40M big")
	opts := tr.options()
	ctx, cancel := context.WithCancel(context.Background())
	opts.Limit = NewLimiter(20_000_000, time.Hour)
	time.AfterFunc(400*time.Millisecond, cancel)
	if _, err := tr.tryContext(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	staged := filepath.Join(tr.to, stagingDir, fileName("big"))
	before, err := os.Stat(staged)
	must(t, err)
	// Part of it is wrong, as after a crash of the guest.
	f, err := os.OpenFile(staged, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(make([]byte, 1000), 300_000)
	must(t, errors.Join(err, f.Close()))
	opts.Limit = nil
	tr.run(opts)
	after, err := os.Stat(filepath.Join(tr.to, "big"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("it was begun anew: %v", err)
	}
	tr.mustBeEqual()
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(tr.to, "big"), &st))
	if st.Blocks*512 > 21<<20 {
		t.Errorf("%d blocks", st.Blocks)
	}
}

// TestDamagedManifestOnlyCostsTime cuts and changes the manifest everywhere.
func TestDamagedManifestOnlyCostsTime(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, "for i in $(seq 40); do mkdir d$i; echo $i >d$i/f; ln d$i/f d$i/g; done")
	opts := tr.options()
	tr.run(opts)
	good, err := os.ReadFile(tr.manifest)
	must(t, err)
	for i := 0; i < len(good); i += 331 {
		for name, bad := range map[string][]byte{"cut": good[:i], "changed": flipped(good, i), "doubled": append(bytes.Clone(good), good[i:]...)} {
			must(t, os.WriteFile(tr.manifest, bad, 0o600))
			tr.sh(tr.from, fmt.Sprintf("echo %d%s >d7/f; rm -f d9/f; echo x%d >d9/f", i, name, i))
			tr.run(opts)
			if a, b := tr.sh(tr.from, "cat */*"), tr.sh(tr.to, "cat */*"); a != b {
				t.Fatalf("%s at %d: not equal", name, i)
			}
		}
	}
	tr.mustBeEqual()
}

func flipped(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 0x10
	return c
}

// TestManifestOfAnotherTree: what was noted for something else vouches for nothing.
func TestManifestOfAnotherTree(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, "echo 1 >a; echo 2 >b; sleep 0.02; echo 3 >c")
	opts := tr.options()
	tr.run(opts)
	for name, change := range map[string]func(*Options){
		"another source": func(o *Options) { o.Label = "other" },
		"other owners":   func(o *Options) { o.UID = 7 },
	} {
		o := opts
		change(&o)
		if res := tr.run(o); res.Compared != 3 || res.Foreign != 0 {
			t.Errorf("%s: %+v", name, res)
		}
		tr.run(opts)
	}
	if res := tr.run(opts); res.Compared > 1 { // the youngest is never trusted
		t.Errorf("the same: %+v", res)
	}
}

// TestYoungFilesAreReadAgain: a ctime shortly before the view proves nothing,
// since a later change can have the same one.
func TestYoungFilesAreReadAgain(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, "echo 1 >a; echo 2 >b")
	opts := tr.options()
	opts.window, opts.Taken = 0, time.Now()
	tr.run(opts)
	for i, want := range []int64{2, 0} { // after the second view they are old enough
		opts.Taken = opts.Taken.Add(10 * time.Second)
		if res := tr.run(opts); res.Compared != want {
			t.Errorf("pass %d compared %d, want %d", i, res.Compared, want)
		}
	}
	cut := opts
	cut.Frozen = false // without a freeze they are not, as long as pages may be kept
	if w := (&run{opts: cut}).window(); w < 35*time.Second {
		t.Errorf("window %s", w)
	}
}

// TestTimeFromTheFuture: a clock that was once wrong must not make all that is
// young look old.
func TestTimeFromTheFuture(t *testing.T) {
	c := &run{newest: -1 << 63, clamp: 1000}
	c.see(&stat{ctime: 500})
	c.see(&stat{ctime: 99999})
	if c.newest != 1000 {
		t.Errorf("newest %d", c.newest)
	}
	if got := c.passed(footer{clock: 900, taken: 10}, 5000); got != 1000 {
		t.Errorf("passed %d", got)
	}
	if got := c.passed(footer{clock: 300, taken: 100}, 300); got != 498 {
		t.Errorf("passed %d", got)
	}
}

func TestOneCallAtATime(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, "head -c 3000000 /dev/zero >f")
	opts := tr.options()
	opts.Manifest = ""
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			src, err := os.Open(tr.from)
			if err == nil {
				_, err = Run(context.Background(), src, opts)
				err = errors.Join(err, src.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	tr.mustBeEqual()
}

// TestOddNames: what a directory can hold at most.
func TestOddNames(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	dir := tr.from
	for _, name := range []string{strings.Repeat("\xff", 255), "-rf", " ", "\x01\x1b[31m", "a\\b", "*", "é", "e\u0301", strings.Repeat("d", 255)} {
		must(t, os.WriteFile(filepath.Join(tr.from, name), []byte(name), 0o644))
	}
	for range 30 {
		dir = filepath.Join(dir, strings.Repeat("x", 200)) // the path as a whole is longer than PATH_MAX
		if err := os.Mkdir(dir, 0o755); err != nil {
			break
		}
	}
	opts := tr.options()
	tr.run(opts)
	if a, b := tr.sh(tr.from, "find . -printf '%P|%s|%y\\n' | sort"), tr.sh(tr.to, "find . -printf '%P|%s|%y\\n' | sort"); a != b {
		t.Errorf("%q\n%q", a, b)
	}
}

// TestTooDeepIsNamed: never left out in silence.
func TestTooDeepIsNamed(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, "d=; for i in $(seq 302); do d=$d/x; done; mkdir -p ./$d; echo x >./$d/f; echo x >z")
	res, err := tr.try(tr.options())
	if err != nil || res.FaultCount != 1 || !strings.Contains(res.Faults[0].Err.Error(), "300 directories") {
		t.Errorf("%+v %v", res, err)
	}
	tr.sh(tr.to, "test -e z")
}

// TestNoSpaceEndsTheCall on a small file system, and it can be gone on with.
func TestNoSpaceEndsTheCall(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	must(t, os.MkdirAll(tr.to, 0o755))
	if err := unix.Mount("tmpfs", tr.to, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	defer unix.Unmount(tr.to, unix.MNT_DETACH)
	tr.sh(tr.from, "for i in 1 2 3 4 5 6; do head -c 1000000 /dev/urandom >f$i; done")
	if _, err := tr.try(tr.options()); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	must(t, unix.Mount("tmpfs", tr.to, "tmpfs", unix.MS_REMOUNT, "size=16m"))
	tr.run(tr.options())
	tr.mustBeEqual()
}
