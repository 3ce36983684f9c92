package guestagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// script runs shell commands here, in the test's namespaces.
func script(t *testing.T, dir, text string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-e", "-c", text)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

const makeTree = `
mkdir -p images/a/b 'images/a b' images/empty
echo one >images/a/b/1.png; echo two >images/a.b; printf 'x\ny' >'images/a b/new
line'; : >images/zero
head -c 3000000 /dev/urandom >images/large
ln -s ../../../../../../etc/passwd images/a/out; ln -s b images/a/in; ln -s /no/where images/dangling
printf bytes >"images/$(printf '\377\001')"
chmod 4755 images/a.b; chmod 0700 images/a/b; chown -R 33:34 images/a
mkfifo images/pipe
for i in $(seq 300); do echo $i >images/n$i; done
touch -d '2020-01-02 03:04:05.678' images/a/b/1.png images/a images/empty images
`

// listing shows everything of a tree that SyncTree keeps.
func listing(t *testing.T, dir string) string {
	t.Helper()
	return script(t, dir, `find . ! -type p -printf '%P|%y|%m|%U:%G|%l|%T@|' -a \( -type f -exec sha256sum {} \; -o -printf '\n' \) | sed 's/ .*//' | sort`)
}

func TestSyncTree(t *testing.T) {
	s := newSessionForTest(t)
	dir := t.TempDir()
	script(t, dir, makeTree)
	from, to := filepath.Join(dir, "images"), filepath.Join(dir, "new", "uploads")
	var last SyncProgress
	res, err := SyncTree(context.Background(), s, from, s, to, SyncOptions{}, func(p SyncProgress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	if res.Files != 306 || res.Copied != 306 || res.Ignored != 1 || res.Skipped != 0 || res.Deleted != 0 || res.Bytes < 3000000 {
		t.Fatalf("first: %+v", res)
	}
	if last.Files != 306 || last.FilesTotal != 306 || last.Bytes != last.BytesTotal {
		t.Fatalf("progress %+v", last)
	}
	// find prints the links' times too, which stay their own.
	strip := func(l string) string {
		var kept []string
		for _, line := range strings.Split(l, "\n") {
			if f := strings.Split(line, "|"); len(f) > 5 && f[1] == "l" {
				f[5] = ""
				line = strings.Join(f, "|")
			}
			kept = append(kept, line)
		}
		return strings.Join(kept, "\n")
	}
	if a, b := strip(listing(t, from)), strip(listing(t, to)); a != b {
		t.Fatalf("trees differ:\n%s\n---\n%s", a, b)
	}

	t.Run("nothing to do", func(t *testing.T) {
		res, err := SyncTree(context.Background(), s, from, s, to, SyncOptions{Delete: true}, nil)
		if err != nil || res != (SyncResult{Files: 306, Skipped: 306, Ignored: 1}) {
			t.Fatalf("%+v, %v", res, err)
		}
	})
	t.Run("only what differs, whatever the time says", func(t *testing.T) {
		script(t, to, `echo eno >a/b/1.png; touch -d '2020-01-02 03:04:05.678' a/b/1.png; rm zero; rm -r empty; echo f >empty
			rm a.b; mkdir -p a.b/c/d; echo x >a.b/c/d/e; rm dangling; ln -s /other dangling; chmod 600 n1
			mkdir -p extra/deep; echo x >extra/deep/f; ln -s /etc extra/etc; rm -r a/in; ln -s / a/in`)
		res, err := SyncTree(context.Background(), s, from, s, to, SyncOptions{Delete: true}, nil)
		if err != nil || res.Copied != 3 || res.Skipped != 303 {
			t.Fatalf("%+v, %v", res, err)
		}
		if res.Deleted != 4+1+4 { // extra with three below, empty, a.b with three below
			t.Errorf("deleted %d", res.Deleted)
		}
		if a, b := strip(listing(t, from)), strip(listing(t, to)); a != b {
			t.Fatalf("trees differ:\n%s\n---\n%s", a, b)
		}
	})
	t.Run("without delete the target keeps its own", func(t *testing.T) {
		script(t, to, "echo mine >mine")
		if res, err := SyncTree(context.Background(), s, from, s, to, SyncOptions{}, nil); err != nil || res.Deleted != 0 {
			t.Fatalf("%+v, %v", res, err)
		}
		script(t, to, "test -e mine")
	})
	t.Run("an owner known by name", func(t *testing.T) {
		if _, err := SyncTree(context.Background(), s, from, s, to, SyncOptions{Owner: "games:daemon"}, nil); err != nil {
			t.Fatal(err)
		}
		if others := script(t, to, "find . ! -name mine \\( ! -user games -o ! -group daemon \\)"); others != "" {
			t.Fatalf("not changed: %s", others)
		}
		if _, err := SyncTree(context.Background(), s, from, s, to, SyncOptions{Owner: "nobody-knows"}, nil); err == nil {
			t.Fatal("an unknown owner passed")
		}
	})
	t.Run("a bound on what differs", func(t *testing.T) {
		if _, err := SyncTree(context.Background(), s, from, s, filepath.Join(dir, "bounded"), SyncOptions{MaxEntries: 10}, nil); !errors.Is(err, ErrTooManyEntries) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestSyncTreeNeverLeavesTheTarget(t *testing.T) {
	s := newSessionForTest(t)
	dir := t.TempDir()
	script(t, dir, `mkdir -p from/sub from/.imago-sync to outside; echo new >from/sub/file; echo old >outside/file
		ln -s ../outside to/sub; ln -s ../outside to/.imago-sync; echo s >from/.imago-sync/s`)
	if _, err := SyncTree(context.Background(), s, filepath.Join(dir, "from"), s, filepath.Join(dir, "to"), SyncOptions{Delete: true}, nil); err != nil {
		t.Fatal(err)
	}
	got := script(t, dir, "cat outside/file; ls -A outside; cat to/sub/file; ls -A to; test -d to/sub -a ! -L to/sub")
	if got != "old\nfile\nnew\nsub\n" {
		t.Fatalf("got %q", got)
	}
}

func TestInterruptedSyncTreeGoesOn(t *testing.T) {
	g := startGuest(t, newEd25519(t))
	s := g.connect(g.target())
	dir := t.TempDir()
	script(t, dir, makeTree)
	from, to := filepath.Join(dir, "images"), filepath.Join(dir, "copy")
	pid := sessionProcess(t, s)
	_, err := SyncTree(context.Background(), s, from, s, to, SyncOptions{}, func(p SyncProgress) {
		if p.Files > 100 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	if !errors.Is(err, ErrConnectionLost) {
		t.Fatalf("got %v", err)
	}
	res, err := SyncTree(context.Background(), g.connect(g.target()), from, s2(g), to, SyncOptions{Delete: true}, nil)
	if err != nil || res.Skipped == 0 || res.Copied+res.Skipped != 306 {
		t.Fatalf("%+v, %v", res, err)
	}
	script(t, to, "test ! -e .imago-sync")
}

// s2 is one more session, so that two are at work.
func s2(g *guest) *Session { return g.connect(g.target()) }

func TestTreeSeesBytesAndLinks(t *testing.T) {
	s := newSessionForTest(t)
	dir := t.TempDir()
	script(t, dir, makeTree)
	got := map[string]Entry{}
	var order []string
	if err := s.Tree(context.Background(), filepath.Join(dir, "images"), func(e Entry) error {
		got[e.Path] = e
		order = append(order, e.Path)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if e := got["a/out"]; e.Kind != KindSymlink || e.Link != "../../../../../../etc/passwd" {
		t.Errorf("link %+v", e)
	}
	if e := got["\xff\x01"]; e.Kind != KindFile || e.Size != 5 {
		t.Errorf("bytes %+v", e)
	}
	if e := got["a.b"]; e.Mode != 0o4755 || fmt.Sprintf("%x", e.SHA256[:4]) != "27dd8ed4" {
		t.Errorf("file %+v %x", e, e.SHA256)
	}
	if got["pipe"].Kind != KindOther || got["empty"].Kind != KindDir || order[0] != "." {
		t.Errorf("order begins %v", order[:3])
	}
	stop := errors.New("stop")
	if err := s.Tree(context.Background(), dir, func(Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if err := s.Tree(context.Background(), filepath.Join(dir, "none"), func(Entry) error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
