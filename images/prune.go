package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// touch marks an image as used now, which keeps Prune away from it.
func (b *Builder) touch(name string) error {
	now := time.Now()
	return os.Chtimes(filepath.Join(b.dir(name), manifestFile), now, now)
}

// Prune removes built images that no Build handed out or used for longer than
// unused, and says how many. Machines keep working: their disks are copies. But a
// machine whose kernel file is removed cannot start again, so ask for days.
func (b *Builder) Prune(ctx context.Context, unused time.Duration) (int, error) {
	manifests, err := filepath.Glob(filepath.Join(b.CacheDir, "images", "*", "*", manifestFile))
	if err != nil {
		return 0, err
	}
	removed := 0
	var faults []error
	for _, m := range manifests {
		st, err := os.Stat(m)
		if err != nil || time.Since(st.ModTime()) < unused {
			continue
		}
		if err := b.remove(ctx, filepath.Dir(m)); err != nil {
			faults = append(faults, fmt.Errorf("remove image %s: %w", filepath.Dir(m), err))
			continue
		}
		removed++
	}
	return removed, errors.Join(faults...)
}

// remove removes one image directory under the lock of its name.
func (b *Builder) remove(ctx context.Context, dir string) error {
	unlock, err := b.lock(ctx, filepath.Base(filepath.Dir(dir)))
	if err != nil {
		return err
	}
	defer unlock()
	return os.RemoveAll(dir)
}
