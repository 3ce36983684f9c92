package netswitch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// checkBridge refuses a bridge through which the universe could touch production:
// one that has addresses (it may be production's own) or a port to the outside.
func checkBridge(spec UniverseSpec) error {
	br, err := netlink.LinkByName(spec.Bridge)
	if err != nil {
		return &BridgeError{spec.Bridge, err.Error(), "start the universe's libvirt network first"}
	}
	if br.Type() != "bridge" {
		return &BridgeError{spec.Bridge, "it is a " + br.Type(), "name a bridge"}
	}
	addrs, err := netlink.AddrList(br, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list addresses of bridge %q: %w", spec.Bridge, err)
	}
	if len(addrs) > 0 {
		return &BridgeError{spec.Bridge, "the host has the address " + addrs[0].IPNet.String() + " on it",
			"use a libvirt network without <ip>; production's bridge cannot be the universe's"}
	}
	return checkPorts(br)
}

// leadsOutside lists the kinds of links that carry frames off this machine. Taps
// and veths are how guests are attached.
var leadsOutside = map[string]bool{
	"device": true, "vlan": true, "bond": true, "team": true, "vxlan": true, "gretap": true,
	"macvlan": true, "macvtap": true, "ipvlan": true, "geneve": true, "bridge": true,
}

func checkPorts(br netlink.Link) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == br.Attrs().Index && leadsOutside[l.Type()] {
			return &BridgeError{br.Attrs().Name,
				fmt.Sprintf("its port %q is a %s, which leads outside", l.Attrs().Name, l.Type()), "take the port out"}
		}
	}
	return nil
}

// checkTransit refuses a transit network that somebody else uses.
func checkTransit(spec UniverseSpec) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Name == transitLink(spec.ID) {
			continue
		}
		addrs, err := netlink.AddrList(l, unix.AF_INET)
		if err != nil {
			return fmt.Errorf("list addresses of %q: %w", l.Attrs().Name, err)
		}
		for _, a := range addrs {
			if p, ok := prefixOf(a.IPNet); ok && p.Overlaps(spec.Transit) {
				return fmt.Errorf("transit network %s: %q has %s already", spec.Transit, l.Attrs().Name, p)
			}
		}
	}
	return nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), ok
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// macFor gives each end of our links a fixed, locally administered address. The
// transit's neighbours are set for good, so that no ARP passes there and each
// frame that its counters show is a packet of the universe. They begin with fe, as
// a bridge takes the lowest address among its ports for its own.
func macFor(id, role string) net.HardwareAddr {
	h := sha256.Sum256([]byte("imago " + id + " " + role))
	return append(net.HardwareAddr{0xfe, 0x69, 0x6d}, h[:3]...)
}

func (u *Universe) link() error {
	h, err := netlink.NewHandleAt(u.ns)
	if err != nil {
		return fmt.Errorf("open netlink in namespace: %w", err)
	}
	defer h.Close()
	if err := u.linkTransit(h); err != nil {
		return fmt.Errorf("transit: %w", err)
	}
	if err := u.linkBridge(h); err != nil {
		return fmt.Errorf("bridge %q: %w", u.spec.Bridge, err)
	}
	return setUp(h, "lo")
}

func setUp(h *netlink.Handle, name string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %q: %w", name, err)
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("set link %q up: %w", name, err)
	}
	return nil
}

// addVeth makes the pair unless it is there, and returns the end on the host.
// Both ends come into being together, so there is never half a pair.
func (u *Universe) addVeth(name, peer string) (netlink.Link, error) {
	if l, err := netlink.LinkByName(name); err == nil {
		return l, nil
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.HardwareAddr = macFor(u.spec.ID, name)
	if br, err := netlink.LinkByName(u.spec.Bridge); err == nil {
		attrs.MTU = br.Attrs().MTU
	}
	v := &netlink.Veth{
		LinkAttrs: attrs, PeerName: peer, PeerNamespace: netlink.NsFd(u.ns),
		PeerHardwareAddr: macFor(u.spec.ID, peer), PeerMTU: uint32(attrs.MTU),
	}
	if err := netlink.LinkAdd(v); err != nil {
		return nil, fmt.Errorf("add veth %q: %w", name, err)
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find link %q: %w", name, err)
	}
	return l, nil
}

func disableIPv6(link string) error {
	err := writeSysctl("1", "ipv6", "conf", link, "disable_ipv6")
	if errors.Is(err, os.ErrNotExist) {
		return nil // no IPv6 in this kernel
	}
	return err
}

func (u *Universe) linkTransit(h *netlink.Handle) error {
	host, err := u.addVeth(transitLink(u.spec.ID), ifTransit)
	if err != nil {
		return err
	}
	if err := disableIPv6(transitLink(u.spec.ID)); err != nil {
		return err
	}
	self, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer self.Close()
	ns, err := h.LinkByName(ifTransit)
	if err != nil {
		return fmt.Errorf("find link %q: %w", ifTransit, err)
	}
	bits := u.spec.Transit.Bits()
	here, there := u.spec.HostAddr(), u.spec.Addr()
	if err := configure(self, host, netip.PrefixFrom(here, bits), there, macFor(u.spec.ID, ifTransit)); err != nil {
		return err
	}
	if err := configure(h, ns, netip.PrefixFrom(there, bits), here, macFor(u.spec.ID, transitLink(u.spec.ID))); err != nil {
		return err
	}
	if err := h.RouteReplace(&netlink.Route{LinkIndex: ns.Attrs().Index, Gw: here.AsSlice()}); err != nil {
		return fmt.Errorf("set default route: %w", err)
	}
	return nil
}

// configure gives a link its address, its one neighbour and sets it up.
func configure(h *netlink.Handle, l netlink.Link, addr netip.Prefix, neighbour netip.Addr, mac net.HardwareAddr) error {
	if err := h.AddrReplace(l, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("add address %s to %q: %w", addr, l.Attrs().Name, err)
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("set link %q up: %w", l.Attrs().Name, err)
	}
	n := &netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: neighbour.AsSlice(), HardwareAddr: mac}
	if err := h.NeighSet(n); err != nil {
		return fmt.Errorf("set neighbour %s of %q: %w", neighbour, l.Attrs().Name, err)
	}
	return nil
}

func (u *Universe) linkBridge(h *netlink.Handle) error {
	port, err := u.addVeth(bridgeLink(u.spec.ID), ifUniverse)
	if err != nil {
		return err
	}
	if err := disableIPv6(bridgeLink(u.spec.ID)); err != nil {
		return err
	}
	// Frames are counted and sealed before the link can carry one.
	if err := u.watchFrames(); err != nil {
		return err
	}
	br, err := netlink.LinkByName(u.spec.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if err := netlink.LinkSetMaster(port, br); err != nil {
		return fmt.Errorf("enslave %q: %w", port.Attrs().Name, err)
	}
	if err := netlink.LinkSetUp(port); err != nil {
		return fmt.Errorf("set link %q up: %w", port.Attrs().Name, err)
	}
	inner, err := h.LinkByName(ifUniverse)
	if err != nil {
		return fmt.Errorf("find link %q: %w", ifUniverse, err)
	}
	if mac := gatewayMAC(u.spec.Gateways); mac != nil {
		if err := h.LinkSetHardwareAddr(inner, mac); err != nil {
			return fmt.Errorf("take over the gateway's MAC address %s: %w", mac, err)
		}
	}
	for _, g := range u.spec.Gateways {
		if err := h.AddrReplace(inner, &netlink.Addr{IPNet: ipNet(g)}); err != nil {
			return fmt.Errorf("add gateway %s: %w", g, err)
		}
	}
	return setUp(h, ifUniverse)
}

// gatewayMAC is the address that production's guests know their gateway by; nil
// when the gateway is not this host. The universe's gateway has the same, so that
// a guest notices neither its cloning nor, later, its move to production's bridge.
func gatewayMAC(gateways []netip.Prefix) net.HardwareAddr {
	links, err := netlink.LinkList()
	if err != nil {
		return nil
	}
	for _, l := range links {
		addrs, err := netlink.AddrList(l, unix.AF_INET)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			p, _ := prefixOf(a.IPNet)
			for _, g := range gateways {
				if p.Addr() == g.Addr() && len(l.Attrs().HardwareAddr) == 6 {
					return l.Attrs().HardwareAddr
				}
			}
		}
	}
	return nil
}

// waitUp waits until the kernel has noticed the carrier of the links: before that
// a bridge port forwards nothing.
func waitUp(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for _, name := range names {
		for {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return fmt.Errorf("find link %q: %w", name, err)
			}
			if l.Attrs().OperState == netlink.OperUp {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("link %q is %s: %w", name, l.Attrs().OperState, context.Cause(ctx))
			case <-tick.C:
			}
		}
	}
	return nil
}

// removeLinks removes the host ends; their peers go with them.
func removeLinks(id string) error {
	var errs []error
	for _, name := range []string{transitLink(id), bridgeLink(id)} {
		l, err := netlink.LinkByName(name)
		var none netlink.LinkNotFoundError
		if errors.As(err, &none) {
			continue
		}
		if err == nil && l.Type() != "veth" {
			err = ErrForeign
		}
		if err == nil {
			err = netlink.LinkDel(l)
		}
		if err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove link %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func hasForeignLinks(ns netns.NsHandle) (bool, error) {
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return false, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return false, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		switch l.Type() {
		case "veth", "bridge", "tuntap", "macvlan", "ipvlan", "vlan", "vxlan", "wireguard", "dummy":
			return true, nil
		}
	}
	return false, nil
}
