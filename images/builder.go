package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Image is a built image, verified, ready for use. Treat its files as read-only:
// Instantiate makes the disk that a machine writes to.
type Image struct {
	Name        string
	Disk        string // path: one ext4 file system, no partitions
	Format      string // of Disk: "qcow2", which is quicker to check than a sparse raw file
	Kernel      string // path
	Initrd      string // path
	Cmdline     string // kernel parameters that fit the image
	SHA256      string // of Disk
	VirtualSize int64  // bytes
	RecipeHash  string
}

// Progress tells what a build is doing. Left is an estimate for everything that
// was asked for, from the times of earlier builds.
type Progress struct {
	Image string
	Step  string // "done" ends an image
	Left  time.Duration
}

// Builder builds images into a cache directory that several processes may share.
type Builder struct {
	Catalogue *Catalogue
	CacheDir  string
	Log       *slog.Logger
	Progress  func(Progress) // optional; called from several goroutines
}

// Build returns the named images, building in parallel what the cache does not
// hold. Everything handed back was checked against its SHA-256 just now.
// A build that is cancelled or fails leaves nothing behind but its log.
func (b *Builder) Build(ctx context.Context, names ...string) (map[string]Image, error) {
	plan, err := b.settlePlan(ctx, names)
	if err != nil {
		return nil, err
	}
	if len(plan.build) > 0 {
		if err := b.preflight(ctx, plan); err != nil {
			return nil, err
		}
		if err := b.buildAll(ctx, plan); err != nil {
			return nil, err
		}
	}
	for name := range plan.use {
		if err := b.touch(name); err != nil {
			return nil, fmt.Errorf("mark image %s as used: %w", name, err)
		}
	}
	built := map[string]Image{}
	for _, name := range names {
		if built[name], err = b.image(name); err != nil {
			return nil, err
		}
	}
	return built, nil
}

// plan says what of the cache is used and what is built.
type plan struct {
	build []string            // in dependency order
	use   map[string][]string // recipe -> files that others, or the caller, need of it
}

// settlePlan plans, and verifies what the plan would use of the cache. What is
// corrupt is thrown away and planned again.
func (b *Builder) settlePlan(ctx context.Context, names []string) (*plan, error) {
	if _, err := b.Catalogue.closure(names); err != nil {
		return nil, err
	}
	for {
		p := b.plan(names)
		bad, err := b.verifyUsed(ctx, p)
		if err != nil || len(bad) == 0 {
			return p, err
		}
		for name, fault := range bad {
			b.Log.Warn("rebuild a corrupt image", "image", name, "error", fault)
			if err := os.RemoveAll(b.dir(name)); err != nil {
				return nil, fmt.Errorf("throw away corrupt image %s: %w", name, err)
			}
		}
	}
}

func (b *Builder) plan(names []string) *plan {
	p := &plan{use: map[string][]string{}}
	building := map[string]bool{}
	var want func(name, file string)
	want = func(name, file string) {
		if !slices.Contains(p.use[name], file) {
			p.use[name] = append(p.use[name], file)
		}
		if m, err := readManifest(b.dir(name)); building[name] || err == nil && m.has(p.use[name]) {
			return
		}
		building[name] = true
		for need, files := range b.Catalogue.recipes[name].inputs() {
			for _, f := range files {
				want(need, f)
			}
		}
	}
	for _, name := range names {
		for _, f := range b.Catalogue.recipes[name].products() {
			want(name, f)
		}
	}
	for _, name := range b.Catalogue.order {
		if building[name] {
			p.build = append(p.build, name)
		}
	}
	return p
}

// inputs lists the files that a build reads of other images.
func (r *Recipe) inputs() map[string][]string {
	in := map[string][]string{}
	if r.Layer != "" {
		in[r.Layer] = []string{rootfsFile}
	}
	for _, name := range r.Roots {
		in[name] = append(in[name], rootfsFile)
	}
	for _, u := range r.Unpack {
		in[u.From] = append(in[u.From], artifactFile(u.Artifact))
	}
	return in
}

// products lists the files that a caller gets.
func (r *Recipe) products() []string {
	if r.Disk == nil {
		return []string{rootfsFile}
	}
	return []string{diskFile, kernelFile, initrdFile}
}

func artifactFile(name string) string { return "artifact-" + name + ".tar.zst" }

func (b *Builder) verifyUsed(ctx context.Context, p *plan) (map[string]error, error) {
	var mu sync.Mutex
	bad := map[string]error{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for name, files := range p.use {
		if slices.Contains(p.build, name) {
			continue
		}
		g.Go(func() error {
			err := b.verify(ctx, name, files)
			if errors.Is(err, ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
				mu.Lock()
				defer mu.Unlock()
				bad[name] = err
				return nil
			}
			return err
		})
	}
	return bad, g.Wait()
}

func (b *Builder) verify(ctx context.Context, name string, files []string) error {
	m, err := readManifest(b.dir(name))
	if err != nil {
		return err
	}
	return m.verify(ctx, b.dir(name), files)
}

// dir is where the image of the recipe's present hash lies.
func (b *Builder) dir(name string) string {
	return filepath.Join(b.CacheDir, "images", name, b.Catalogue.Hash(name)[:16])
}

func (b *Builder) image(name string) (Image, error) {
	dir := b.dir(name)
	m, err := readManifest(dir)
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w", name, err)
	}
	img := Image{Name: name, RecipeHash: m.RecipeHash, VirtualSize: m.VirtualSize, Cmdline: m.Cmdline}
	if d, ok := m.Files[diskFile]; ok {
		img.Disk, img.Format, img.SHA256 = filepath.Join(dir, diskFile), "qcow2", d.SHA256
		img.Kernel, img.Initrd = filepath.Join(dir, kernelFile), filepath.Join(dir, initrdFile)
	}
	return img, nil
}
