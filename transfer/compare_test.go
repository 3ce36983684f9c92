package transfer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pairs is a source of "key=digest" texts.
func pairs(texts ...string) ObjectSource {
	return func(_ context.Context, yield func(string, []byte) error) error {
		for _, t := range texts {
			var k, d string
			for i := range t {
				if t[i] == '=' {
					k, d = t[:i], t[i+1:]
				}
			}
			if err := yield(k, []byte(d)); err != nil {
				return err
			}
		}
		return nil
	}
}

func found(keys ...string) Finding { return Finding{Count: int64(len(keys)), Sample: keys} }

func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		old, new []string
		want     Comparison
		ok       bool
	}{
		"equal, in another order": {
			[]string{"a=1", "b=2"}, []string{"b=2", "a=1"},
			Comparison{Objects: 2, NewObjects: 2, Verified: 2}, true,
		},
		"each finding": {
			[]string{"a=1", "b=2", "d=4"}, []string{"b=3", "c=1", "d=4"},
			Comparison{Objects: 3, NewObjects: 3, Verified: 1, Missing: found("a"), Extra: found("c"), Different: found("b")}, false,
		},
		"everything lost": {
			[]string{"a=1"}, nil,
			Comparison{Objects: 1, Missing: found("a")}, false,
		},
		"doubled on the new side": {
			[]string{"a=1"}, []string{"a=1", "a=1"},
			Comparison{Objects: 1, NewObjects: 1, Different: found("a"), NewDoubled: found("a")}, false,
		},
		"doubled on both sides": {
			[]string{"a=1", "a=2"}, []string{"a=2", "a=1"},
			Comparison{Objects: 1, NewObjects: 1, Verified: 1, OldDoubled: found("a"), NewDoubled: found("a")}, false,
		},
		"digests that run together": {
			[]string{"a=1", "a=23"}, []string{"a=12", "a=3"},
			Comparison{Objects: 1, NewObjects: 1, Different: found("a"), OldDoubled: found("a"), NewDoubled: found("a")}, false,
		},
	} {
		got, err := Compare(context.Background(), pairs(c.old...), pairs(c.new...), Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, got); d != "" || got.OK() != c.ok {
			t.Errorf("%s: OK %v (-want +got)\n%s", name, got.OK(), d)
		}
	}
}

func TestCompareRefuses(t *testing.T) {
	broken := errors.New("broken")
	failing := func(_ context.Context, yield func(string, []byte) error) error {
		return errors.Join(yield("a", []byte("1")), broken)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx      context.Context
		old, new ObjectSource
		want     error
	}{
		"nothing":            {context.Background(), pairs(), pairs(), ErrNothingCompared},
		"a source breaks":    {context.Background(), pairs("a=1"), failing, broken},
		"an empty key":       {context.Background(), pairs("=1"), pairs("a=1"), ErrInvalidObject},
		"an empty digest":    {context.Background(), pairs("a="), pairs("a=1"), ErrInvalidObject},
		"cancelled":          {cancelled, pairs("a=1"), pairs("a=1"), context.Canceled},
		"cancelled, nothing": {cancelled, pairs(), pairs(), context.Canceled},
	} {
		if _, err := Compare(c.ctx, c.old, c.new, Options{}); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if _, err := Compare(context.Background(), pairs(), pairs(), Options{AllowEmpty: true}); err != nil {
		t.Errorf("allowed to be empty: %v", err)
	}
}

func TestSamplesAreBounded(t *testing.T) {
	many := func(_ context.Context, yield func(string, []byte) error) error {
		for i := range 1000 {
			if err := yield(fmt.Sprintf("k%04d", 999-i), []byte("x")); err != nil {
				return err
			}
		}
		return nil
	}
	c, err := Compare(context.Background(), many, pairs(), Options{Samples: 3})
	if err != nil || c.Missing.Count != 1000 || !slices.Equal(c.Missing.Sample, []string{"k0000", "k0001", "k0002"}) {
		t.Fatalf("%+v, %v", c, err)
	}
}

// TestSpilledCompareAgreesWithMaps compares random sides with a buffer of some
// hundred objects, so that runs are spilled, collapsed and merged, with what
// plain maps say.
func TestSpilledCompareAgreesWithMaps(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	sides := [2]map[string]string{{}, {}}
	for i := range 60000 {
		key := fmt.Sprintf("page/%d/%x", rnd.IntN(1000), i)
		digest := fmt.Sprint(rnd.Uint64())
		for s := range sides {
			if rnd.IntN(20) != 0 {
				sides[s][key] = digest
			}
		}
		if rnd.IntN(50) == 0 {
			sides[1][key] = "changed"
		}
	}
	source := func(m map[string]string) ObjectSource {
		return func(_ context.Context, yield func(string, []byte) error) error {
			for k, d := range m {
				if err := yield(k, []byte(d)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	var want Comparison
	for k, d := range sides[0] {
		switch e, ok := sides[1][k]; {
		case !ok:
			want.Missing.Count++
		case d != e:
			want.Different.Count++
		default:
			want.Verified++
		}
	}
	for k := range sides[1] {
		if _, ok := sides[0][k]; !ok {
			want.Extra.Count++
		}
	}
	var lastOld, lastNew int64
	got, err := Compare(context.Background(), source(sides[0]), source(sides[1]), Options{
		Memory: 40 << 10, TempDir: dir, Progress: func(old, new int64) { lastOld, lastNew = old, new },
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Missing.Count != want.Missing.Count || got.Extra.Count != want.Extra.Count ||
		got.Different.Count != want.Different.Count || got.Verified != want.Verified ||
		got.Objects != int64(len(sides[0])) || got.NewObjects != int64(len(sides[1])) {
		t.Fatalf("got %s, want %s", got, want)
	}
	if lastOld != got.Objects || lastNew != got.NewObjects {
		t.Errorf("progress ended at %d and %d", lastOld, lastNew)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if fds := openIn(t, dir); fds != 0 {
		t.Errorf("%d files are still open", fds)
	}
}

func openIn(t *testing.T, dir string) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && len(to) > len(dir) && to[:len(dir)] == dir {
			n++
		}
	}
	return n
}

func BenchmarkCompareMillion(b *testing.B) {
	source := func(_ context.Context, yield func(string, []byte) error) error {
		d := make([]byte, 32)
		for i := range 1_000_000 {
			if err := yield(fmt.Sprintf("revision/%d", i*7919%1_000_003), d); err != nil {
				return err
			}
		}
		return nil
	}
	b.ReportAllocs()
	for b.Loop() {
		if c, err := Compare(context.Background(), source, source, Options{TempDir: b.TempDir()}); err != nil || !c.OK() {
			b.Fatal(c, err)
		}
	}
}
