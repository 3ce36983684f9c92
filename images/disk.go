package images

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// makeDisk writes the root file system into a raw disk without mounting it, and
// the kernel and its initrd beside it.
func (j *job) makeDisk(ctx context.Context) error {
	size, err := parseSize(j.r.Disk.Size)
	if err != nil {
		return err
	}
	disk := filepath.Join(j.tmp, "disk.raw")
	if err := os.WriteFile(disk, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(disk, size); err != nil {
		return err
	}
	id := uuidOf(j.b.Catalogue.Hash(j.r.Name))
	env := []string{"E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(j.r.epoch(), 10), "MKE2FS_DEVICE_SECTSIZE=512"}
	// Checksums of metadata cost an emulated machine more than they protect here.
	if err := runTool(ctx, nil, j.log, env, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-U", id, "-m", "0",
		"-O", "^metadata_csum,^64bit", "-J", "size=16",
		"-E", "hash_seed="+id+",root_owner=0:0,assume_storage_prezeroed=1,nodiscard",
		"-d", j.root, disk); err != nil {
		return err
	}
	if err := convertDisk(ctx, disk, "raw", filepath.Join(j.out, diskFile), "qcow2"); err != nil {
		return err
	}
	return j.makeBoot(ctx)
}

// convertDisk copies a disk into another format; what is empty takes no room.
func convertDisk(ctx context.Context, from, format, to, toFormat string) error {
	var talk bytes.Buffer
	err := runTool(ctx, nil, &talk, nil, "qemu-img", "convert", "-W", "-f", format, "-O", toFormat, from, to)
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(talk.Bytes()))
	}
	return nil
}

// uuidOf makes a stable UUID of a hash.
func uuidOf(hash string) string {
	b, err := hex.DecodeString(hash[:32])
	if err != nil {
		b = make([]byte, 16)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (j *job) makeBoot(ctx context.Context) error {
	kernels, err := filepath.Glob(filepath.Join(j.root, "boot/vmlinuz-*"))
	if err != nil {
		return err
	}
	if len(kernels) == 0 {
		return fmt.Errorf("no kernel in /boot: add a linux-image package")
	}
	slices.Sort(kernels)
	kernel := kernels[len(kernels)-1]
	if err := copyFile(kernel, filepath.Join(j.out, kernelFile)); err != nil {
		return err
	}
	version := filepath.Base(kernel)[len("vmlinuz-"):]
	return writeInitrd(ctx, filepath.Join(j.out, initrdFile), j.root, version, j.r.Kernel.Modules)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("copy %s: %w (%v)", from, err, out.Close())
	}
	return out.Close()
}
