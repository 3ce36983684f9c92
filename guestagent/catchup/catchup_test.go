package catchup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree is two directories and a manifest.
type tree struct {
	t                       *testing.T
	dir, from, to, manifest string
}

func newTree(t *testing.T) *tree {
	t.Helper()
	dir := t.TempDir()
	tr := &tree{t, dir, filepath.Join(dir, "from"), filepath.Join(dir, "srv", "to"), filepath.Join(dir, "state", "manifest")}
	must(t, os.Mkdir(tr.from, 0o755))
	return tr
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI must run this as root")
	}
	t.Skip("needs root")
}

func (tr *tree) sh(dir, text string) string {
	tr.t.Helper()
	cmd := exec.Command("/bin/sh", "-e", "-c", text)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		tr.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func (tr *tree) options() Options {
	return Options{Target: tr.to, Manifest: tr.manifest, Label: "test", UID: -1, GID: -1, Delete: true, Frozen: true, window: time.Nanosecond}
}

func (tr *tree) try(opts Options) (Result, error) {
	tr.t.Helper()
	return tr.tryContext(context.Background(), opts)
}

func (tr *tree) tryContext(ctx context.Context, opts Options) (Result, error) {
	tr.t.Helper()
	src, err := os.Open(tr.from)
	must(tr.t, err)
	defer src.Close()
	return Run(ctx, src, opts)
}

func (tr *tree) run(opts Options) Result {
	tr.t.Helper()
	res, err := tr.try(opts)
	must(tr.t, err)
	for _, f := range res.Faults {
		tr.t.Errorf("fault: %s: %v", f.Path, f.Err)
	}
	return res
}

// kept shows everything that is kept of a tree, by other means than the
// package's own.
func kept(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	first := map[uint64]string{}
	must(t, filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if info.Mode()&fs.ModeSocket != 0 {
			return nil
		}
		line := fmt.Sprintf("%q %v %d:%d %d %s", rel, info.Mode(), st.Uid, st.Gid, st.Rdev, info.ModTime().Format(time.RFC3339Nano))
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
		case info.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			line += " -> " + to
		}
		if !info.IsDir() {
			if other, ok := first[st.Ino]; ok {
				line += " = " + other
			} else {
				first[st.Ino] = rel
			}
		}
		attrs, err := attributed{fd: -1, path: p}.all()
		if err != nil {
			return err
		}
		lines = append(lines, line+fmt.Sprintf(" %q", fmt.Sprint(attrs)))
		return nil
	}))
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (tr *tree) mustBeEqual() {
	tr.t.Helper()
	a, b := kept(tr.t, tr.from), kept(tr.t, tr.to)
	if a == b {
		return
	}
	was, is := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range was {
		if !slices.Contains(is, l) {
			tr.t.Errorf("- %s", l)
		}
	}
	for _, l := range is {
		if !slices.Contains(was, l) {
			tr.t.Errorf("+ %s", l)
		}
	}
}

const makeTree = `
mkdir -p a/b 'a b' empty deep/1/2/3/4
echo one >a/b/1.png; echo two >a.b; printf 'x\ny' >'a b/new
line'; : >zero
head -c 3000000 /dev/urandom >large
truncate -s 64M sparse; printf middle | dd of=sparse bs=1 seek=50000000 conv=notrunc 2>/dev/null
truncate -s 16M hole
ln -s ../../../../../../etc/passwd a/out; ln -s b a/in; ln -s /no/where dangling
printf bytes >"$(printf '\377\001')"
mkfifo pipe; mknod zeros c 1 5; mknod disk b 7 99; chmod 0640 pipe disk
ln large a/b/large-too; ln large deep/1/2/large-three; ln dangling deep/dangling-too
chown -R 33:34 a; chmod 4755 a.b; chmod 0700 a/b; chmod 2775 empty; chmod 1777 deep; chmod 0 zero
chown -h 12:13 dangling; chown 1:2 pipe zeros
for i in $(seq 300); do echo $i >n$i; done
touch -h -d '2001-02-03 04:05:06.789' dangling pipe zeros
touch -d '1969-01-01 00:00:00.5' n1; touch -d '2020-01-02 03:04:05.678' a/b/1.png a empty .
`

// withAttributes adds what sh has no tool for here.
func (tr *tree) withAttributes() {
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 4, 0, 33, 0, 0, 0, 4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, a := range []struct {
		path, name string
		value      []byte
	}{
		{"n2", "user.note", []byte("a\x00b")}, {"n3", "system.posix_acl_access", acl}, {"deep", "system.posix_acl_default", acl},
		{"n4", "security.capability", capability}, {"a", "user.dir", []byte("x")}, {"n5", "trusted.t", []byte("secret")},
		{"dangling", "trusted.link", []byte("of a link")}, {"n6", "user.big", make([]byte, 2000)},
	} {
		if err := unix.Lsetxattr(filepath.Join(tr.from, a.path), a.name, a.value, 0); err != nil {
			tr.t.Fatalf("%s %s: %v", a.path, a.name, err)
		}
	}
	l, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	must(tr.t, err)
	must(tr.t, syscall.Bind(l, &syscall.SockaddrUnix{Name: filepath.Join(tr.from, "socket")}))
	must(tr.t, syscall.Close(l))
	// The one entry that is younger than all others is never trusted: the socket.
	tr.sh(tr.from, "touch -d '2020-01-02 03:04:05.678' .; sleep 0.02; touch -h socket")
}

func TestEverythingIsKept(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, makeTree)
	tr.withAttributes()
	opts := tr.options()
	res := tr.run(opts)
	tr.mustBeEqual()
	want := Result{Files: 308, Dirs: 10, Links: 3, Hard: 3, Specials: 3, Sockets: 1, Copied: 308, Linked: 9}
	if res.Files != want.Files || res.Dirs != want.Dirs || res.Links != want.Links || res.Hard != want.Hard || res.Specials != want.Specials ||
		res.Sockets != want.Sockets || res.Copied != want.Copied || res.Linked != want.Linked || res.Deleted != 0 || res.Foreign != 0 {
		t.Errorf("first: %+v", res)
	}
	for _, name := range []string{"sparse", "hole"} {
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(tr.to, name), &st))
		if st.Blocks > 2048 {
			t.Errorf("%s has %d blocks", name, st.Blocks)
		}
	}
	if res.Bytes > 5<<20 {
		t.Errorf("wrote %d bytes of a sparse tree", res.Bytes)
	}

	begin := time.Now()
	res = tr.run(opts)
	t.Logf("nothing to do: %s, %+v", time.Since(begin), res)
	if res.Skipped != 308+9+9 || res.Copied+res.Linked+res.Touched+res.Deleted+res.Compared+res.Foreign != 0 {
		t.Errorf("second: %+v", res)
	}
	full := opts
	full.Full = true
	res = tr.run(full)
	if res.Compared != 308 || res.ComparedBytes < 3000000 || res.Differed != 0 || res.Skipped != 0 {
		t.Errorf("full: %+v", res)
	}
}

func TestOnlyWhatDiffers(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, makeTree)
	opts := tr.options()
	tr.run(opts)
	t.Run("in the source", func(t *testing.T) {
		tr.t = t
		// One of the same size, with its time put back; one only with a new mode; names moved.
		tr.sh(tr.from, `echo eno >a/b/1.png; touch -d '2020-01-02 03:04:05.678' a/b/1.png; chmod 600 n7; mv n8 n8-moved; rm n9
			rm -r deep/1/2; echo file >deep/1/2; rm a.b; mkdir -p a.b/c/d; echo x >a.b/c/d/e; rm dangling; ln -s /other dangling
			rm a/b/large-too; cp large a/b/large-too; echo more >>n10`)
		res := tr.run(opts)
		tr.mustBeEqual()
		// 1.png, n8-moved, deep/1/2, e, large (one name less, still of several), large-too, n10
		if res.Copied < 6 || res.Copied > 7 || res.Touched != 1 || res.Foreign != 0 {
			t.Errorf("%+v", res)
		}
	})
	t.Run("in the target, by somebody else", func(t *testing.T) {
		tr.t = t
		tr.sh(tr.to, `echo 1x >n11; chmod 777 n12; rm n13; echo mine >mine; ln n15 mine-too; mkdir -p a/mine/deep; rm -r empty; ln -s /etc empty`)
		res := tr.run(opts)
		tr.mustBeEqual()
		want := []string{"mine", "mine-too", "n11", "n12", "n13", "n15", "a/mine"}
		for _, w := range want {
			if !slices.Contains(res.Foreigners, w) {
				t.Errorf("%s was not noticed: %+v", w, res)
			}
		}
		if res.Foreign != int64(len(want)) || res.Deleted != 5 {
			t.Errorf("%+v", res)
		}
		if again := tr.run(opts); again.Differed != 0 || again.Foreign != 0 {
			t.Errorf("again: %+v", again)
		}
	})
	t.Run("without delete the target keeps its own", func(t *testing.T) {
		tr.t = t
		tr.sh(tr.to, "echo mine >mine")
		keep := opts
		keep.Delete = false
		if res := tr.run(keep); res.Deleted != 0 {
			t.Errorf("%+v", res)
		}
		tr.sh(tr.to, "test -e mine; rm mine")
	})
	t.Run("an owner of its own", func(t *testing.T) {
		tr.t = t
		own := opts
		own.UID, own.GID = 5, 60
		tr.run(own)
		if others := tr.sh(tr.to, "find . ! -uid 5 -o ! -gid 60"); others != "" {
			t.Errorf("not changed: %s", others)
		}
		if res := tr.run(own); res.Differed != 0 {
			t.Errorf("again: %+v", res)
		}
	})
}

func TestCheckOnlyChangesNothing(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, makeTree)
	opts := tr.options()
	check := opts
	check.CheckOnly = true
	if res := tr.run(check); res.Differed < 300 || res.Compared != 0 {
		t.Errorf("no target: %+v", res)
	}
	if _, err := os.Lstat(tr.to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target was made: %v", err)
	}
	tr.run(opts)
	tr.sh(tr.to, "echo x >n1; rm n2; touch extra; chmod 700 n3; ln -sfn /x a/in")
	before := kept(t, tr.to)
	res := tr.run(check)
	slices.Sort(res.Different)
	if got := strings.Join(res.Different, " "); got != ". a a/in extra n1 n2 n3" {
		t.Errorf("%q", got)
	}
	if kept(t, tr.to) != before {
		t.Error("something changed")
	}
}

func TestNothingComparedIsAnError(t *testing.T) {
	for _, c := range []struct {
		res  Result
		opts Options
		ok   bool
	}{
		{Result{Files: 3}, Options{}, true},
		{Result{Files: 3}, Options{Full: true}, false},
		{Result{Files: 3, Compared: 2}, Options{Full: true}, false},
		{Result{Files: 3, Compared: 3}, Options{Full: true}, true},
		{Result{Files: 3, Compared: 2, FaultCount: 1}, Options{Full: true}, true},
		{Result{Files: 0}, Options{Full: true}, true},
		{Result{Files: 3, Differed: 3}, Options{Full: true, CheckOnly: true}, true},
		{Result{Files: 3}, Options{Full: true, CheckOnly: true}, false},
	} {
		if err := c.res.verdict(c.opts); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrNothingCompared) {
			t.Errorf("%+v %+v: %v", c.res, c.opts, err)
		}
	}
}

// A full pass vouches for what it read, so that the one after it, in the hold,
// reads nothing.
func TestFullPassIsRemembered(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.sh(tr.from, "echo one >1; echo two >2")
	opts := tr.options()
	opts.Frozen, opts.Taken = true, time.Now()
	tr.run(opts)
	opts.Full, opts.Taken = true, opts.Taken.Add(time.Minute)
	if res := tr.run(opts); res.Compared != 2 {
		t.Errorf("the full pass: %+v", res)
	}
	opts.Full, opts.Taken = false, opts.Taken.Add(time.Minute)
	if res := tr.run(opts); res.Compared != 0 || res.Skipped == 0 {
		t.Errorf("the pass after it: %+v", res)
	}
}
