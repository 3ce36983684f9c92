package images

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// twoImages is a base that two images with disks start from.
var twoImages = map[string]string{
	"base.yaml": "name: base\nsuite: s\nmirror: http://127.0.0.1:1\nseconds: 100\n",
	"one.yaml":  "name: one\nlayer: base\ndisk: {size: 1G}\nseconds: 10\n",
	"two.yaml":  "name: two\nlayer: base\ndisk: {size: 1G}\nseconds: 20\n",
}

func testBuilder(t *testing.T) *Builder {
	t.Helper()
	return &Builder{Catalogue: mustLoad(t, twoImages), CacheDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// cache makes an image as a build would have.
func cache(t *testing.T, b *Builder, name string, files ...string) {
	t.Helper()
	dir := b.dir(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("content of "+f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := &manifest{Name: name, RecipeHash: b.Catalogue.Hash(name), Seconds: 3}
	if err := m.seal(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
}

func TestPlanBuildsOnlyWhatIsMissing(t *testing.T) {
	disk := []string{diskFile, kernelFile, initrdFile}
	for name, c := range map[string]struct {
		cached map[string][]string
		want   []string
	}{
		"nothing cached":         {nil, []string{"base", "one"}},
		"base cached":            {map[string][]string{"base": {rootfsFile}}, []string{"one"}},
		"image without its base": {map[string][]string{"one": disk}, nil},
		"base without its tar":   {map[string][]string{"base": {diskFile}}, []string{"base", "one"}},
		"disk without a kernel":  {map[string][]string{"base": {rootfsFile}, "one": {diskFile}}, []string{"one"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := testBuilder(t)
			for image, files := range c.cached {
				cache(t, b, image, files...)
			}
			if got := b.plan([]string{"one"}).build; !slices.Equal(got, c.want) {
				t.Errorf("builds %v, want %v", got, c.want)
			}
		})
	}
}

// A cached file whose bytes changed, at the same size, must not be used.
func TestCorruptImageIsThrownAway(t *testing.T) {
	b := testBuilder(t)
	cache(t, b, "base", rootfsFile)
	cache(t, b, "one", diskFile, kernelFile, initrdFile)
	if built, err := b.Build(t.Context(), "one"); err != nil || built["one"].Disk == "" {
		t.Fatalf("whole image: %v %v", built, err)
	}
	disk := filepath.Join(b.dir("one"), diskFile)
	data, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	data[0] ^= 1
	if err := os.WriteFile(disk, data, 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := b.settlePlan(t.Context(), []string{"one"})
	if err != nil || !slices.Equal(p.build, []string{"one"}) {
		t.Errorf("plan %v %v, want to build one", p, err)
	}
	if _, err := os.Stat(b.dir("one")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the corrupt image is still there: %v", err)
	}
}

func TestManifestRefusesWrongSize(t *testing.T) {
	b := testBuilder(t)
	cache(t, b, "one", diskFile)
	if err := os.Truncate(filepath.Join(b.dir("one"), diskFile), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := readManifest(b.dir("one")); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func TestUnknownRecipeNamesTheKnown(t *testing.T) {
	_, err := testBuilder(t).Build(t.Context(), "three")
	if err == nil || !strings.Contains(err.Error(), "base, one, two") {
		t.Errorf("got %v", err)
	}
}

func TestUnreachableMirrorIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	b := testBuilder(t)
	_, err := b.Build(t.Context(), "one")
	var mirror *MirrorError
	if !errors.As(err, &mirror) || !strings.HasPrefix(mirror.URL, "http://127.0.0.1:1/") {
		t.Errorf("got %v", err)
	}
	left, err := os.ReadDir(b.CacheDir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestTooLittleSpaceIsSaid(t *testing.T) {
	var space *SpaceError
	if err := testBuilder(t).checkSpace(1 << 60); !errors.As(err, &space) || space.Free <= 0 {
		t.Errorf("got %v", err)
	}
}

func TestMissingToolNamesPackage(t *testing.T) {
	_, err := findTool("no-such-tool-at-all")
	var missing *MissingToolError
	if !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
}

func TestLockIsExclusive(t *testing.T) {
	b := testBuilder(t)
	unlock, err := b.lock(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := b.lock(ctx, "one"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second lock: %v", err)
	}
	unlock()
	again, err := b.lock(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// The longest chain bounds the estimate from below, the cores from above.
func TestEstimate(t *testing.T) {
	b := testBuilder(t)
	for _, c := range []struct {
		cores int
		want  time.Duration
	}{{1, 130 * time.Second}, {8, 120 * time.Second}} {
		e := newEstimate(b, b.plan([]string{"one", "two"}))
		e.cores = c.cores
		if got := e.left(); got != c.want {
			t.Errorf("%d cores: %s, want %s", c.cores, got, c.want)
		}
		e.done("base")
		if got := e.left(); got > 30*time.Second {
			t.Errorf("%d cores: %s left without the base", c.cores, got)
		}
	}
}

func TestEstimateLearns(t *testing.T) {
	b := testBuilder(t)
	cache(t, b, "base", diskFile) // has no tar, so it is built again: in the 3 seconds it took
	if got, err := b.Estimate("base"); err != nil || got != 3*time.Second {
		t.Errorf("got %s %v", got, err)
	}
}

func TestPruneKeepsWhatIsUsed(t *testing.T) {
	b := testBuilder(t)
	for _, name := range []string{"one", "two"} {
		cache(t, b, name, diskFile, kernelFile, initrdFile)
		old := time.Now().Add(-48 * time.Hour)
		if err := os.Chtimes(filepath.Join(b.dir(name), manifestFile), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Build(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Prune(t.Context(), 24*time.Hour); n != 1 || err != nil {
		t.Errorf("removed %d: %v", n, err)
	}
	if _, err := os.Stat(b.dir("two")); err != nil {
		t.Errorf("the image just used is gone: %v", err)
	}
}

// What others wait for longest goes first; nothing goes before what it needs.
func TestQueueOrder(t *testing.T) {
	b := testBuilder(t)
	b.Catalogue = mustLoad(t, map[string]string{
		"a.yaml":     "name: a\nsuite: s\nseconds: 5\n",
		"b.yaml":     "name: b\nsuite: s\nseconds: 5\n",
		"quick.yaml": "name: quick\nlayer: a\nseconds: 1\n",
		"slow.yaml":  "name: slow\nlayer: b\nseconds: 50\n",
	})
	q := newQueue(b, b.plan([]string{"quick", "slow"}))
	var order []string
	for {
		name, ok := q.next()
		if !ok {
			break
		}
		order = append(order, name)
	}
	if want := []string{"b", "a"}; !slices.Equal(order, want) {
		t.Errorf("ready at first: %v, want %v", order, want)
	}
	q.done("a")
	if name, _ := q.next(); name != "quick" {
		t.Errorf("after a: %q", name)
	}
	if name, ok := q.next(); ok {
		t.Errorf("%q is ready without b", name)
	}
}
