package viewmount

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// headSize is how much of a disk is looked at: btrfs has its name at 64 KiB.
const headSize = 68 << 10

// signatures of what may lie on a disk. Where mount is set it can be mounted.
var signatures = []struct {
	at    int
	text  string
	what  string
	mount string
}{
	{0x438, "\x53\xef", "ext4", "ext4"},
	{0, "XFSB", "xfs", "xfs"},
	{0x10040, "_BHRfS_M", "btrfs", "btrfs"},
	{512, "LABELONE", "a physical volume of LVM", ""},
	{0, "LABELONE", "a physical volume of LVM", ""},
	{0, "LUKS\xba\xbe", "an encrypted volume (LUKS)", ""},
	{4086, "SWAPSPACE2", "swap space", ""},
	{4096, "\xfc\x4e\x2b\xa9", "a member of a software RAID", ""},
	{0, "-FVE-FS-", "an encrypted volume (BitLocker)", ""},
	{3, "NTFS    ", "NTFS", ""},
	{54, "FAT1", "FAT", ""},
	{82, "FAT32", "FAT", ""},
	{0, "hsqs", "squashfs", ""},
	{512, "EFI PART", "a partition table", ""},
	{510, "\x55\xaa", "a partition table or boot sector", ""},
}

// ErrNotMountable is wrapped when a disk holds nothing that can be mounted.
var ErrNotMountable = errors.New("it cannot be mounted")

// detect names the file system that a disk begins with.
func detect(head []byte) (string, error) {
	for _, s := range signatures {
		if len(head) < s.at+len(s.text) || !bytes.Equal(head[s.at:s.at+len(s.text)], []byte(s.text)) {
			continue
		}
		if s.mount != "" {
			return s.mount, nil
		}
		return "", fmt.Errorf("it holds %s: %w", s.what, ErrNotMountable)
	}
	return "", fmt.Errorf("it holds no known file system: %w", ErrNotMountable)
}

// fileSystem reads what is on a device.
func fileSystem(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return detect(head[:n])
}

// mountData are the options of a file system beside the general ones.
func mountData(kind string) (string, error) {
	switch kind {
	case "ext4", "btrfs":
		return "", nil
	case "xfs":
		return "nouuid", nil // the guest may have the original's file system mounted
	}
	return "", fmt.Errorf("the file system %q is not one of ext4, xfs and btrfs", kind)
}
