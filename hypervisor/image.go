package hypervisor

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ImageHeader is what imago reads of a disk image: never its data, and never
// through a tool that would follow what the image says.
type ImageHeader struct {
	Path          string   `json:"path"`
	Format        string   `json:"format"`
	VirtualSize   uint64   `json:"virtual_size"` // bytes
	BackingFile   string   `json:"backing_file,omitempty"`
	BackingFormat string   `json:"backing_format,omitempty"`
	Bitmaps       []Bitmap `json:"bitmaps,omitempty"`
}

// Bitmap is a persistent dirty bitmap in a qcow2 image.
type Bitmap struct {
	Name        string `json:"name"`
	Granularity uint64 `json:"granularity"` // bytes
	Flags       uint32 `json:"flags"`       // bit 0: in use, bit 1: automatic
}

const (
	// maxVirtualSize is far above any real disk, and low enough for sums of many.
	maxVirtualSize = 1 << 50
	// maxChain bounds how many images [ReadImageChain] follows.
	maxChain = 200
)

// ReadImageHeader reads the header of an image whose format is known. It
// refuses with [ErrHostileImage] what could make QEMU open other files or
// that imago cannot clone: a separate data file, encryption, unknown
// incompatible features, absurd sizes. The format is never guessed, because a
// guest can write a qcow2 header into its raw disk.
func ReadImageHeader(path, format string) (ImageHeader, error) {
	f, err := os.Open(path)
	if err != nil {
		return ImageHeader{}, fmt.Errorf("read image header: %w", err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return ImageHeader{}, fmt.Errorf("read image header: %w", err)
	}
	if !st.Mode().IsRegular() {
		return ImageHeader{}, fmt.Errorf("image %q: %w: not a regular file", path, ErrHostileImage)
	}
	h := ImageHeader{Path: path, Format: format}
	switch format {
	case "raw":
		h.VirtualSize = uint64(st.Size())
	case "qcow2":
		err = parseQcow2(io.NewSectionReader(f, 0, st.Size()), &h)
	default:
		err = fmt.Errorf("%w: format %q is neither qcow2 nor raw", ErrHostileImage, format)
	}
	if err == nil && h.VirtualSize > maxVirtualSize {
		err = fmt.Errorf("%w: virtual size %d", ErrHostileImage, h.VirtualSize)
	}
	if err != nil {
		return ImageHeader{}, fmt.Errorf("image %q: %w", path, err)
	}
	return h, nil
}

// ReadImageChain reads the headers of an image and of all images it is backed
// by, the topmost first. An image that does not state its backing format is
// refused, as are backing files that are no plain paths, loops and chains over
// 200 images.
func ReadImageChain(path, format string) ([]ImageHeader, error) {
	var chain []ImageHeader
	seen := map[string]bool{}
	for {
		if seen[path] || len(chain) >= maxChain {
			return nil, fmt.Errorf("image %q: %w: its chain is a loop or has over %d images", path, ErrHostileImage, maxChain)
		}
		seen[path] = true
		h, err := ReadImageHeader(path, format)
		if err != nil {
			return nil, err
		}
		chain = append(chain, h)
		if h.BackingFile == "" {
			return chain, nil
		}
		if path, err = h.backingPath(); err != nil {
			return nil, err
		}
		format = h.BackingFormat
	}
}

// backingPath resolves the backing file as QEMU does: relative to the image.
func (h ImageHeader) backingPath() (string, error) {
	if h.BackingFormat == "" {
		return "", fmt.Errorf("image %q: %w: it does not state the format of its backing file", h.Path, ErrHostileImage)
	}
	if hasProtocol(h.BackingFile) {
		return "", fmt.Errorf("image %q: %w: its backing file %q is not a plain path", h.Path, ErrHostileImage, h.BackingFile)
	}
	if filepath.IsAbs(h.BackingFile) {
		return filepath.Clean(h.BackingFile), nil
	}
	return filepath.Join(filepath.Dir(h.Path), h.BackingFile), nil
}

// hasProtocol follows QEMU's rule: a colon before the first slash.
func hasProtocol(name string) bool {
	for _, c := range name {
		switch c {
		case ':':
			return true
		case '/':
			return false
		}
	}
	return false
}
