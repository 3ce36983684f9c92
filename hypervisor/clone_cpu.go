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
	model := spec.CPUModel
	if model == "" {
		model = TCGModel
	}
	emulatedCPU(dom, model)
	dropKVMFeatures(dom)
}

// emulatedCPU replaces a host CPU, which TCG cannot give, by a named model;
// sockets, cores, threads and NUMA cells stay.
func emulatedCPU(dom *libvirtxml.Domain, model string) {
	cpu := &libvirtxml.DomainCPU{Mode: "custom", Match: "exact", Check: "none",
		Model: &libvirtxml.DomainCPUModel{Value: model, Fallback: "allow"}}
	if dom.CPU != nil {
		cpu.Topology, cpu.Numa = dom.CPU.Topology, dom.CPU.Numa
	}
	dom.CPU = cpu
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
