package hypervisor

import (
	"fmt"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// hostDevices refuses what is a piece of the host itself.
func (r *reasons) hostDevices(dev *libvirtxml.DomainDeviceList) {
	for i := range dev.Hostdevs {
		r.add(fmt.Sprintf("hostdev %d", i), "a device of the host can be in one guest only", detach)
	}
	for i := range dev.RedirDevs {
		r.add(fmt.Sprintf("redirdev %d", i), "a redirected USB device is in one guest only", detach)
	}
	for i := range dev.Smartcards {
		r.add(fmt.Sprintf("smartcard %d", i), "a smartcard is in one guest only", detach)
	}
	for i := range dev.Inputs {
		if dev.Inputs[i].Type == "passthrough" || dev.Inputs[i].Type == "evdev" {
			r.add(fmt.Sprintf("input %d", i), "it reads an input device of the host", detach)
		}
	}
	for i := range dev.Leases {
		r.add("lease "+dev.Leases[i].Key, "a lease is held by one guest only", detach)
	}
	if dev.VSock != nil {
		r.add("vsock", "it joins the guest with the host past the sealed network", detach)
	}
}

// sharedState refuses what holds state outside of disks that a clone would share.
func (r *reasons) sharedState(dev *libvirtxml.DomainDeviceList) {
	for i := range dev.Filesystems {
		name := fmt.Sprintf("filesystem %d", i)
		if t := dev.Filesystems[i].Target; t != nil {
			name = "filesystem " + t.Dir
		}
		r.add(name, "a folder of the host would be written by both universes", "move its data to a disk or to the network")
	}
	for i := range dev.Shmems {
		r.add("shmem "+dev.Shmems[i].Name, "shared memory joins the clone with production", detach)
	}
	for i := range dev.TPMs {
		r.add(fmt.Sprintf("tpm %d", i), "the state of a TPM must not exist twice", detach)
	}
	for i := range dev.Memorydevs {
		if m := dev.Memorydevs[i].Model; m != "dimm" && m != "virtio-mem" {
			r.add(fmt.Sprintf("memory %d (%s)", i, m), "its content is a file or device that the clone would share", detach)
		}
	}
	if dev.PStore != nil {
		r.add("pstore", "its content is a file that the clone would share", detach)
	}
}

// ports refuses serial ports and channels that cannot get an end of their own.
func (r *reasons) ports(dev *libvirtxml.DomainDeviceList) {
	for i := range dev.Serials {
		if s := dev.Serials[i].Source; s != nil && s.Dev != nil {
			r.add(fmt.Sprintf("serial %d", i), s.Dev.Path+" is a device of the host", detach)
		}
	}
	for i := range dev.Parallels {
		if s := dev.Parallels[i].Source; s != nil && s.Dev != nil {
			r.add(fmt.Sprintf("parallel %d", i), s.Dev.Path+" is a device of the host", detach)
		}
	}
	for i := range dev.Channels {
		if t := dev.Channels[i].Target; t != nil && t.GuestFWD != nil {
			r.add(fmt.Sprintf("channel %d", i), "it forwards guest connections to the host", detach)
		}
	}
}

// harmlessArgs are QEMU options with one value each that neither open a
// writable file nor a device.
var harmlessArgs = []string{"-fw_cfg", "-smbios"}

// commandLine refuses QEMU arguments that libvirt knows nothing about, since
// they may name anything.
func (r *reasons) commandLine(dom *libvirtxml.Domain) {
	if dom.QEMUOverride != nil {
		r.add("qemu:override", "it changes devices behind libvirt's back", "remove it")
	}
	line := dom.QEMUCommandline
	if line == nil {
		return
	}
	for _, env := range line.Envs {
		r.add("qemu:env "+env.Name, "libvirt does not know what it does", "remove it")
	}
	for i := 0; i < len(line.Args); i++ {
		opt := strings.Replace(line.Args[i].Value, "--", "-", 1)
		if slices.Contains(harmlessArgs, opt) && i+1 < len(line.Args) {
			i++
			continue
		}
		r.add("qemu:arg "+line.Args[i].Value, "libvirt does not know what it does, and it may share state with production", "remove it")
	}
}
