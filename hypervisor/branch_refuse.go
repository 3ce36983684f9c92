package hypervisor

import (
	"fmt"

	"libvirt.org/go/libvirtxml"
)

// notRevertible lists what of a running domain cannot be kept in a snapshot.
func notRevertible(live, config *libvirtxml.Domain) (reasons []Reason) {
	for i := range live.Devices.Disks {
		disk := &live.Devices.Disks[i]
		if why, what := diskNotRevertible(disk); why != "" {
			reasons = append(reasons, Reason{diskName(disk), why, what})
		} else if !configured(config, disk) {
			reasons = append(reasons, Reason{diskName(disk), "it was attached while the guest runs and will go again", "detach it first"})
		}
	}
	if os := live.OS; os != nil && os.NVRam != nil {
		reasons = append(reasons, Reason{"UEFI variables", "libvirt keeps no state of them", "use a machine with a BIOS"})
	}
	for i := range live.Devices.Hostdevs {
		reasons = append(reasons, Reason{fmt.Sprintf("host device %d", i), "its state cannot be kept", "remove it"})
	}
	for i := range live.Devices.Filesystems {
		reasons = append(reasons, Reason{fmt.Sprintf("shared directory %d", i), "its state cannot be kept", "remove it"})
	}
	for i := range live.Devices.TPMs {
		reasons = append(reasons, Reason{fmt.Sprintf("TPM %d", i), "its state is not kept with the guest's", "remove it"})
	}
	return reasons
}

func diskNotRevertible(x *libvirtxml.DomainDisk) (why, what string) {
	disk := diskOf(x)
	switch {
	case !hasMedium(x) || disk.ReadOnly:
		return "", ""
	case x.Source.File == nil:
		return "it is no image file", ""
	case disk.Format != "qcow2":
		return fmt.Sprintf("a writable %s image cannot hold a snapshot", disk.Format), "convert it to qcow2"
	case x.Mirror != nil:
		return "a block job runs on it", "wait for its end"
	case readsFromView(x):
		// When it is pulled later, only the state of then gets the data; an
		// earlier one would read zeros.
		return "it still reads from a frozen view", "wait until it is pulled"
	}
	return "", ""
}

func readsFromView(x *libvirtxml.DomainDisk) bool {
	for b := x.BackingStore; b != nil; b = b.BackingStore {
		if b.Source != nil && b.Source.Network != nil {
			return true
		}
	}
	return false
}

// configured tells whether a disk of the running guest is in the configuration,
// too, and so no hot-plugged one.
func configured(config *libvirtxml.Domain, x *libvirtxml.DomainDisk) bool {
	if config.Devices == nil {
		return false
	}
	for i := range config.Devices.Disks {
		if diskOf(&config.Devices.Disks[i]).Target == diskOf(x).Target && config.Devices.Disks[i].Serial == x.Serial {
			return true
		}
	}
	return false
}
