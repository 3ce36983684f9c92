package hypervisor

import (
	"context"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// NICTarget is where a NIC goes: a libvirt network or a bridge of the host.
type NICTarget struct {
	Network string
	Bridge  string
}

// MoveNIC plugs a NIC of a domain of ours, found by its MAC, into another
// network, while the guest runs and for its next start. The guest sees at most
// its link blink.
func (d *Domain) MoveNIC(ctx context.Context, mac string, to NICTarget) error {
	if (to.Network == "") == (to.Bridge == "") {
		return fmt.Errorf("move NIC %s of domain %q: want a network or a bridge", mac, d.name)
	}
	if err := d.mustBeOurs(ctx); err != nil {
		return err
	}
	desc, err := d.Describe(ctx)
	if err != nil {
		return err
	}
	nic := findNIC(desc, mac)
	if nic == nil {
		return fmt.Errorf("domain %q has no NIC %s", d.name, mac)
	}
	nic.Source = nicSource(to.Network, to.Bridge)
	nic.Target, nic.Alias = nil, nil
	text, err := nic.Marshal()
	if err != nil {
		return fmt.Errorf("write the XML of NIC %s: %w", mac, err)
	}
	flags := libvirt.DOMAIN_DEVICE_MODIFY_CONFIG
	if desc.ID != nil {
		flags |= libvirt.DOMAIN_DEVICE_MODIFY_LIVE
	}
	if err := d.raw.UpdateDeviceFlags(text, flags); err != nil {
		return fmt.Errorf("move NIC %s of domain %q: %w", mac, d.name, err)
	}
	return nil
}

func findNIC(desc *libvirtxml.Domain, mac string) *libvirtxml.DomainInterface {
	if desc.Devices == nil {
		return nil
	}
	for i := range desc.Devices.Interfaces {
		if macOf(&desc.Devices.Interfaces[i]) == strings.ToLower(mac) {
			return &desc.Devices.Interfaces[i]
		}
	}
	return nil
}
