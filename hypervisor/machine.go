package hypervisor

import (
	"fmt"
	"time"

	"libvirt.org/go/libvirtxml"
)

// TCGModel is the CPU model for software emulation. A whole Debian 12 boots in
// the same CPU time, within the noise, on qemu64, Nehalem, Westmere and max; of
// these Westmere is the plainest that has what newer distributions require
// (x86-64-v2) and AES, and it does not change with QEMU's version as max does.
const TCGModel = "Westmere"

// spareSlots is how many disks can at least be attached to a new VM while it runs.
const spareSlots = 4

// MachineSpec describes a VM that is made from a new image.
type MachineSpec struct {
	Name      string
	UUID      string
	Run       string
	Expires   time.Time // zero: never
	MemoryMiB uint
	VCPUs     uint
	Type      string // [TypeKVM] or [TypeQEMU]
	CPUModel  string // under TCG; default [TCGModel]
	// NoCX16 hides cmpxchg16b from an emulated guest; see [Conn.BrokenCX16].
	NoCX16 bool
	Disks  []MachineDisk
	NICs   []MachineNIC
	// Kernel, Initrd and Cmdline boot a kernel directly; without Kernel the first disk boots.
	Kernel, Initrd, Cmdline string
	ConsoleLog              string // file that the serial console writes to
}

// MachineDisk is one disk of a new VM.
type MachineDisk struct {
	CloneDisk
	Target   string // vda, …; on the virtio bus
	Serial   string
	ReadOnly bool
}

// MachineNIC is one virtio NIC of a new VM.
type MachineNIC struct {
	MAC     string
	Network string // libvirt network, or
	Bridge  string // a bridge on the host
}

func (s MachineSpec) validate() error {
	switch {
	case s.Name == "" || s.UUID == "" || s.Run == "":
		return fmt.Errorf("new machine %q: name, UUID and run are all needed", s.Name)
	case s.MemoryMiB == 0 || s.VCPUs == 0:
		return fmt.Errorf("new machine %q: memory and CPUs must not be 0", s.Name)
	case s.Type != TypeKVM && s.Type != TypeQEMU:
		return fmt.Errorf("new machine %q: unknown virtualization type %q", s.Name, s.Type)
	case s.Kernel == "" && len(s.Disks) == 0:
		return fmt.Errorf("new machine %q: neither a kernel nor a disk to boot from", s.Name)
	}
	for _, d := range s.Disks {
		if d.Format != "qcow2" && d.Format != "raw" {
			return fmt.Errorf("new machine %q: disk %s has format %q, not qcow2 or raw", s.Name, d.Target, d.Format)
		}
		if len(d.Serial) > maxSerial {
			return fmt.Errorf("new machine %q: disk serial %q is longer than %d bytes", s.Name, d.Serial, maxSerial)
		}
	}
	return nil
}

// NewMachineXML describes a VM made from a new image. It is pure.
func NewMachineXML(spec MachineSpec) (*libvirtxml.Domain, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	mark, err := encodeMark(Mark{Run: spec.Run, Expires: spec.Expires}, spec.UUID)
	if err != nil {
		return nil, err
	}
	dom := &libvirtxml.Domain{
		Type:       spec.Type,
		Name:       spec.Name,
		UUID:       spec.UUID,
		Metadata:   &libvirtxml.DomainMetadata{XML: mark},
		Memory:     &libvirtxml.DomainMemory{Value: spec.MemoryMiB, Unit: "MiB"},
		VCPU:       &libvirtxml.DomainVCPU{Value: spec.VCPUs},
		OS:         spec.boot(),
		CPU:        spec.cpu(),
		Features:   &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}},
		Clock:      &libvirtxml.DomainClock{Offset: "utc"},
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "destroy",
		Devices: spec.devices(),
	}
	return reparse(dom)
}

func (s MachineSpec) boot() *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"}}
	if s.Kernel != "" {
		os.Kernel, os.Initrd, os.Cmdline = s.Kernel, s.Initrd, s.Cmdline
		return os
	}
	os.BootDevices = []libvirtxml.DomainBootDevice{{Dev: "hd"}}
	return os
}

func (s MachineSpec) cpu() *libvirtxml.DomainCPU {
	if s.Type == TypeKVM {
		return &libvirtxml.DomainCPU{Mode: "host-passthrough"}
	}
	cpu := tcgCPU(s.CPUModel)
	if s.NoCX16 {
		cpu.Features = append(cpu.Features, libvirtxml.DomainCPUFeature{Policy: "disable", Name: "cx16"})
	}
	return cpu
}

func (s MachineSpec) devices() *libvirtxml.DomainDeviceList {
	dev := &libvirtxml.DomainDeviceList{
		Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
		Serials:     []libvirtxml.DomainSerial{{Source: ownEnd(CloneSpec{ConsoleLog: s.ConsoleLog}, true)}},
		Channels: []libvirtxml.DomainChannel{{
			Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
			Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: agentChannel}},
		}},
		RNGs: []libvirtxml.DomainRNG{{Model: "virtio",
			Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}}}},
		MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
	}
	// Each virtio device sits in a port of its own; two more are the channel's
	// controller and the random numbers.
	for i := range uint(len(s.Disks) + len(s.NICs) + 2 + spareSlots) {
		index := i + 1 // 0 is the root itself
		dev.Controllers = append(dev.Controllers, libvirtxml.DomainController{Type: "pci", Index: &index, Model: "pcie-root-port"})
	}
	for _, d := range s.Disks {
		dev.Disks = append(dev.Disks, d.xml())
	}
	for _, n := range s.NICs {
		dev.Interfaces = append(dev.Interfaces, n.xml())
	}
	return dev
}

func (d MachineDisk) xml() libvirtxml.DomainDisk {
	disk := libvirtxml.DomainDisk{Device: "disk", Serial: d.Serial, Target: &libvirtxml.DomainDiskTarget{Dev: d.Target, Bus: "virtio"}}
	replaceDisk(&disk, d.CloneDisk)
	if d.ReadOnly {
		disk.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	return disk
}

func (n MachineNIC) xml() libvirtxml.DomainInterface {
	return libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: n.MAC},
		Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
		Source: nicSource(n.Network, n.Bridge),
	}
}

func nicSource(network, bridge string) *libvirtxml.DomainInterfaceSource {
	if network != "" {
		return &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: network}}
	}
	return &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: bridge}}
}
