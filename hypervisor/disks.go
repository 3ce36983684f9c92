package hypervisor

import (
	"context"
	"fmt"

	"libvirt.org/go/libvirtxml"
)

// Disk is one disk, CD-ROM or floppy of a domain.
type Disk struct {
	Target   string // name on the guest's bus: vda
	Bus      string // virtio, scsi, sata, …
	Device   string // disk, cdrom, floppy, lun
	Serial   string
	Path     string // image file on the host; empty if no medium or not a file
	Format   string // qcow2 or raw, as the XML says; never guessed
	Capacity uint64 // bytes the guest sees; 0 if no medium
	ReadOnly bool
}

// Disks lists the domain's disks in the order of its XML.
func (d *Domain) Disks(ctx context.Context) ([]Disk, error) {
	desc, err := d.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if desc.Devices == nil {
		return nil, nil
	}
	disks := make([]Disk, 0, len(desc.Devices.Disks))
	for i := range desc.Devices.Disks {
		disk := diskOf(&desc.Devices.Disks[i])
		if hasMedium(&desc.Devices.Disks[i]) {
			info, err := d.raw.GetBlockInfo(disk.Target, 0)
			if err != nil {
				return nil, fmt.Errorf("ask for the size of disk %s of domain %q: %w", disk.Target, d.name, err)
			}
			disk.Capacity = info.Capacity
		}
		disks = append(disks, disk)
	}
	return disks, nil
}

func diskOf(x *libvirtxml.DomainDisk) Disk {
	d := Disk{Device: x.Device, Serial: x.Serial, ReadOnly: x.ReadOnly != nil, Path: filePath(x.Source)}
	if d.Device == "" {
		d.Device = "disk"
	}
	if x.Target != nil {
		d.Target, d.Bus = x.Target.Dev, x.Target.Bus
	}
	if x.Driver != nil {
		d.Format = x.Driver.Type
	}
	return d
}

func filePath(src *libvirtxml.DomainDiskSource) string {
	if src == nil || src.File == nil {
		return ""
	}
	return src.File.File
}

func hasMedium(x *libvirtxml.DomainDisk) bool {
	s := x.Source
	if s == nil {
		return false
	}
	return s.File != nil && s.File.File != "" || s.Block != nil || s.Network != nil || s.Volume != nil || s.NVME != nil || s.VHostUser != nil
}

// NIC is one network interface of a domain.
type NIC struct {
	MAC     string // lower case
	Model   string // virtio, e1000, …
	Network string // libvirt network, if it is on one
	Bridge  string // bridge on the host, if known
	Device  string // tap device on the host while the guest runs
}

// NICs lists the domain's interfaces in the order of its XML.
func (d *Domain) NICs(ctx context.Context) ([]NIC, error) {
	desc, err := d.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if desc.Devices == nil {
		return nil, nil
	}
	nics := make([]NIC, 0, len(desc.Devices.Interfaces))
	for i := range desc.Devices.Interfaces {
		nics = append(nics, nicOf(&desc.Devices.Interfaces[i]))
	}
	return nics, nil
}

func nicOf(x *libvirtxml.DomainInterface) NIC {
	n := NIC{MAC: macOf(x)}
	if x.Model != nil {
		n.Model = x.Model.Type
	}
	if x.Target != nil {
		n.Device = x.Target.Dev
	}
	if x.Source != nil && x.Source.Network != nil {
		n.Network, n.Bridge = x.Source.Network.Network, x.Source.Network.Bridge
	}
	if x.Source != nil && x.Source.Bridge != nil {
		n.Bridge = x.Source.Bridge.Bridge
	}
	return n
}
