package netswitch

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/ti-mo/conntrack"
)

// Where bridged frames pass the IP tables, the universe's would share conntrack
// entries with production's, whose addresses they have.
func TestUniverseStaysOutOfTheHostsConntrack(t *testing.T) {
	l := newLab(t)
	sh(t, "", "sysctl -qw net.bridge.bridge-nf-call-iptables=1")
	l.install() // NAT rules: the host tracks connections
	l.guest("new2", "br-uni")
	t.Cleanup(func() { sh(t, "", "ip netns del new2") })
	sh(t, "new2", "ip addr add 10.20.0.20/24 dev eth0")
	tracked := func(port uint16) bool {
		addr := netip.AddrPortFrom(netip.MustParseAddr("10.20.0.20"), port)
		var pc net.PacketConn
		in(t, "new2", func() (err error) { pc, err = net.ListenPacket("udp4", addr.String()); return err })
		defer pc.Close()
		sendUDP(t, "new", addr.String(), 1)
		_ = pc.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, _, err := pc.ReadFrom(make([]byte, 16)); err != nil {
			t.Fatalf("guests of the universe cannot talk: %v", err)
		}
		found := false
		services := []Service{{VIP: addr, Proto: UDP}}
		if err := dumpFlows(services, func(Service, conntrack.Flow) error { found = true; return nil }); err != nil {
			t.Fatal(err)
		}
		return found
	}
	if !tracked(7001) {
		t.Fatal("not tracked without a seal either: this test proves nothing here")
	}
	l.open()
	if tracked(7002) {
		t.Error("a packet of the universe has an entry in the host's conntrack")
	}
}
