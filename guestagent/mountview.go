package guestagent

import (
	"context"
	"errors"
)

// MountView waits until the guest sees the disk, and mounts it read-only,
// nosuid, nodev, noexec and noatime on the directory where, which is made if it
// is missing. The journal of a view that was taken without freezing is replayed
// on the disk, which must therefore be a writable overlay. What an earlier call
// left mounted there is unmounted first. CatchUpTree can mount by itself.
func (s *Session) MountView(ctx context.Context, view ViewDisk, where string) error {
	return errors.ErrUnsupported
}

// UnmountView unmounts what MountView mounted and removes the directory; one
// that is not there is fine. When it returns the disk may be detached.
func (s *Session) UnmountView(ctx context.Context, where string) error {
	return errors.ErrUnsupported
}
