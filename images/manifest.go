package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// Names of the files of a built image, beside its artifacts.
const (
	manifestFile = "manifest.json"
	diskFile     = "disk.qcow2"
	kernelFile   = "vmlinuz"
	initrdFile   = "initrd.img"
	rootfsFile   = "rootfs.tar.zst"
	logFile      = "build.log"
)

// ErrCorrupt means that a cached file is not what its manifest says.
var ErrCorrupt = errors.New("cached image is corrupt")

// manifest lies beside the files of a built image and is written last.
type manifest struct {
	Name        string                `json:"name"`
	RecipeHash  string                `json:"recipe_hash"`
	Seconds     float64               `json:"seconds"` // how long the build took
	VirtualSize int64                 `json:"virtual_size,omitempty"`
	Cmdline     string                `json:"cmdline,omitempty"`
	Files       map[string]fileDigest `json:"files"`
}

type fileDigest struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// readManifest also reports whether each file is there with its size, so that a
// half-copied cache counts as missing.
func readManifest(dir string) (*manifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, err
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, manifestFile, err)
	}
	for name, want := range m.Files {
		st, err := os.Stat(filepath.Join(dir, filepath.Base(name)))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if st.Size() != want.Size {
			return nil, fmt.Errorf("%w: %s has %d bytes instead of %d", ErrCorrupt, st.Name(), st.Size(), want.Size)
		}
	}
	return &m, nil
}

// has says whether all the named files belong to the image.
func (m *manifest) has(files []string) bool {
	for _, f := range files {
		if _, ok := m.Files[f]; !ok {
			return false
		}
	}
	return true
}

// verify reads the named files whole and compares their digests.
func (m *manifest) verify(ctx context.Context, dir string, files []string) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range files {
		g.Go(func() error {
			got, err := digest(ctx, filepath.Join(dir, name))
			if err != nil {
				return err
			}
			if got != m.Files[name] {
				return fmt.Errorf("%w: %s has sha256 %s instead of %s",
					ErrCorrupt, filepath.Join(dir, name), got.SHA256, m.Files[name].SHA256)
			}
			return nil
		})
	}
	return g.Wait()
}

// seal digests the files in dir and writes the manifest, durably.
func (m *manifest) seal(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	m.Files = map[string]fileDigest{}
	for _, e := range entries {
		d, err := digest(ctx, filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		m.Files[e.Name()] = d
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return writeDurably(filepath.Join(dir, manifestFile), append(data, '\n'))
}

func writeDurably(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// digest is the plain SHA-256 that sha256sum prints, and the apparent size.
func digest(ctx context.Context, name string) (fileDigest, error) {
	f, err := os.Open(name)
	if err != nil {
		return fileDigest{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, readerUntil{ctx, f}, make([]byte, 1<<20))
	if err != nil {
		return fileDigest{}, fmt.Errorf("digest %s: %w", name, err)
	}
	return fileDigest{hex.EncodeToString(h.Sum(nil)), n}, nil
}

// readerUntil stops a long copy when its context ends.
type readerUntil struct {
	ctx context.Context
	r   io.Reader
}

func (r readerUntil) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
