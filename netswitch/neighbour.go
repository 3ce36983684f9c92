package netswitch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForgetNeighbour removes what the host remembers of the MAC address behind an
// IPv4 address, so that it asks again: the address has moved to another machine.
func ForgetNeighbour(ctx context.Context, addr netip.Addr) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	neighbours, err := netlink.NeighList(0, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	for _, n := range neighbours {
		if got, ok := netip.AddrFromSlice(n.IP.To4()); !ok || got != addr {
			continue
		}
		if err := netlink.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget the neighbour %s: %w", addr, err)
		}
	}
	return nil
}
