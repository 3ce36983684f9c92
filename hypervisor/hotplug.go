package hypervisor

import (
	"context"
	"errors"
)

// DiskSpec describes a disk that is attached to a running guest.
type DiskSpec struct {
	Path    string // image file
	Format  string // qcow2 or raw
	Backing *Backing
	// Serial is how the guest finds it, /dev/disk/by-id/virtio-<serial>, and how
	// DetachDisk finds it; at most 20 bytes.
	Serial   string
	ReadOnly bool
}

// AttachDisk plugs a virtio disk into a running domain of ours, until it is
// detached or the domain ends, and returns its target (vdc). A disk of that
// serial and image which is there already is fine.
func (d *Domain) AttachDisk(ctx context.Context, spec DiskSpec) (target string, err error) {
	return "", errors.ErrUnsupported
}

// DetachDisk unplugs the disk with that serial from a running domain of ours
// and returns once the guest has let go of it and QEMU has closed its image. A
// disk that is not there is fine.
func (d *Domain) DetachDisk(ctx context.Context, serial string) error {
	return errors.ErrUnsupported
}
