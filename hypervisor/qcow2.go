package hypervisor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// The parts of the qcow2 format that matter here. All numbers are big endian.
const (
	qcow2Magic     = 0x514649fb // "QFI\xfb"
	qcow2HeaderV2  = 72
	qcow2HeaderV3  = 104
	qcow2HeaderMax = 4096

	incompatDirty    = 1 << 0
	incompatCorrupt  = 1 << 1
	incompatDataFile = 1 << 2
	incompatZstd     = 1 << 3
	incompatExtL2    = 1 << 4

	extEnd           = 0
	extBackingFormat = 0xe2792aca
	extBitmaps       = 0x23852875
	extDataFile      = 0x44415441
	extEncryption    = 0x0537be77

	maxBackingName = 1023
	maxExtensions  = 64
	maxExtension   = 64 << 10
	maxBitmaps     = 1024
	maxBitmapDir   = 1 << 20
	maxBitmapName  = 1023
)

// qcow2Fixed is the start of every qcow2 header.
type qcow2Fixed struct {
	Magic, Version          uint32
	BackingOffset           uint64
	BackingSize             uint32
	ClusterBits             uint32
	Size                    uint64
	CryptMethod             uint32
	L1Size                  uint32
	L1Offset                uint64
	RefcountOffset          uint64
	RefcountClusters        uint32
	Snapshots               uint32
	SnapshotsOffset         uint64
	Incompatible            uint64 // version 3 only, like all below
	Compatible              uint64
	Autoclear               uint64
	RefcountOrder, HeaderSz uint32
}

func hostile(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrHostileImage, fmt.Sprintf(format, args...))
}

// parseQcow2 reads header, extensions, backing file name and bitmap names.
func parseQcow2(r *io.SectionReader, h *ImageHeader) error {
	fixed, err := readFixed(r)
	if err != nil {
		return err
	}
	if err := fixed.check(); err != nil {
		return err
	}
	h.VirtualSize = fixed.Size
	if h.BackingFile, err = fixed.backing(r); err != nil {
		return err
	}
	return fixed.extensions(r, h)
}

func readFixed(r io.ReaderAt) (qcow2Fixed, error) {
	var raw [qcow2HeaderV3]byte
	n, err := r.ReadAt(raw[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return qcow2Fixed{}, err
	}
	if n < qcow2HeaderV2 {
		return qcow2Fixed{}, hostile("too short for a qcow2 header")
	}
	var f qcow2Fixed
	if err := binary.Read(bytes.NewReader(raw[:]), binary.BigEndian, &f); err != nil {
		return qcow2Fixed{}, err
	}
	if f.Version == 2 {
		// What follows is not part of a version 2 header.
		f.Incompatible, f.Compatible, f.Autoclear, f.RefcountOrder, f.HeaderSz = 0, 0, 0, 4, qcow2HeaderV2
	} else if n < qcow2HeaderV3 {
		return qcow2Fixed{}, hostile("too short for a qcow2 version 3 header")
	}
	return f, nil
}

func (f qcow2Fixed) check() error {
	switch {
	case f.Magic != qcow2Magic:
		return hostile("not a qcow2 image")
	case f.Version != 2 && f.Version != 3:
		return hostile("qcow2 version %d", f.Version)
	case f.CryptMethod != 0:
		return hostile("encrypted")
	case f.ClusterBits < 9 || f.ClusterBits > 21:
		return hostile("clusters of 2^%d bytes", f.ClusterBits)
	case f.Incompatible&incompatDataFile != 0:
		return hostile("its data is in another file")
	case f.Incompatible&incompatCorrupt != 0:
		return hostile("marked corrupt")
	case f.Incompatible&^(incompatDirty|incompatZstd|incompatExtL2) != 0:
		return hostile("unknown incompatible features %#x", f.Incompatible)
	case f.HeaderSz < qcow2HeaderV2 || f.HeaderSz > qcow2HeaderMax || f.Version == 3 && f.HeaderSz < qcow2HeaderV3:
		return hostile("header of %d bytes", f.HeaderSz)
	case f.Size > maxVirtualSize:
		return hostile("virtual size %d", f.Size)
	case f.BackingSize > maxBackingName:
		return hostile("backing file name of %d bytes", f.BackingSize)
	}
	return nil
}

// backing reads the backing file's name, which must lie in the first cluster.
func (f qcow2Fixed) backing(r *io.SectionReader) (string, error) {
	if f.BackingOffset == 0 || f.BackingSize == 0 {
		return "", nil
	}
	cluster := uint64(1) << f.ClusterBits
	if f.BackingOffset > cluster-uint64(f.BackingSize) {
		return "", hostile("the backing file's name lies outside of the header")
	}
	name, err := readPart(r, f.BackingOffset, uint64(f.BackingSize))
	if err != nil {
		return "", err
	}
	return text(name)
}

// text refuses names that a person or JSON cannot show as they are.
func text(raw []byte) (string, error) {
	if !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0 {
		return "", hostile("a name in it is not text")
	}
	return string(raw), nil
}

// extensions walks the header extensions.
func (f qcow2Fixed) extensions(r *io.SectionReader, h *ImageHeader) error {
	offset := uint64(f.HeaderSz)
	for range maxExtensions {
		head, err := readPart(r, offset, 8)
		if errors.Is(err, ErrHostileImage) {
			return nil // a small image may end with its header
		}
		if err != nil {
			return err
		}
		kind, size := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
		if kind == extEnd {
			return nil
		}
		if size > maxExtension {
			return hostile("header extension of %d bytes", size)
		}
		data, err := readPart(r, offset+8, uint64(size))
		if err != nil {
			return err
		}
		if err := f.extension(r, h, kind, data); err != nil {
			return err
		}
		offset += 8 + (uint64(size)+7)/8*8
	}
	return hostile("more than %d header extensions", maxExtensions)
}

func (f qcow2Fixed) extension(r *io.SectionReader, h *ImageHeader, kind uint32, data []byte) (err error) {
	switch kind {
	case extBackingFormat:
		h.BackingFormat, err = text(data)
	case extBitmaps:
		h.Bitmaps, err = readBitmaps(r, data)
	case extDataFile:
		err = hostile("it names a data file")
	case extEncryption:
		err = hostile("encrypted")
	}
	return err
}

// readBitmaps reads the directory of persistent bitmaps.
func readBitmaps(r *io.SectionReader, ext []byte) ([]Bitmap, error) {
	if len(ext) < 24 {
		return nil, hostile("bitmap extension of %d bytes", len(ext))
	}
	count := binary.BigEndian.Uint32(ext)
	size, offset := binary.BigEndian.Uint64(ext[8:]), binary.BigEndian.Uint64(ext[16:])
	if count > maxBitmaps || size > maxBitmapDir {
		return nil, hostile("%d bitmaps in a directory of %d bytes", count, size)
	}
	dir, err := readPart(r, offset, size)
	if err != nil {
		return nil, err
	}
	list := make([]Bitmap, 0, count)
	for range count {
		b, rest, err := readBitmap(dir)
		if err != nil {
			return nil, err
		}
		list, dir = append(list, b), rest
	}
	return list, nil
}

// bitmapEntry is the fixed part of a directory entry.
const bitmapEntry = 24

func readBitmap(dir []byte) (b Bitmap, rest []byte, err error) {
	if len(dir) < bitmapEntry {
		return b, nil, hostile("a bitmap's entry is cut off")
	}
	bits, nameLen := dir[17], uint64(binary.BigEndian.Uint16(dir[18:]))
	extra := uint64(binary.BigEndian.Uint32(dir[20:]))
	if bits > 63 || nameLen > maxBitmapName || extra > maxExtension {
		return b, nil, hostile("a bitmap with granularity 2^%d and a name of %d bytes", bits, nameLen)
	}
	length := (bitmapEntry + extra + nameLen + 7) / 8 * 8
	if length > uint64(len(dir)) {
		return b, nil, hostile("a bitmap's entry is cut off")
	}
	name, err := text(dir[bitmapEntry+extra : bitmapEntry+extra+nameLen])
	if err != nil {
		return b, nil, err
	}
	return Bitmap{Name: name, Granularity: 1 << bits, Flags: binary.BigEndian.Uint32(dir[12:])}, dir[length:], nil
}

// readPart reads a part of the file that must be there as a whole.
func readPart(r *io.SectionReader, offset, size uint64) ([]byte, error) {
	total := uint64(r.Size())
	if offset > total || size > total-offset {
		return nil, hostile("it points behind its own end")
	}
	buf := make([]byte, size)
	if _, err := r.ReadAt(buf, int64(offset)); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf, nil
}
