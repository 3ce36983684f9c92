package images

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotRoot means that a build was asked for by somebody who cannot make one.
var ErrNotRoot = errors.New("building images needs root")

// MissingToolError names a program that a build needs and the Debian package that has it.
type MissingToolError struct{ Tool, Package string }

func (e *MissingToolError) Error() string {
	return fmt.Sprintf("%s is missing: install the package %s", e.Tool, e.Package)
}

// MirrorError names a package mirror that does not answer as one.
type MirrorError struct {
	URL string
	Err error
}

func (e *MirrorError) Error() string {
	return fmt.Sprintf("package mirror %s is not reachable: %v", e.URL, e.Err)
}

// Unwrap gives what went wrong on the wire.
func (e *MirrorError) Unwrap() error { return e.Err }

// SpaceError says how much room a build needs and how much there is.
type SpaceError struct {
	Dir        string
	Need, Free int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s has %d MiB free, building the images needs %d MiB", e.Dir, e.Free>>20, e.Need>>20)
}

// bytesPerImage is room for an image in the cache and its share of what is being built.
const bytesPerImage = 1 << 30

// tools are the programs that builds run, with their packages.
var tools = [][2]string{
	{"mmdebstrap", "mmdebstrap"}, {"mke2fs", "e2fsprogs"}, {"unshare", "util-linux"}, {"mount", "mount"},
	{"tar", "tar"}, {"chroot", "coreutils"}, {"ip", "iproute2"}, {"xz", "xz-utils"}, {"zstd", "zstd"}, {"qemu-img", "qemu-utils"},
}

// preflight refuses before anything is made.
func (b *Builder) preflight(ctx context.Context, p *plan) error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	var faults []error
	for _, t := range tools {
		if _, err := findTool(t[0]); err != nil {
			faults = append(faults, &MissingToolError{t[0], t[1]})
		}
	}
	if err := os.MkdirAll(b.CacheDir, 0o755); err != nil {
		return err
	}
	faults = append(faults, b.checkSpace(int64(len(p.build))*bytesPerImage), b.checkMirrors(ctx, p))
	return errors.Join(faults...)
}

func (b *Builder) checkSpace(need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(b.CacheDir, &st); err != nil {
		return fmt.Errorf("free space of %s: %w", b.CacheDir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return &SpaceError{b.CacheDir, need, free}
	}
	return nil
}

// checkMirrors asks each mirror that will be used for its suite's release file.
func (b *Builder) checkMirrors(ctx context.Context, p *plan) error {
	var urls []string
	for _, name := range p.build {
		r := b.Catalogue.recipes[name]
		if r.Layer != "" && len(r.Packages) == 0 {
			continue
		}
		for _, s := range append([]Source{{r.Mirror, r.Suite}}, r.Extra...) {
			urls = append(urls, s.Mirror+"/dists/"+s.Suite+"/InRelease")
		}
	}
	slices.Sort(urls)
	for _, url := range slices.Compact(urls) {
		if err := checkMirror(ctx, url); err != nil {
			return &MirrorError{url, err}
		}
	}
	return nil
}

func checkMirror(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}

// findTool also looks where a user's PATH may not.
func findTool(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", &MissingToolError{Tool: name, Package: name}
}
