package netswitch

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Dial connects to an address inside the universe, from the gateway namespace. It
// fits http.Transport.DialContext. The address must be an IP with a port: names
// would be resolved by production's DNS. The connection may be used from any
// goroutine; it stays with the universe.
func (u *Universe) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("dial %s in universe %q: want an IP address and port: %w", addr, u.spec.Name, err)
	}
	var conn net.Conn
	err := inNetNS(u.ns, func() error {
		// One literal address: the dialer stays on this thread, and so does its
		// socket's birth, which alone decides the namespace.
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		conn = c
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dial in universe %q: %w", u.spec.Name, err)
	}
	return conn, nil
}
