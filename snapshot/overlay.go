package snapshot

import (
	"context"
	"fmt"
	"os"
	"strconv"
)

// CreateOverlay makes an empty qcow2 image at path on top of a view. Nothing is
// opened or probed but the new file, which must not exist.
func CreateOverlay(ctx context.Context, path string, view View) error {
	return createOverlay(ctx, path, view.URI(), "raw", view.Capacity)
}

// CreateOverlayOnFile makes an empty qcow2 image at path on top of an image
// file of the given format (qcow2 or raw) and virtual size in bytes.
func CreateOverlayOnFile(ctx context.Context, path, backing, format string, capacity uint64) error {
	if format != "qcow2" && format != "raw" {
		return fmt.Errorf("create overlay %s: the backing format is %q, not qcow2 or raw", path, format)
	}
	return createOverlay(ctx, path, backing, format, capacity)
}

func createOverlay(ctx context.Context, path, backing, format string, capacity uint64) error {
	// qemu-img overwrites; a leftover or a link must not be followed.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create overlay: %w", err)
	}
	_ = f.Close()
	err = qemuImg(ctx, "create", "-q", "-f", "qcow2", "-u", "-F", format, "-b", backing, "--", path, strconv.FormatUint(capacity, 10))
	if err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("create overlay %s: %w", path, err)
	}
	return nil
}
