package hypervisor

import (
	"context"
	"errors"
)

// Snapshot keeps the running domain's memory and disks under a name, inside its
// own qcow2 images; the guest stands still meanwhile. What cannot be kept is
// refused with a [*NotRevertibleError] before anything is done.
//
// Connections into the guest do not survive a later Revert: end them before
// Snapshot, and connect anew after Revert.
func (d *Domain) Snapshot(ctx context.Context, name string) error { return errors.ErrUnsupported }

// Revert puts memory and disks back to what they were at Snapshot; the guest
// runs on from there. All written since is lost, and its clock shows the time
// of the snapshot.
func (d *Domain) Revert(ctx context.Context, name string) error { return errors.ErrUnsupported }

// DeleteSnapshot gives the space back; one that is not there is fine.
func (d *Domain) DeleteSnapshot(ctx context.Context, name string) error { return errors.ErrUnsupported }

// HasSnapshot tells whether there is a snapshot of that name.
func (d *Domain) HasSnapshot(ctx context.Context, name string) (bool, error) {
	return false, errors.ErrUnsupported
}
