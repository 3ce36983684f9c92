package upgrade

import (
	"context"
	"fmt"
	"os"

	"libvirt.org/go/libvirtxml"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/snapshot"
)

// defaultMemoryMiB and defaultVCPUs are for VMs from new images.
const (
	defaultMemoryMiB = 1024
	defaultVCPUs     = 1
)

// memoryMiB is what a VM of the universe gets.
func (e *Engine) memoryMiB(ctx context.Context, vm plan.VM, source *hypervisor.Domain) (uint, error) {
	switch {
	case vm.Memory > 0:
		return uint(vm.Memory >> 20), nil
	case source == nil:
		return defaultMemoryMiB, nil
	}
	doc, err := source.Describe(ctx)
	if err != nil {
		return 0, err
	}
	return memoryOf(doc), nil
}

// cloneXML rewrites a production domain for the universe. Without views it is
// a trial that finds what cannot be cloned.
func (e *Engine) cloneXML(ctx context.Context, src *hypervisor.Domain, vm plan.VM, set *snapshot.Set) (*libvirtxml.Domain, error) {
	doc, err := src.Describe(ctx)
	if err != nil {
		return nil, err
	}
	disks, err := src.Disks(ctx)
	if err != nil {
		return nil, err
	}
	spec := hypervisor.CloneSpec{
		Name: e.n.domain(vm.Name), UUID: e.n.uuid("domain/" + vm.Name), Run: e.runID(), HWUUID: e.conn.KnowsHWUUID(),
		Disks: map[string]hypervisor.CloneDisk{}, Network: e.n.network(), ConsoleLog: e.n.console(vm.Name), Type: e.kind,
	}
	if nvramOf(doc) != "" {
		spec.NVRAM = e.n.nvram(vm.Name)
	}
	for _, d := range writable(disks) {
		cd, err := e.cloneDisk(set, vm.Clone, d.Target, e.n.overlay(vm.Name, d.Target))
		if err != nil {
			return nil, err
		}
		spec.Disks[d.Target] = cd
	}
	for _, at := range vm.Attach {
		cd, err := e.cloneDisk(set, at.From, at.Disk, e.n.overlay(vm.Name, at.From+"-"+at.Disk))
		if err != nil {
			return nil, err
		}
		spec.ExtraDisks = append(spec.ExtraDisks, hypervisor.ExtraDisk{CloneDisk: cd, Serial: at.Serial})
	}
	clone, err := hypervisor.CloneXML(doc, spec)
	if err != nil {
		return nil, err
	}
	resize(clone, vm)
	return clone, nil
}

// resize gives a clone the memory and CPUs that the plan wants for it.
func resize(doc *libvirtxml.Domain, vm plan.VM) {
	if vm.Memory > 0 {
		doc.Memory = &libvirtxml.DomainMemory{Value: uint(vm.Memory >> 20), Unit: "MiB"}
		doc.CurrentMemory = nil
	}
	if vm.VCPUs > 0 {
		doc.VCPU = &libvirtxml.DomainVCPU{Value: uint(vm.VCPUs)}
	}
}

// memoryOf is a domain's memory; libvirt reports it in KiB.
func memoryOf(doc *libvirtxml.Domain) uint {
	if doc.Memory == nil {
		return 0
	}
	switch doc.Memory.Unit {
	case "MiB":
		return doc.Memory.Value
	case "GiB":
		return doc.Memory.Value << 10
	default:
		return doc.Memory.Value >> 10
	}
}

// nvramOf is the file with a domain's UEFI variables; empty if it has none.
func nvramOf(doc *libvirtxml.Domain) string {
	if doc.OS == nil || doc.OS.NVRam == nil {
		return ""
	}
	return doc.OS.NVRam.NVRam
}

// copyNVRAM gives a clone its own UEFI variables: the same boot entries and
// keys, and no way to change production's.
func (e *Engine) copyNVRAM(ctx context.Context, src *hypervisor.Domain, vm plan.VM) error {
	doc, err := src.Describe(ctx)
	if err != nil {
		return err
	}
	path := nvramOf(doc)
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("copy the UEFI variables of %s: %w", src.Name(), err)
	}
	if err := os.WriteFile(e.n.nvram(vm.Name), raw, 0o600); err != nil {
		return fmt.Errorf("copy the UEFI variables of %s: %w", src.Name(), err)
	}
	return nil
}

// runID marks a trial before the first run with a name that no run has.
func (e *Engine) runID() string {
	if !e.live() {
		return "check"
	}
	return e.n.run
}

// writable are the disks that a clone gets its own overlay for.
func writable(disks []hypervisor.Disk) []hypervisor.Disk {
	var out []hypervisor.Disk
	for _, d := range disks {
		if isWritable(d) {
			out = append(out, d)
		}
	}
	return out
}

func isWritable(d hypervisor.Disk) bool { return d.Device == "disk" && !d.ReadOnly }

// cloneDisk is an overlay over the frozen view of a production disk.
func (e *Engine) cloneDisk(set *snapshot.Set, domain, target, path string) (hypervisor.CloneDisk, error) {
	cd := hypervisor.CloneDisk{Path: path, Format: "qcow2"}
	if set == nil {
		return cd, nil
	}
	view, err := set.View(domain, target)
	if err != nil {
		return cd, err
	}
	cd.Backing = &hypervisor.Backing{Socket: view.Socket, Export: view.Export}
	return cd, nil
}

// imageXML describes a VM from a new image; its disk is an overlay, so that
// the image stays as it is.
func (e *Engine) imageXML(vm plan.VM) (*libvirtxml.Domain, error) {
	memory, vcpus := uint(defaultMemoryMiB), uint(defaultVCPUs)
	if vm.Memory > 0 {
		memory = uint(vm.Memory >> 20)
	}
	if vm.VCPUs > 0 {
		vcpus = uint(vm.VCPUs)
	}
	return hypervisor.NewMachineXML(hypervisor.MachineSpec{
		Name: e.n.domain(vm.Name), UUID: e.n.uuid("domain/" + vm.Name), Run: e.runID(),
		MemoryMiB: memory, VCPUs: vcpus, Type: e.kind, NoCX16: e.noCX16,
		Disks: []hypervisor.MachineDisk{{
			CloneDisk: hypervisor.CloneDisk{Path: e.n.overlay(vm.Name, "vda"), Format: "qcow2",
				Backing: &hypervisor.Backing{Path: vm.Image.Disk, Format: string(vm.Image.Format)}},
			Target: "vda", Serial: "root",
		}},
		NICs:   []hypervisor.MachineNIC{{MAC: e.mac(vm), Network: e.n.network()}},
		Kernel: vm.Image.Kernel, Initrd: vm.Image.Initrd, Cmdline: vm.Image.Cmdline,
		ConsoleLog: e.n.console(vm.Name),
	})
}

// mac is the plan's, or one in the range for locally administered addresses
// that the VM keeps for the run.
func (e *Engine) mac(vm plan.VM) string {
	if vm.MAC != "" {
		return string(vm.MAC)
	}
	h := e.n.uuid("mac/" + vm.Name)
	return fmt.Sprintf("52:54:00:%s:%s:%s", h[0:2], h[2:4], h[4:6])
}

// wanted says of which disks of production a view is taken.
type wanted func(domain string, disk hypervisor.Disk) bool

// sources are the production disks that views are taken of.
func (e *Engine) sources(ctx context.Context, domains map[string]*hypervisor.Domain, want wanted) ([]snapshot.Source, error) {
	var out []snapshot.Source
	for _, pvm := range e.plan.Production.VMs {
		dom := domains[pvm.Domain]
		if dom == nil {
			continue
		}
		disks, err := dom.Disks(ctx)
		if err != nil {
			return nil, err
		}
		var viewed []snapshot.SourceDisk
		for _, d := range disks {
			if want(pvm.Domain, d) {
				viewed = append(viewed, snapshot.SourceDisk{Target: d.Target, Capacity: d.Capacity})
			}
		}
		if len(viewed) > 0 {
			out = append(out, snapshot.Source{Domain: dom.Raw(), Name: pvm.Domain, Disks: viewed, NoFreeze: pvm.Freeze == plan.FreezeNever})
		}
	}
	return out, nil
}

// wantsClones wants the disks that clones are made of and those attached to them;
// with sourcesOnly only of clones that are just read from.
func (e *Engine) wantsClones(sourcesOnly bool) wanted {
	return func(domain string, disk hypervisor.Disk) bool {
		for _, vm := range e.plan.Universe.VMs {
			if sourcesOnly && vm.Role != plan.RoleSource {
				continue
			}
			if vm.Clone == domain && isWritable(disk) {
				return true
			}
			for _, at := range vm.Attach {
				if at.From == domain && at.Disk == disk.Target {
					return true
				}
			}
		}
		return false
	}
}

// wantsFiles wants the disks of file sets.
func (e *Engine) wantsFiles(domain string, disk hypervisor.Disk) bool {
	for _, f := range e.plan.Files {
		if f.From.Domain == domain && f.From.Disk == disk.Target {
			return true
		}
	}
	return false
}

// or wants what one of two wants.
func (w wanted) or(other wanted) wanted {
	return func(domain string, disk hypervisor.Disk) bool { return w(domain, disk) || other(domain, disk) }
}

// imageOrCloneXML describes a VM of the universe, without views: for a look.
func (e *Engine) imageOrCloneXML(ctx context.Context, vm plan.VM, domains map[string]*hypervisor.Domain) (*libvirtxml.Domain, error) {
	if vm.Image != nil {
		return e.imageXML(vm)
	}
	return e.cloneXML(ctx, domains[vm.Clone], vm, nil)
}
