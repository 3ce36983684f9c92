package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// job is one build under way: everything it makes lies under tmp until published.
type job struct {
	b      *Builder
	r      *Recipe
	tmp    string // temporary directory of this build
	root   string // the root file system being built
	out    string // becomes the image directory
	log    *os.File
	report func(step string)
}

// buildOne builds one image, or finds that another process just did.
func (b *Builder) buildOne(ctx context.Context, name string, used []string, left *estimate) error {
	unlock, err := b.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if m, err := readManifest(b.dir(name)); err == nil && m.has(used) {
		left.done(name)
		return m.verify(ctx, b.dir(name), used)
	}
	j, err := b.newJob(name)
	if err != nil {
		return err
	}
	j.report = func(step string) { b.tell(name, step, left) }
	start := time.Now()
	err = j.run(ctx, start)
	err = errors.Join(j.explain(ctx, err), j.close())
	if err != nil {
		return err
	}
	left.done(name)
	b.tell(name, "done", left)
	b.Log.Info("image built", "image", name, "seconds", time.Since(start).Seconds())
	return nil
}

func (b *Builder) tell(name, step string, left *estimate) {
	b.Log.Debug("build step", "image", name, "step", step)
	if b.Progress != nil {
		b.Progress(Progress{Image: name, Step: step, Left: left.left()})
	}
}

// lock keeps other processes, and what they left when they died, out of the
// build of one image.
func (b *Builder) lock(ctx context.Context, name string) (unlock func(), err error) {
	dir := filepath.Join(b.CacheDir, "locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing releases
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		}
	}
}

// newJob makes the directories of a build. Under the lock, whatever an earlier
// build of this image left behind is nobody's.
func (b *Builder) newJob(name string) (*job, error) {
	tmp := filepath.Join(b.CacheDir, "tmp", name)
	if err := os.RemoveAll(tmp); err != nil {
		return nil, fmt.Errorf("remove what a broken build left: %w", err)
	}
	j := &job{b: b, r: b.Catalogue.recipes[name], tmp: tmp,
		root: filepath.Join(tmp, "root"), out: filepath.Join(tmp, "out")}
	for _, dir := range []string{j.root, j.out, filepath.Join(b.CacheDir, "logs")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(b.CacheDir, "logs", name+".log"))
	j.log = log
	return j, err
}

func (j *job) close() error {
	return errors.Join(j.log.Close(), os.RemoveAll(j.tmp))
}

// run takes a build through all its steps and publishes the result.
func (j *job) run(ctx context.Context, start time.Time) error {
	steps := []struct {
		name string
		do   func(context.Context) error
		skip bool
	}{
		{"bootstrap", j.bootstrap, j.r.Layer != ""},
		{"copy layer", j.copyLayer, j.r.Layer == ""},
		{"install packages", j.install, j.r.Layer == "" || len(j.r.Packages) == 0},
		{"unpack artifacts", j.unpack, len(j.r.Unpack) == 0},
		{"write files", j.writeFiles, false},
		{"copy roots", j.copyRoots, len(j.r.Roots) == 0},
		{"run scripts", j.runScripts, len(j.r.Scripts) == 0},
		{"clean", j.clean, false},
		{"pack artifacts", j.packArtifacts, len(j.r.Artifacts) == 0},
		{"pack", j.packRoot, !j.b.Catalogue.bases[j.r.Name] && j.r.Disk != nil},
		{"make disk", j.makeDisk, j.r.Disk == nil},
	}
	for _, s := range steps {
		if s.skip {
			continue
		}
		j.report(s.name)
		began := time.Now()
		fmt.Fprintf(j.log, "== %s\n", s.name)
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		j.b.Log.Debug("build step done", "image", j.r.Name, "step", s.name, "seconds", time.Since(began).Seconds())
	}
	return j.publish(ctx, start)
}

// publish gives the finished image its place in one rename.
func (j *job) publish(ctx context.Context, start time.Time) error {
	j.report("digest")
	m := &manifest{Name: j.r.Name, RecipeHash: j.b.Catalogue.Hash(j.r.Name)}
	if j.r.Disk != nil {
		m.Cmdline = j.r.Kernel.Cmdline
		m.VirtualSize, _ = parseSize(j.r.Disk.Size) // validated when loaded
	}
	m.Seconds = time.Since(start).Seconds()
	if err := m.seal(ctx, j.out); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	dir := j.b.dir(j.r.Name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Rename(j.out, dir); err != nil {
		return fmt.Errorf("publish image: %w", err)
	}
	return nil
}

// explain adds the end of the log to what went wrong, unless it was the caller's wish.
func (j *job) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if tail := j.logTail(15); tail != "" {
		return fmt.Errorf("%w; log %s ends:\n%s", err, j.log.Name(), tail)
	}
	return err
}

func (j *job) logTail(lines int) string {
	st, err := j.log.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, min(st.Size(), 8<<10))
	n, err := j.log.ReadAt(buf, st.Size()-int64(len(buf)))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	all := strings.Split(string(bytes.TrimSpace(buf[:n])), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
