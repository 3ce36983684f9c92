package hypervisor

import (
	"slices"

	"libvirt.org/go/libvirtxml"
)

// rewriteType moves the clone to another virtualization type if asked. Only
// kvm → qemu needs work: what the KVM module provides must go.
func rewriteType(dom *libvirtxml.Domain, spec CloneSpec) {
	if spec.Type == "" || spec.Type == dom.Type {
		return
	}
	dom.Type = spec.Type
	if spec.Type != TypeQEMU {
		return
	}
	emulatedCPU(dom, spec.CPUModel)
	dropKVMFeatures(dom)
}

// emulatedCPU replaces a host CPU, which TCG cannot give, by a named model;
// sockets, cores, threads and NUMA cells stay.
func emulatedCPU(dom *libvirtxml.Domain, model string) {
	cpu := tcgCPU(model)
	if dom.CPU != nil {
		cpu.Topology, cpu.Numa = dom.CPU.Topology, dom.CPU.Numa
	}
	dom.CPU = cpu
}

// tcgCPU is a CPU for software emulation; an empty model means [TCGModel].
func tcgCPU(model string) *libvirtxml.DomainCPU {
	switch model {
	case "":
		model = TCGModel
	case "max":
		return &libvirtxml.DomainCPU{Mode: "maximum", Check: "none"} // libvirt's name for it
	}
	return &libvirtxml.DomainCPU{Mode: "custom", Match: "exact", Check: "none",
		Model: &libvirtxml.DomainCPUModel{Value: model, Fallback: "allow"}}
}

func dropKVMFeatures(dom *libvirtxml.Domain) {
	if f := dom.Features; f != nil {
		f.KVM, f.HyperV, f.PVSpinlock, f.PMU = nil, nil, nil, nil
	}
	if dom.Clock == nil {
		return
	}
	dom.Clock.Timer = slices.DeleteFunc(dom.Clock.Timer, func(t libvirtxml.DomainTimer) bool {
		return t.Name == "kvmclock" || t.Name == "hypervclock" || t.Name == "tsc"
	})
}
