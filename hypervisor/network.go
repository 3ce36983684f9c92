package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// NetworkPrefix begins the name of every libvirt network that imago makes.
// Networks of libvirt 9.0 carry no metadata, so the name and a UUID that the
// caller remembers are the mark.
const NetworkPrefix = "imago-"

// maxBridgeName is IFNAMSIZ without its final zero byte.
const maxBridgeName = 15

// NetworkSpec is a bare bridge: no <forward>, no <ip>, no DNS, so the same
// subnet as production is no conflict.
type NetworkSpec struct {
	Name   string // begins with [NetworkPrefix]
	UUID   string
	Bridge string // the bridge's name on the host, at most 15 bytes
}

// NewNetworkXML writes a network's XML without asking anybody.
func NewNetworkXML(spec NetworkSpec) (*libvirtxml.Network, error) {
	if !strings.HasPrefix(spec.Name, NetworkPrefix) || len(spec.Name) == len(NetworkPrefix) {
		return nil, fmt.Errorf("network %q: the name must begin with %q", spec.Name, NetworkPrefix)
	}
	if spec.UUID == "" {
		return nil, fmt.Errorf("network %q: a UUID is needed to tell it from others", spec.Name)
	}
	if spec.Bridge == "" || len(spec.Bridge) > maxBridgeName {
		return nil, fmt.Errorf("network %q: bridge name %q must have 1 to %d bytes", spec.Name, spec.Bridge, maxBridgeName)
	}
	return &libvirtxml.Network{
		Name:   spec.Name,
		UUID:   spec.UUID,
		Bridge: &libvirtxml.NetworkBridge{Name: spec.Bridge, STP: "off", Delay: "0"},
		DNS:    &libvirtxml.NetworkDNS{Enable: "no"},
	}, nil
}

// DefineNetwork registers the network. One that is already there under the
// same name and UUID is fine.
func (c *Conn) DefineNetwork(ctx context.Context, spec NetworkSpec) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	doc, err := NewNetworkXML(spec)
	if err != nil {
		return err
	}
	if err := c.networkFree(spec); err != nil {
		return err
	}
	text, err := doc.Marshal()
	if err != nil {
		return fmt.Errorf("write the XML of network %q: %w", spec.Name, err)
	}
	n, err := c.raw.NetworkDefineXML(text)
	if err != nil {
		return fmt.Errorf("define network %q: %w", spec.Name, err)
	}
	return n.Free()
}

// networkFree makes sure that a define replaces nothing but our own network.
func (c *Conn) networkFree(spec NetworkSpec) error {
	n, err := c.ourNetwork(spec.Name, spec.UUID)
	if n != nil {
		_ = n.Free()
	}
	return err
}

// ourNetwork finds the network; nil without error if there is none.
func (c *Conn) ourNetwork(name, uuid string) (*libvirt.Network, error) {
	if !strings.HasPrefix(name, NetworkPrefix) {
		return nil, fmt.Errorf("network %q: %w", name, ErrNotOurs)
	}
	n, err := c.raw.LookupNetworkByName(name)
	if isCode(err, libvirt.ERR_NO_NETWORK) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up network %q: %w", name, err)
	}
	got, err := n.GetUUIDString()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask network %q for its UUID: %w", name, err), n.Free())
	}
	if !strings.EqualFold(got, uuid) {
		return nil, errors.Join(fmt.Errorf("network %q has UUID %s, not %s: %w", name, got, uuid, ErrNotOurs), n.Free())
	}
	return n, nil
}

// StartNetwork makes the bridge; a network that runs is left alone.
func (c *Conn) StartNetwork(ctx context.Context, name, uuid string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	n, err := c.ourNetwork(name, uuid)
	if err != nil {
		return err
	}
	if n == nil {
		return fmt.Errorf("start network %q: it is not defined", name)
	}
	defer func() { _ = n.Free() }()
	if active, err := n.IsActive(); err == nil && active {
		return nil
	}
	if err := n.Create(); err != nil {
		return fmt.Errorf("start network %q: %w", name, err)
	}
	return nil
}

// RemoveNetwork stops and forgets a network of ours. It is fine if it is gone;
// a network with that name but another UUID is [ErrNotOurs].
func (c *Conn) RemoveNetwork(ctx context.Context, name, uuid string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	n, err := c.ourNetwork(name, uuid)
	if err != nil || n == nil {
		return err
	}
	defer func() { _ = n.Free() }()
	if err := n.Destroy(); err != nil && !isCode(err, libvirt.ERR_OPERATION_INVALID, libvirt.ERR_NO_NETWORK) {
		return fmt.Errorf("stop network %q: %w", name, err)
	}
	if err := n.Undefine(); err != nil && !isCode(err, libvirt.ERR_NO_NETWORK) {
		return fmt.Errorf("undefine network %q: %w", name, err)
	}
	return nil
}
