package netswitch

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CheckVIP returns nil when vip is an address of this host, so that clients'
// packets for it arrive here; else a *VIPError that says what the host knows of it.
func CheckVIP(ctx context.Context, vip netip.Addr) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if !vip.Is4() {
		return &VIPError{vip, "not an IPv4 address", "give the VIP as an IPv4 address"}
	}
	if vip.IsLoopback() || vip.IsMulticast() || vip.IsUnspecified() {
		return &VIPError{vip, "no client can reach such an address", "give an address that clients route to this host"}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		addrs, err := netlink.AddrList(l, unix.AF_INET)
		if err != nil {
			return fmt.Errorf("list addresses of %q: %w", l.Attrs().Name, err)
		}
		for _, a := range addrs {
			if got, ok := netip.AddrFromSlice(a.IP.To4()); ok && got == vip {
				return nil
			}
		}
	}
	return whereIs(vip)
}

func whereIs(vip netip.Addr) *VIPError {
	routes, err := netlink.RouteGet(vip.AsSlice())
	if err != nil || len(routes) == 0 {
		return &VIPError{vip, "the host has no route to it", "add the address to an interface that clients reach"}
	}
	r := routes[0]
	name := fmt.Sprintf("interface %d", r.LinkIndex)
	if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
		name = fmt.Sprintf("interface %q", l.Attrs().Name)
	}
	if r.Gw != nil {
		return &VIPError{vip, fmt.Sprintf("the host routes it through %s to gateway %s", name, r.Gw),
			"the address belongs to another network; check the plan"}
	}
	return &VIPError{vip, "another machine on " + name + " is expected to have it" + neighbour(r.LinkIndex, vip),
		"take the VIP over before, or put imago on the host that has it"}
}

// neighbour tells who answers for the address, when the host knows.
func neighbour(link int, vip netip.Addr) string {
	list, err := netlink.NeighList(link, unix.AF_INET)
	if err != nil {
		return ""
	}
	for _, n := range list {
		if got, ok := netip.AddrFromSlice(n.IP.To4()); ok && got == vip && len(n.HardwareAddr) > 0 {
			return ", which is " + n.HardwareAddr.String()
		}
	}
	return ""
}
