package netswitch

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLatencyFilter lets the kernel run the filter, on packets of a socket pair.
func TestLatencyFilter(t *testing.T) {
	other4, other6 := netip.MustParseAddrPort("10.20.0.11:80"), netip.MustParseAddrPort("[2001:db8:20::11]:443")
	backends := []netip.AddrPort{netip.MustParseAddrPort("10.20.0.10:3306"), backend4, backend6}
	for len(backends) < maxLatencyBackends { // the far end of the longest filter
		backends = append([]netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(len(backends))}), 1)}, backends...)
	}
	filter, err := newLatencyFilter(backends)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(filter))
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fds[1], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		t.Fatal(err)
	}
	passes := func(b []byte) int {
		// A unix socket tells a sender whose packet was filtered nothing.
		if err := unix.Sendto(fds[0], b, 0, nil); err != nil {
			t.Fatal(err)
		}
		n, _ := unix.Read(fds[1], make([]byte, 4096))
		return max(n, 0)
	}
	for _, tags := range [][]uint16{nil, {etherVLAN}, {etherQinQ}, {etherQinQ, etherVLAN}} {
		for name, c := range map[string]struct {
			src, dst netip.AddrPort
			want     bool
		}{
			"to": {client4, backend4, true}, "from": {backend4, client4, true}, "to 6": {client6, backend6, true}, "from 6": {backend6, client6, true},
			"other address": {client4, other4, false}, "other address 6": {client6, other6, false},
			"other port": {client4, netip.AddrPortFrom(backend4.Addr(), 81), false}, "other port 6": {client6, netip.AddrPortFrom(backend6.Addr(), 444), false},
			"backend's port at the client": {netip.AddrPortFrom(client4.Addr(), 80), other4, false},
		} {
			b := ethernetFrame(tags, c.src, c.dst, 1, 1, flagACK, 1000)
			if n := passes(b); n != map[bool]int{true: latencySnap, false: 0}[c.want] {
				t.Errorf("%s, tags %x: %d bytes", name, tags, n)
			}
		}
		off := etherLen + len(tags)*vlanLen
		for name, spoil := range map[string]func(b []byte){
			"UDP": func(b []byte) { b[off+9] = 17 }, "fragment": func(b []byte) { b[off+7] = 8 }, "ARP": func(b []byte) { b[off-1] = 6 },
		} {
			b := ethernetFrame(tags, client4, backend4, 1, 1, flagACK, 1000)
			spoil(b)
			if n := passes(b); n != 0 {
				t.Errorf("%s, tags %x: %d bytes", name, tags, n)
			}
		}
		// IP options move the ports.
		b := ethernetFrame(tags, client4, backend4, 1, 1, flagACK, 1000)
		b[off] = 0x46
		b = append(b[:off+ip4Len:off+ip4Len], append(make([]byte, 4), b[off+ip4Len:]...)...)
		if n := passes(b); n != latencySnap {
			t.Errorf("IP options, tags %x: %d bytes", tags, n)
		}
	}
	if n := passes(make([]byte, 13)); n != 0 {
		t.Errorf("a stub: %d bytes", n)
	}
	for name, bad := range map[string][]netip.AddrPort{"none": nil, "too many": make([]netip.AddrPort, maxLatencyBackends+1)} {
		if _, err := newLatencyFilter(bad); err == nil {
			t.Error(name)
		}
	}
}
