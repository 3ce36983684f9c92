package guestagent

import (
	"context"
	"fmt"
	"time"

	"imago.dev/imago/guestagent/wire"
)

// defaultDiskWait is long enough for a guest under slow emulation.
const defaultDiskWait = 30 * time.Second

func (v ViewDisk) disk() (*wire.Disk, error) {
	if v.Serial == "" || v.Partition < 0 || v.Wait < 0 {
		return nil, fmt.Errorf("the view's disk (serial number %q, partition %d, wait %s) makes no sense", v.Serial, v.Partition, v.Wait)
	}
	if v.Wait == 0 {
		v.Wait = defaultDiskWait
	}
	return &wire.Disk{Serial: v.Serial, Partition: v.Partition, FileSystem: v.FileSystem, WaitMS: max(v.Wait.Milliseconds(), 1)}, nil
}

// MountView waits until the guest sees the disk, and mounts it read-only,
// nosuid, nodev, noexec and noatime on the directory where, which is made if it
// is missing. The journal of a view that was taken without freezing is replayed
// on the disk, which must therefore be a writable overlay. What an earlier call
// left mounted there is unmounted first. CatchUpTree can mount by itself.
func (s *Session) MountView(ctx context.Context, view ViewDisk, where string) error {
	disk, err := view.disk()
	if err == nil {
		err = checkRemotePath(where)
	}
	if err == nil {
		err = s.simple(ctx, wire.Request{Op: wire.OpMount, Mount: &wire.Mount{Disk: disk, Where: []byte(where)}})
	}
	if err != nil {
		return fmt.Errorf("mount the view %q on %q in guest %q: %w", view.Serial, where, s.target.Name, err)
	}
	return nil
}

// UnmountView unmounts what MountView mounted and removes the directory; one
// that is not there is fine. When it returns the disk may be detached.
func (s *Session) UnmountView(ctx context.Context, where string) error {
	err := checkRemotePath(where)
	if err == nil {
		err = s.simple(ctx, wire.Request{Op: wire.OpUnmount, Mount: &wire.Mount{Where: []byte(where)}})
	}
	if err != nil {
		return fmt.Errorf("unmount the view on %q in guest %q: %w", where, s.target.Name, err)
	}
	return nil
}

// simple is a call that is answered by nothing but its end.
func (s *Session) simple(ctx context.Context, req wire.Request) error {
	release, err := reserve(ctx, 1, s)
	if err != nil {
		return err
	}
	defer release()
	c, err := s.call(ctx, req)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err = c.answer(ctx, wire.KindResult); err != nil {
		c.breakOff(ctx, err)
	}
	return err
}
