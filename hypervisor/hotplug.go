package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

var (
	// ErrNoSlot says that the machine has no free slot for one more device.
	ErrNoSlot = errors.New("no free PCI slot")
	// ErrSerialTaken says that another disk of the domain has that serial.
	ErrSerialTaken = errors.New("serial number is taken")
	// ErrDiskInUse says that the guest does not let go of a disk.
	ErrDiskInUse = errors.New("the guest does not let go of the disk")
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

func (s DiskSpec) validate() error {
	switch {
	case s.Path == "":
		return errors.New("no image file given")
	case s.Format != "qcow2" && s.Format != "raw":
		return fmt.Errorf("the format %q is not qcow2 or raw", s.Format)
	case s.Serial == "" || len(s.Serial) > maxSerial:
		return fmt.Errorf("the serial %q is empty or longer than %d bytes", s.Serial, maxSerial)
	}
	return nil
}

// AttachDisk plugs a virtio disk into a running domain of ours, until it is
// detached or the domain ends, and returns its target (vdc). A disk of that
// serial and image which is there already is fine.
func (d *Domain) AttachDisk(ctx context.Context, spec DiskSpec) (target string, err error) {
	target, err = d.attachDisk(ctx, spec)
	if err != nil {
		return "", fmt.Errorf("attach disk %q to domain %q: %w", spec.Serial, d.name, err)
	}
	return target, nil
}

func (d *Domain) attachDisk(ctx context.Context, spec DiskSpec) (string, error) {
	if err := spec.validate(); err != nil {
		return "", err
	}
	if err := d.mustBeOurs(ctx); err != nil {
		return "", err
	}
	desc, err := d.describeRunning(ctx)
	if err != nil {
		return "", err
	}
	if old := diskBySerial(desc, spec.Serial); old != nil {
		if filePath(old.Source) != spec.Path {
			return "", fmt.Errorf("disk %s of image %q has it: %w", diskOf(old).Target, filePath(old.Source), ErrSerialTaken)
		}
		return diskOf(old).Target, nil
	}
	disk := extraDisk(desc, ExtraDisk{CloneDisk: CloneDisk{Path: spec.Path, Format: spec.Format, Backing: spec.Backing}, Serial: spec.Serial, ReadOnly: spec.ReadOnly})
	text, err := disk.Marshal()
	if err != nil {
		return "", fmt.Errorf("write its XML: %w", err)
	}
	if err := d.raw.AttachDeviceFlags(text, libvirt.DOMAIN_DEVICE_MODIFY_LIVE); err != nil {
		if strings.Contains(err.Error(), "PCI slots") { // libvirt has no code of its own for it
			return "", fmt.Errorf("%w: %w", ErrNoSlot, err)
		}
		return "", err
	}
	return disk.Target.Dev, nil
}

// describeRunning reads the XML of a domain that must run.
func (d *Domain) describeRunning(ctx context.Context) (*libvirtxml.Domain, error) {
	desc, err := d.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if desc.ID == nil {
		return nil, ErrNotRunning
	}
	if desc.Devices == nil {
		desc.Devices = &libvirtxml.DomainDeviceList{}
	}
	return desc, nil
}

func diskBySerial(desc *libvirtxml.Domain, serial string) *libvirtxml.DomainDisk {
	i := slices.IndexFunc(desc.Devices.Disks, func(x libvirtxml.DomainDisk) bool { return x.Serial == serial })
	if i < 0 {
		return nil
	}
	return &desc.Devices.Disks[i]
}

const (
	// detachPatience is how long a guest may take to let go of a disk.
	detachPatience = time.Minute
	// detachAgain is when a guest that did not answer is asked again: one that
	// boots does not hear the first request.
	detachAgain = 5 * time.Second
)

// DetachDisk unplugs the disk with that serial from a running domain of ours
// and returns once the guest has let go of it and QEMU has closed its image. A
// disk that is not there is fine, as is a domain that does not run. A guest
// that keeps the disk for a minute is [ErrDiskInUse].
func (d *Domain) DetachDisk(ctx context.Context, serial string) error {
	if err := d.detachDisk(ctx, serial); err != nil {
		return fmt.Errorf("detach disk %q from domain %q: %w", serial, d.name, err)
	}
	return nil
}

func (d *Domain) detachDisk(ctx context.Context, serial string) error {
	if err := d.mustBeOurs(ctx); err != nil {
		return ignoreGone(err)
	}
	alias, err := d.aliasOf(ctx, serial)
	if err != nil || alias == "" {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, detachPatience, ErrDiskInUse)
	defer cancel()
	events, stop, err := d.watchRemoval(alias)
	if err != nil {
		return err
	}
	defer stop()
	again := time.NewTicker(detachAgain)
	defer again.Stop()
	for {
		if err := d.raw.DetachDeviceAlias(alias, libvirt.DOMAIN_DEVICE_MODIFY_LIVE); isCode(err, libvirt.ERR_DEVICE_MISSING, libvirt.ERR_NO_DOMAIN) {
			return nil
		} else if err != nil && !strings.Contains(err.Error(), "in the process of unplug") {
			return err
		}
		select {
		case removed := <-events:
			if !removed {
				return fmt.Errorf("it refused the request: %w", ErrDiskInUse)
			}
			return nil
		case <-again.C:
			// The event may have been missed, as when libvirtd was restarted.
			if now, err := d.aliasOf(ctx, serial); err != nil || now != alias {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// aliasOf returns nothing if there is no such disk.
func (d *Domain) aliasOf(ctx context.Context, serial string) (string, error) {
	desc, err := d.describeRunning(ctx)
	if errors.Is(err, ErrNotRunning) {
		return "", nil
	}
	if err != nil {
		return "", ignoreGone(err)
	}
	disk := diskBySerial(desc, serial)
	if disk == nil {
		return "", nil
	}
	if disk.Alias == nil || disk.Alias.Name == "" {
		return "", errors.New("libvirt does not name it")
	}
	return disk.Alias.Name, nil
}

// watchRemoval delivers whether the device with that alias is gone, or the
// guest refused to give it up.
func (d *Domain) watchRemoval(alias string) (events <-chan bool, stop func(), err error) {
	got := make(chan bool, 8)
	tell := func(name string, removed bool) {
		if name != alias {
			return
		}
		select {
		case got <- removed:
		default:
		}
	}
	raw := d.conn.raw
	removed, err := raw.DomainEventDeviceRemovedRegister(d.raw, func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventDeviceRemoved) {
		tell(e.DevAlias, true)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listen to what the guest answers: %w", err)
	}
	failed, err := raw.DomainEventDeviceRemovalFailedRegister(d.raw, func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventDeviceRemovalFailed) {
		tell(e.DevAlias, false)
	})
	if err != nil {
		_ = raw.DomainEventDeregister(removed)
		return nil, nil, fmt.Errorf("listen to what the guest answers: %w", err)
	}
	return got, func() {
		_ = raw.DomainEventDeregister(removed)
		_ = raw.DomainEventDeregister(failed)
	}, nil
}
