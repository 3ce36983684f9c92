package hypervisor

import (
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// refusals collects every reason against cloning dom; empty means it can be cloned.
func refusals(dom *libvirtxml.Domain, spec CloneSpec) []Reason {
	var r reasons
	r.machine(dom, spec)
	for i := range dom.Devices.Disks {
		r.disk(&dom.Devices.Disks[i], spec)
	}
	for i := range dom.Devices.Interfaces {
		r.nic(&dom.Devices.Interfaces[i], spec)
	}
	r.hostDevices(dom.Devices)
	r.sharedState(dom.Devices)
	r.ports(dom.Devices)
	r.commandLine(dom)
	return r
}

type reasons []Reason

func (r *reasons) add(device, why, do string) {
	*r = append(*r, Reason{Device: device, Why: why, WhatToDo: do})
}

const detach = "detach it, or build this VM from a new image"

func (r *reasons) machine(dom *libvirtxml.Domain, spec CloneSpec) {
	if dom.Type != TypeKVM && dom.Type != TypeQEMU {
		r.add("domain", fmt.Sprintf("its type %q is not QEMU", dom.Type), "only QEMU and KVM domains can be cloned")
	}
	if dom.LaunchSecurity != nil {
		r.add("launchSecurity", "the memory of a confidential guest is bound to its host and keys", "build this VM from a new image")
	}
	if mb := dom.MemoryBacking; mb != nil && mb.MemorySource != nil && mb.MemorySource.Type == "file" {
		r.add("memoryBacking", "the guest's memory lives in files that the clone would share", "use anonymous or memfd memory")
	}
	if dom.OS != nil && dom.OS.NVRam != nil && spec.NVRAM == "" {
		r.add("nvram", "no copy of its UEFI variables was made", "give the path of a copied NVRAM file")
	}
}

func (r *reasons) disk(x *libvirtxml.DomainDisk, spec CloneSpec) {
	d := diskOf(x)
	name := fmt.Sprintf("%s %s", d.Device, d.Target)
	switch {
	case d.Device == "lun":
		r.add(name, "it passes SCSI commands through to a device of the host", "use device='disk'")
	case x.Shareable != nil:
		r.add(name, "it is shared with other domains", "unshare it; cluster file systems cannot be cloned one VM at a time")
	case x.Transient != nil:
		r.add(name, "it is transient, so its data vanishes with the guest", "make it persistent")
	case encrypted(x):
		r.add(name, "it is encrypted by QEMU, and the clone has not its key", "use encryption inside the guest")
	case x.Mirror != nil:
		r.add(name, "a block job runs on it", "wait for the job to end")
	case !hasMedium(x):
		if d.Device == "disk" {
			r.add(name, "it has no source", "")
		}
	case d.Path == "":
		r.add(name, "its image is "+sourceKind(x.Source)+", not a file", "move it to an image file (virsh blockcopy)")
	case strings.HasPrefix(d.Path, "/dev/"):
		r.add(name, fmt.Sprintf("%s is a device of the host", d.Path), "move it to an image file (virsh blockcopy)")
	default:
		r.fileDisk(x, d, name, spec)
	}
}

// fileDisk judges a disk whose image is a file.
func (r *reasons) fileDisk(x *libvirtxml.DomainDisk, d Disk, name string, spec CloneSpec) {
	if d.Format != "qcow2" && d.Format != "raw" {
		r.add(name, fmt.Sprintf("its format is %q", d.Format), "convert it to qcow2 or raw")
	}
	limit := spec.MaxChain
	if limit <= 0 {
		limit = defaultMaxChain
	}
	if depth := chainDepth(x); depth > limit {
		r.add(name, fmt.Sprintf("its chain has %d images, more than %d", depth, limit), "shorten it (virsh blockpull or blockcommit)")
	}
	if _, replaced := spec.Disks[d.Target]; !replaced && !d.ReadOnly {
		r.add(name, "there is no replacement for it, and two VMs must not write to one image", "make a view of it, or make it read-only")
	}
	if x.Source.DataStore != nil {
		r.add(name, "its data is in a separate data file", "convert it to plain qcow2")
	}
}

func encrypted(x *libvirtxml.DomainDisk) bool {
	if x.Encryption != nil || x.Source != nil && x.Source.Encryption != nil {
		return true
	}
	for b := x.BackingStore; b != nil; b = b.BackingStore {
		if b.Source != nil && b.Source.Encryption != nil {
			return true
		}
	}
	return false
}

// chainDepth counts the images of a disk.
func chainDepth(x *libvirtxml.DomainDisk) int {
	n := 1
	// <backingStore/> without a format is the end; libvirtxml gives it an empty source.
	for b := x.BackingStore; b != nil && b.Format != nil; b = b.BackingStore {
		n++
	}
	return n
}

func sourceKind(s *libvirtxml.DomainDiskSource) string {
	switch {
	case s.Block != nil:
		return "a block device of the host"
	case s.Network != nil:
		return "on the network (" + s.Network.Protocol + ")"
	case s.Volume != nil:
		return "a volume of a storage pool"
	case s.NVME != nil:
		return "an NVMe device of the host"
	case s.VHostUser != nil, s.VHostVDPA != nil:
		return "served by another process (vhost)"
	case s.Dir != nil:
		return "a directory"
	default:
		return "of an unknown kind"
	}
}

func (r *reasons) nic(x *libvirtxml.DomainInterface, spec CloneSpec) {
	name := "interface " + macOf(x)
	if macOf(x) == "" {
		r.add("interface", "it has no MAC address to keep", "give it one")
	}
	if kind, ok := movable(x.Source); !ok {
		r.add(name, fmt.Sprintf("a NIC of type %q cannot move to the universe's bridge", kind), "use a bridge or a libvirt network")
	}
	if x.Teaming != nil {
		r.add(name, "it is teamed with a host device", "remove the teaming")
	}
	if spec.networkOf(macOf(x)) == "" {
		r.add(name, "no universe network was given for it", "")
	}
}

// movable tells whether a NIC is on a switch, which the universe can stand in for.
func movable(s *libvirtxml.DomainInterfaceSource) (kind string, ok bool) {
	switch {
	case s == nil:
		return "unknown", false
	case s.Network != nil, s.Bridge != nil, s.Ethernet != nil:
		return "", true
	case s.User != nil:
		return "user", false
	case s.VHostUser != nil:
		return "vhostuser", false
	case s.Direct != nil:
		return "direct", false
	case s.Hostdev != nil:
		return "hostdev", false
	case s.VDPA != nil:
		return "vdpa", false
	case s.Server != nil, s.Client != nil, s.MCast != nil, s.UDP != nil:
		return "socket", false
	case s.Internal != nil:
		return "internal", false
	case s.Null != nil:
		return "null", false
	default:
		return "unknown", false
	}
}
