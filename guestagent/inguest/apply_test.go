package inguest

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"imago.dev/imago/guestagent/wire"
)

func testApplier(t *testing.T) (*applier, string) {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	a, err := openApplier(wire.Apply{Root: []byte(root), MakeRoot: true, Staging: []byte(".stage")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.root.Close() })
	return a, root
}

// TestItemsStayBelowTheRoot tries each item with names that lead out, plainly
// and through links that lie in the root.
func TestItemsStayBelowTheRoot(t *testing.T) {
	a, root := testApplier(t)
	outside := filepath.Join(filepath.Dir(root), "outside")
	victim := filepath.Join(outside, "victim")
	if err := errors.Join(os.Mkdir(outside, 0o755), os.WriteFile(victim, []byte("keep"), 0o644),
		os.Symlink("../outside", filepath.Join(root, "rel")), os.Symlink(outside, filepath.Join(root, "abs"))); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(victim)
	mode := uint32(0o777)
	sum := sha256.Sum256([]byte("new"))
	for _, name := range []string{"../outside/victim", victim, "rel/victim", "abs/victim", "rel/../../outside/victim", "rel/new", "../new", ""} {
		for _, do := range []string{wire.ItemPlace, wire.ItemMkdir, wire.ItemSymlink, wire.ItemMeta, wire.ItemRemove} {
			if _, err := a.do(wire.Item{Do: wire.ItemStage, Stage: []byte("s")}); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, ".stage", "s"), []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}
			it := wire.Item{Do: do, Path: []byte(name), Stage: []byte("s"), Link: []byte("x"), Size: 3, SHA256: sum[:], Meta: &wire.Meta{Mode: &mode}}
			// Removing what is not there is no error, all else must be one.
			if _, err := a.do(it); err == nil && do != wire.ItemRemove {
				t.Errorf("%s %q passed", do, name)
			}
		}
	}
	after, err := os.Stat(victim)
	if err != nil || after.Mode() != before.Mode() || after.Size() != before.Size() || !os.SameFile(before, after) {
		t.Fatalf("the file outside changed: %v, %v", after, err)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(root), "*", "new")); len(names) != 0 {
		t.Fatalf("made %v", names)
	}
}

func TestPlaceWantsExactlyWhatWasPromised(t *testing.T) {
	a, root := testApplier(t)
	sum := sha256.Sum256([]byte("content"))
	for name, c := range map[string]struct {
		written string
		ok      bool
	}{
		"whole": {"content", true}, "short": {"conten", false}, "changed": {"cOntent", false}, "long": {"content!", false},
	} {
		if _, err := a.do(wire.Item{Do: wire.ItemStage, Stage: []byte("s")}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, ".stage", "s"), []byte(c.written), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := a.do(wire.Item{Do: wire.ItemPlace, Path: []byte(name), Stage: []byte("s"), Size: 7, SHA256: sum[:]})
		if (err == nil) != c.ok || (err != nil && failureOf(err).Code != wire.CodeMismatch) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(root, name)); errors.Is(err, fs.ErrNotExist) == c.ok {
			t.Errorf("%s: in place: %v", name, err)
		}
	}
}

func TestTheRootItselfIsNotRemoved(t *testing.T) {
	a, _ := testApplier(t)
	for _, name := range []string{"", ".", "./", "a/.."} {
		if _, err := a.do(wire.Item{Do: wire.ItemRemove, Path: []byte(name)}); err == nil {
			t.Errorf("removed %q", name)
		}
	}
}

func TestFileModeKeepsTheTwelveBits(t *testing.T) {
	for bits, want := range map[uint32]fs.FileMode{
		0o644: 0o644, 0o4755: fs.ModeSetuid | 0o755, 0o2750: fs.ModeSetgid | 0o750, 0o1777: fs.ModeSticky | 0o777, 0o170644: 0o644,
	} {
		if got := fileMode(bits); got != want {
			t.Errorf("%o: %v, want %v", bits, got, want)
		}
	}
}
