package netswitch

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CheckTransit refuses a transit network that overlaps an address or a route
// of the host, other than its default route.
func CheckTransit(ctx context.Context, transit netip.Prefix) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		ones, _ := r.Dst.Mask.Size()
		if !ok || ones == 0 || !netip.PrefixFrom(addr, ones).Overlaps(transit) {
			continue
		}
		name := fmt.Sprintf("interface %d", r.LinkIndex)
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			name = l.Attrs().Name
		}
		return fmt.Errorf("the host uses %s on %s already: choose four other addresses, such as 100.127.254.0/30", netip.PrefixFrom(addr, ones), name)
	}
	return nil
}
