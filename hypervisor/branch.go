package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

var (
	// ErrNoSnapshot says that the domain has no snapshot of that name.
	ErrNoSnapshot = errors.New("no such snapshot")
	// ErrSnapshotExists says that a snapshot of that name is there already.
	ErrSnapshotExists = errors.New("there is such a snapshot already")
)

// NotRevertibleError lists all reasons why a domain's state cannot be kept and
// taken back.
type NotRevertibleError struct {
	Domain  string
	Reasons []Reason
}

func (e *NotRevertibleError) Error() string {
	return fmt.Sprintf("domain %q cannot be put back to an earlier moment: %s", e.Domain, reasonsText(e.Reasons))
}

// plainName is what libvirt, QEMU's monitor and qcow2 all take for a name. Not
// only digits: QEMU would take those for a number.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,59}$`)

// Snapshot keeps the running domain's memory and disks under a name, inside its
// own qcow2 images; the guest stands still meanwhile, which takes about as long
// as writing the memory it uses. What cannot be kept is refused with a
// [*NotRevertibleError] before anything is done.
//
// Connections into the guest do not survive a later Revert: end them before
// Snapshot, and connect anew after Revert.
func (d *Domain) Snapshot(ctx context.Context, name string) error {
	if err := d.snapshot(ctx, name); err != nil {
		return fmt.Errorf("keep the state of domain %q as %q: %w", d.name, name, err)
	}
	return nil
}

func (d *Domain) snapshot(ctx context.Context, name string) error {
	if !plainName.MatchString(name) {
		return errors.New("that is no plain name")
	}
	if err := d.mustBeOurs(ctx); err != nil {
		return err
	}
	if has, err := d.HasSnapshot(ctx, name); err != nil {
		return err
	} else if has {
		return ErrSnapshotExists
	}
	live, err := d.describeRunning(ctx)
	if err != nil {
		return err
	}
	config, err := d.DescribeInactive(ctx)
	if err != nil {
		return err
	}
	if reasons := notRevertible(live, config); len(reasons) > 0 {
		return &NotRevertibleError{Domain: d.name, Reasons: reasons}
	}
	text, err := snapshotXML(name, live)
	if err != nil {
		return err
	}
	snap, err := d.raw.CreateSnapshotXML(text, libvirt.DOMAIN_SNAPSHOT_CREATE_VALIDATE)
	if err != nil {
		return err
	}
	return snap.Free()
}

func snapshotXML(name string, live *libvirtxml.Domain) (string, error) {
	snap := libvirtxml.DomainSnapshot{
		Name:   name,
		Memory: &libvirtxml.DomainSnapshotMemory{Snapshot: "internal"},
		Disks:  &libvirtxml.DomainSnapshotDisks{},
	}
	for i := range live.Devices.Disks {
		disk := diskOf(&live.Devices.Disks[i])
		mode := "internal"
		if disk.ReadOnly || !hasMedium(&live.Devices.Disks[i]) {
			mode = "no"
		}
		snap.Disks.Disks = append(snap.Disks.Disks, libvirtxml.DomainSnapshotDisk{Name: disk.Target, Snapshot: mode})
	}
	text, err := snap.Marshal()
	if err != nil {
		return "", fmt.Errorf("write the snapshot's XML: %w", err)
	}
	return text, nil
}

// Revert puts memory and disks back to what they were at Snapshot; the guest
// runs on from there. All written since is lost, and its clock shows the time
// of the snapshot. libvirt starts QEMU anew for it, so ports and taps have new
// ends on the host, with the same names where they were given. The disks
// attached must be those of the snapshot. The snapshot stays, so it can be
// reverted to again.
func (d *Domain) Revert(ctx context.Context, name string) error {
	if err := d.revert(ctx, name); err != nil {
		return fmt.Errorf("put domain %q back to %q: %w", d.name, name, err)
	}
	return nil
}

func (d *Domain) revert(ctx context.Context, name string) error {
	if err := d.mustBeOurs(ctx); err != nil {
		return err
	}
	snap, err := d.lookupSnapshot(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = snap.Free() }()
	live, err := d.describeRunning(ctx)
	if err != nil {
		return err
	}
	text, err := snap.GetXMLDesc(0)
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	var was libvirtxml.DomainSnapshot
	if err := was.Unmarshal(text); err != nil {
		return fmt.Errorf("parse the snapshot: %w", err)
	}
	if reasons := otherDisks(was.Domain, live); len(reasons) > 0 {
		return &NotRevertibleError{Domain: d.name, Reasons: reasons}
	}
	return snap.RevertToSnapshot(libvirt.DOMAIN_SNAPSHOT_REVERT_RUNNING)
}

// otherDisks lists disks that came or went since the snapshot: the guest's
// memory would not fit to them.
func otherDisks(was, live *libvirtxml.Domain) (reasons []Reason) {
	if was == nil || was.Devices == nil {
		return []Reason{{Device: "the snapshot", Why: "it does not say which devices it has"}}
	}
	key := func(x *libvirtxml.DomainDisk) string { return diskOf(x).Target + " " + x.Serial }
	before, now := map[string]bool{}, map[string]bool{}
	for i := range was.Devices.Disks {
		before[key(&was.Devices.Disks[i])] = true
	}
	for i := range live.Devices.Disks {
		disk := &live.Devices.Disks[i]
		now[key(disk)] = true
		if !before[key(disk)] {
			reasons = append(reasons, Reason{diskName(disk), "it was attached after the snapshot", "detach it first"})
		}
	}
	for i := range was.Devices.Disks {
		if disk := &was.Devices.Disks[i]; !now[key(disk)] {
			reasons = append(reasons, Reason{diskName(disk), "it was detached after the snapshot", "attach it again first"})
		}
	}
	return reasons
}

func diskName(x *libvirtxml.DomainDisk) string {
	name := "disk " + diskOf(x).Target
	if x.Serial != "" {
		name += " (serial " + x.Serial + ")"
	}
	return name
}

func (d *Domain) lookupSnapshot(ctx context.Context, name string) (*libvirt.DomainSnapshot, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	snap, err := d.raw.SnapshotLookupByName(name, 0)
	if isCode(err, libvirt.ERR_NO_DOMAIN_SNAPSHOT) {
		return nil, ErrNoSnapshot
	}
	if err != nil {
		return nil, fmt.Errorf("look up the snapshot: %w", err)
	}
	return snap, nil
}

// DeleteSnapshot gives the space back; one that is not there is fine.
func (d *Domain) DeleteSnapshot(ctx context.Context, name string) error {
	if err := d.mustBeOurs(ctx); err != nil {
		return fmt.Errorf("delete snapshot %q of domain %q: %w", name, d.name, err)
	}
	snap, err := d.lookupSnapshot(ctx, name)
	if errors.Is(err, ErrNoSnapshot) {
		return nil
	}
	if err == nil {
		err = snap.Delete(0)
		_ = snap.Free()
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %q of domain %q: %w", name, d.name, err)
	}
	return nil
}

// HasSnapshot tells whether there is a snapshot of that name.
func (d *Domain) HasSnapshot(ctx context.Context, name string) (bool, error) {
	snap, err := d.lookupSnapshot(ctx, name)
	if errors.Is(err, ErrNoSnapshot) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("domain %q: %w", d.name, err)
	}
	_ = snap.Free()
	return true, nil
}
