package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func writeTestManifest(t *testing.T, texts ...string) *Manifest {
	t.Helper()
	m, err := WriteManifest(context.Background(), filepath.Join(t.TempDir(), "m"), pairs(texts...), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestManifestRoundTrip(t *testing.T) {
	m := writeTestManifest(t, "b=2", "a\n\x00\xff\"é=\x01\x02", "c=3")
	again, err := OpenManifest(context.Background(), m.Path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, again); d != "" || m.Objects != 3 {
		t.Fatalf("%+v\n%s", m, d)
	}
	c, err := Compare(context.Background(), m.Source(), pairs("a\n\x00\xff\"é=\x01\x02", "b=2", "c=4"), Options{})
	if err != nil || c.Verified != 2 || c.Different.Count != 1 {
		t.Fatalf("%s, %v", c, err)
	}
	info, err := os.Stat(m.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(m.Path), "*")); len(names) != 1 {
		t.Fatalf("beside it: %v", names)
	}
}

func TestManifestDiffTellsWhatIsLost(t *testing.T) {
	at := writeTestManifest(t, "a=1", "b=2", "c=3", "d=4")
	now := writeTestManifest(t, "b=2", "c=5", "d=4", "e=6", "f=7")
	got, err := at.Diff(context.Background(), now, Options{})
	want := Diff{Added: found("e", "f"), Changed: found("c"), Removed: found("a"), Unchanged: 2}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Fatalf("%v\n%s", err, d)
	}
	if same, err := at.Diff(context.Background(), at, Options{}); err != nil || !same.Empty() || same.Unchanged != 4 {
		t.Fatalf("%+v, %v", same, err)
	}
}

func TestManifestRefusesDoubledKeysAndKeepsTheOldFile(t *testing.T) {
	m := writeTestManifest(t, "a=1")
	before, err := os.ReadFile(m.Path)
	if err != nil {
		t.Fatal(err)
	}
	var twice *DuplicateKeyError
	if _, err := WriteManifest(context.Background(), m.Path, pairs("b=1", "c=2", "b=1"), Options{}); !errors.As(err, &twice) || twice.Key != "b" {
		t.Fatalf("got %v", err)
	}
	if after, _ := os.ReadFile(m.Path); !bytes.Equal(before, after) {
		t.Fatal("a failed write changed the file")
	}
}

func TestDamagedManifestsAreRefused(t *testing.T) {
	m := writeTestManifest(t, "a=1", "b=2", "c=3")
	whole, err := os.ReadFile(m.Path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, content []byte) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "m")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenManifest(context.Background(), file); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for n := range whole {
		refused("cut", whole[:n])
		flipped := bytes.Clone(whole)
		flipped[n] ^= 1
		refused("one bit", flipped)
	}
	refused("something after the end", append(bytes.Clone(whole), '\n'))
	lines := strings.SplitAfter(string(whole), "\n")
	refused("a line gone", []byte(lines[0]+lines[1]+lines[3]+lines[4]))
	refused("an endless line", append([]byte(lines[0]), bytes.Repeat([]byte{'0'}, 1<<20)...))
	if _, err := OpenManifest(context.Background(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestReplacedManifestIsNoticed(t *testing.T) {
	m := writeTestManifest(t, "a=1", "b=2")
	if _, err := WriteManifest(context.Background(), m.Path, pairs("a=1"), Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Compare(context.Background(), m.Source(), pairs("a=1"), Options{}); !errors.Is(err, ErrManifest) {
		t.Errorf("compare: %v", err)
	}
	if _, err := m.Diff(context.Background(), m, Options{}); !errors.Is(err, ErrManifest) {
		t.Errorf("diff: %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	var seed bytes.Buffer
	if _, err := encodeManifest(context.Background(), &seed, &sliceStream{rest: []object{{"a\n", "1"}, {"b", "\xff"}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes())
	f.Add([]byte(manifestHead + "\n31 \"a\"\nend 1 00\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		// What is read in full encodes to the same bytes.
		r := newManifestReader(bytes.NewReader(in))
		var got []object
		for {
			o, err := r.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			got = append(got, o)
		}
		var out bytes.Buffer
		if _, err := encodeManifest(context.Background(), &out, &sliceStream{rest: got}); err != nil || !bytes.Equal(in, out.Bytes()) {
			t.Fatalf("read %q, wrote %q, %v", in, out.Bytes(), err)
		}
	})
}

// FuzzManifestObjects: whatever the objects, what is written is read again.
func FuzzManifestObjects(f *testing.F) {
	f.Add("a", []byte("1"), "b\xff\n", []byte{0})
	f.Fuzz(func(t *testing.T, k1 string, d1 []byte, k2 string, d2 []byte) {
		a, errA := newObject(k1, d1)
		b, errB := newObject(k2, d2)
		if errA != nil || errB != nil || k1 >= k2 {
			return
		}
		var out bytes.Buffer
		if _, err := encodeManifest(context.Background(), &out, &sliceStream{rest: []object{a, b}}); err != nil {
			t.Fatal(err)
		}
		r := newManifestReader(&out)
		for _, want := range []object{a, b} {
			if got, err := r.next(); err != nil || got != want {
				t.Fatalf("got %+v, %v, want %+v", got, err, want)
			}
		}
		if _, err := r.next(); err != io.EOF {
			t.Fatal(err)
		}
	})
}
