package hypervisor

import (
	"strings"

	"libvirt.org/go/libvirtxml"
)

func macOf(x *libvirtxml.DomainInterface) string {
	if x.MAC == nil {
		return ""
	}
	return strings.ToLower(x.MAC.Address)
}

// rewriteNICs moves every NIC to the universe. Kept is what the guest sees
// (MAC, model, queues, MTU, link state, PCI address); what belongs to the
// production switch (VLAN, port profile, filter, tap name) goes.
func rewriteNICs(dom *libvirtxml.Domain, spec CloneSpec) {
	for i := range dom.Devices.Interfaces {
		nic := &dom.Devices.Interfaces[i]
		nic.Source = &libvirtxml.DomainInterfaceSource{
			Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: spec.networkOf(macOf(nic))}}
		nic.Managed, nic.TrustGuestRXFilters = "", ""
		nic.VLan, nic.VirtualPort, nic.FilterRef, nic.Teaming, nic.PortOptions = nil, nil, nil, nil, nil
		nic.Target, nic.Backend, nic.Script, nic.DownScript = nil, nil, nil, nil
		nic.IP, nic.Route, nic.PortForward = nil, nil, nil
		if nic.Bandwidth != nil && nic.Bandwidth.Inbound != nil {
			nic.Bandwidth.Inbound.Floor = nil // needs a network with a guarantee of its own
		}
	}
}

func (s CloneSpec) networkOf(mac string) string {
	if name, ok := s.Networks[mac]; ok {
		return name
	}
	return s.Network
}

// rewriteChardevs gives the clone its own ends of serial ports, consoles and
// channels. The guest still sees every port; nothing listens or dials out.
func rewriteChardevs(dom *libvirtxml.Domain, spec CloneSpec) {
	dev := dom.Devices
	for i := range dev.Serials {
		dev.Serials[i].Source, dev.Serials[i].Protocol, dev.Serials[i].Log = ownEnd(spec, i == 0), nil, nil
	}
	for i := range dev.Consoles {
		c := &dev.Consoles[i]
		// libvirt shows the first serial port a second time as the first console.
		c.Source, c.Protocol, c.Log, c.TTY = ownEnd(spec, i == 0), nil, nil, ""
	}
	for i := range dev.Parallels {
		dev.Parallels[i].Source, dev.Parallels[i].Protocol, dev.Parallels[i].Log = nullEnd(), nil, nil
	}
	for i := range dev.Channels {
		rewriteChannel(&dev.Channels[i])
	}
	for i := range dev.RNGs {
		rewriteRNG(&dev.RNGs[i])
	}
}

func ownEnd(spec CloneSpec, first bool) *libvirtxml.DomainChardevSource {
	if !first || spec.ConsoleLog == "" {
		return nullEnd()
	}
	return &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{Path: spec.ConsoleLog, Append: "on"}}
}

func nullEnd() *libvirtxml.DomainChardevSource {
	return &libvirtxml.DomainChardevSource{Null: &libvirtxml.DomainChardevSourceNull{}}
}

// rewriteChannel lets libvirt choose a socket path in the clone's own folder.
func rewriteChannel(c *libvirtxml.DomainChannel) {
	c.Protocol, c.Log = nil, nil
	if c.Target != nil && c.Target.VirtIO != nil {
		c.Target.VirtIO.State = ""
	}
	if c.Source != nil && (c.Source.SpiceVMC != nil || c.Source.QEMUVDAgent != nil) {
		return
	}
	c.Source = &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}}
}

// rewriteRNG replaces an entropy daemon, which may be a socket anywhere.
func rewriteRNG(r *libvirtxml.DomainRNG) {
	if r.Backend != nil && r.Backend.EGD != nil {
		r.Backend = &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}}
	}
}

// rewriteScreens keeps a VNC or SPICE screen, reachable only through a socket
// that libvirt makes in the clone's own folder: no port to clash with, nothing
// open on the network. Screens on the host's display go.
func rewriteScreens(dom *libvirtxml.Domain) {
	var kept []libvirtxml.DomainGraphic
	for _, g := range dom.Devices.Graphics {
		switch {
		case g.VNC != nil:
			kept = append(kept, libvirtxml.DomainGraphic{VNC: &libvirtxml.DomainGraphicVNC{Keymap: g.VNC.Keymap, Listeners: socketListener()}})
		case g.Spice != nil:
			kept = append(kept, libvirtxml.DomainGraphic{Spice: &libvirtxml.DomainGraphicSpice{Keymap: g.Spice.Keymap, Listeners: socketListener()}})
		}
	}
	dom.Devices.Graphics = kept
	for i := range dom.Devices.Audios {
		a := &dom.Devices.Audios[i]
		dom.Devices.Audios[i] = libvirtxml.DomainAudio{ID: a.ID, TimerPeriod: a.TimerPeriod, None: &libvirtxml.DomainAudioNone{}}
	}
}

func socketListener() []libvirtxml.DomainGraphicListener {
	return []libvirtxml.DomainGraphicListener{{Socket: &libvirtxml.DomainGraphicListenerSocket{}}}
}
