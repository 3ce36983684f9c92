package hypervisor

import (
	"libvirt.org/go/libvirtxml"
)

func rewriteDisks(dom *libvirtxml.Domain, spec CloneSpec) {
	for i := range dom.Devices.Disks {
		disk := &dom.Devices.Disks[i]
		disk.Mirror = nil
		if disk.Target != nil {
			disk.Target.Tray = ""
		}
		if replacement, ok := spec.Disks[diskOf(disk).Target]; ok {
			replaceDisk(disk, replacement)
			continue
		}
		// A read-only medium is shared: the image itself, without runtime indexes.
		if path := filePath(disk.Source); path != "" {
			disk.Source = fileSource(path)
		}
		disk.BackingStore = nil
	}
	for _, extra := range spec.ExtraDisks {
		dom.Devices.Disks = append(dom.Devices.Disks, extraDisk(dom, extra))
	}
}

func replaceDisk(disk *libvirtxml.DomainDisk, with CloneDisk) {
	if disk.Driver == nil {
		disk.Driver = &libvirtxml.DomainDiskDriver{Name: "qemu"}
	}
	disk.Driver.Type = with.Format
	disk.Source = fileSource(with.Path)
	disk.BackingStore = with.Backing.store()
}

func fileSource(path string) *libvirtxml.DomainDiskSource {
	return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}}
}

// store writes the whole chain out, so that libvirt and QEMU never look into
// an image to find it. The empty element at the end says that it ends there.
func (b *Backing) store() *libvirtxml.DomainDiskBackingStore {
	end := &libvirtxml.DomainDiskBackingStore{}
	switch {
	case b == nil:
		return end
	case b.Socket == "":
		return &libvirtxml.DomainDiskBackingStore{Format: &libvirtxml.DomainDiskFormat{Type: b.Format}, Source: fileSource(b.Path), BackingStore: end}
	}
	view := &libvirtxml.DomainDiskSourceNetwork{Protocol: "nbd", Name: b.Export,
		Hosts: []libvirtxml.DomainDiskSourceHost{{Transport: "unix", Socket: b.Socket}}}
	return &libvirtxml.DomainDiskBackingStore{
		Format:       &libvirtxml.DomainDiskFormat{Type: "raw"},
		Source:       &libvirtxml.DomainDiskSource{Network: view},
		BackingStore: end,
	}
}

func extraDisk(dom *libvirtxml.Domain, extra ExtraDisk) libvirtxml.DomainDisk {
	disk := libvirtxml.DomainDisk{
		Device: "disk",
		Target: &libvirtxml.DomainDiskTarget{Dev: freeTarget(dom), Bus: "virtio"},
		Serial: extra.Serial,
	}
	replaceDisk(&disk, extra.CloneDisk)
	if extra.ReadOnly {
		disk.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	return disk
}

// freeTarget finds the first vdX that no disk has.
func freeTarget(dom *libvirtxml.Domain) string {
	used := map[string]bool{}
	for i := range dom.Devices.Disks {
		used[diskOf(&dom.Devices.Disks[i]).Target] = true
	}
	for n := 0; ; n++ {
		if name := targetName(n); !used[name] {
			return name
		}
	}
}

// targetName counts vda … vdz, vdaa, vdab … as Linux does.
func targetName(n int) string {
	letters := ""
	for n++; n > 0; n = (n - 1) / 26 {
		letters = string(rune('a'+(n-1)%26)) + letters
	}
	return "vd" + letters
}
