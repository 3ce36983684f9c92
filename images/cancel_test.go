package images_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"imago.dev/imago/images"
)

// A build that is cancelled in the middle must leave no process, no mount and no
// directory behind, and the next build must not be disturbed by it.
func TestCancelledBuildLeavesNothing(t *testing.T) {
	needHost(t)
	cache := t.TempDir()
	b := newBuilder(t, cache)
	ctx, cancel := context.WithCancelCause(t.Context())
	var watch sync.WaitGroup
	stop := errors.New("the user pressed a key")
	b.Progress = func(p images.Progress) {
		if p.Step == "bootstrap" {
			// The root file system appears once mmdebstrap works.
			watch.Go(func() {
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for range tick.C {
					if _, err := os.Stat(filepath.Join(cache, "tmp", p.Image, "root", "etc", "apt")); err == nil {
						cancel(stop)
						return
					}
					if ctx.Err() != nil {
						return
					}
				}
			})
		}
	}
	defer watch.Wait()
	if _, err := b.Build(ctx, "base-bookworm"); !errors.Is(err, stop) {
		t.Fatalf("got %v", err)
	}
	for _, dir := range []string{"tmp", "images"} {
		if left, err := os.ReadDir(filepath.Join(cache, dir)); err == nil && len(left) > 0 {
			t.Errorf("%s has %v", dir, left)
		}
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), cache) {
		t.Errorf("mounts: %v", err)
	}
	if pids := processesWith(t, cache); len(pids) > 0 {
		t.Errorf("still running: %v", pids)
	}
}

// processesWith lists processes whose command line names s.
func processesWith(t *testing.T, s string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && strings.Contains(string(data), s) {
			found = append(found, f+": "+strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return found
}
