package netswitch

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// ethernetFrame builds a frame with TCP in it, as a client or server would send it.
func ethernetFrame(tags []uint16, src, dst netip.AddrPort, seq, ack uint32, flags byte, payload int) []byte {
	b := make([]byte, 12)
	for _, tag := range tags {
		b = binary.BigEndian.AppendUint16(b, tag)
		b = append(b, 0, 7)
	}
	tcp := make([]byte, tcpLen+payload)
	binary.BigEndian.PutUint16(tcp, src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12], tcp[13] = tcpLen/4<<4, flags
	if src.Addr().Is4() {
		b = binary.BigEndian.AppendUint16(b, etherIPv4)
		ip := make([]byte, ip4Len)
		ip[0], ip[8], ip[9] = 0x45, 64, protoTCP
		binary.BigEndian.PutUint16(ip[2:], uint16(ip4Len+len(tcp)))
		copy(ip[12:], src.Addr().AsSlice())
		copy(ip[16:], dst.Addr().AsSlice())
		return append(append(b, ip...), tcp...)
	}
	b = binary.BigEndian.AppendUint16(b, etherIPv6)
	ip := make([]byte, ip6Len)
	ip[0], ip[6], ip[7] = 0x60, protoTCP, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(len(tcp)))
	copy(ip[8:], src.Addr().AsSlice())
	copy(ip[24:], dst.Addr().AsSlice())
	return append(append(b, ip...), tcp...)
}

var (
	client4  = netip.MustParseAddrPort("198.51.100.7:40000")
	backend4 = netip.MustParseAddrPort("10.20.0.10:80")
	client6  = netip.MustParseAddrPort("[2001:db8::7]:40000")
	backend6 = netip.MustParseAddrPort("[2001:db8:20::10]:443")
)

func TestParseLatencyFrame(t *testing.T) {
	for name, c := range map[string]struct {
		tags     []uint16
		src, dst netip.AddrPort
	}{
		"IPv4": {nil, client4, backend4}, "IPv4 VLAN": {[]uint16{etherVLAN}, client4, backend4}, "IPv4 QinQ": {[]uint16{etherQinQ, etherVLAN}, client4, backend4},
		"IPv6": {nil, backend6, client6}, "IPv6 VLAN": {[]uint16{etherVLAN}, client6, backend6},
	} {
		for _, padding := range []int{0, 6} {
			b := append(ethernetFrame(c.tags, c.src, c.dst, 1000, 2000, flagACK, 33), make([]byte, padding)...)
			want := latencyFrame{c.src, c.dst, 1000, 2000, 33, flagACK}
			for _, cut := range []int{len(b), min(len(b), 82), latencySnap} {
				if got, ok := parseLatencyFrame(b[:min(cut, len(b))], len(b)); !ok || got != want {
					t.Errorf("%s, %d of %d bytes: %+v %v", name, cut, len(b), got, ok)
				}
			}
		}
	}
	b := ethernetFrame(nil, client4, backend4, 1, 1, flagACK, 10)
	for name, spoil := range map[string]func(){
		"fragment": func() { b[etherLen+7] = 1 }, "UDP": func() { b[etherLen+9] = 17 }, "short header": func() { b[etherLen] = 0x44 },
		"longer than the frame": func() { b[etherLen+2] = 1 }, "ARP": func() { b[13] = 6 }, "TCP offset": func() { b[etherLen+ip4Len+12] = 0x10 },
	} {
		whole := append([]byte(nil), b...)
		spoil()
		if f, ok := parseLatencyFrame(b, len(b)); ok {
			t.Errorf("%s was taken for %+v", name, f)
		}
		b = whole
	}
	// A train of segments too long for the length field.
	big := ethernetFrame(nil, client4, backend4, 1, 1, flagACK, 0)
	big[etherLen+2], big[etherLen+3] = 0, 0
	if f, ok := parseLatencyFrame(big, 100_000); !ok || f.payload != 100_000-etherLen-ip4Len-tcpLen {
		t.Errorf("BIG TCP: %+v %v", f, ok)
	}
}

func FuzzParseLatencyFrame(f *testing.F) {
	for _, tags := range [][]uint16{nil, {etherVLAN}, {etherQinQ, etherVLAN}} {
		f.Add(ethernetFrame(tags, client4, backend4, 1, 2, flagACK, 9), 0)
		f.Add(ethernetFrame(tags, backend6, client6, 1, 2, flagSYN, 0), 5)
	}
	f.Fuzz(func(t *testing.T, b []byte, more int) {
		length := len(b) + more%70_000
		p, ok := parseLatencyFrame(b, length)
		if ok && (!p.src.IsValid() || !p.dst.IsValid() || int(p.payload) > length) {
			t.Errorf("%+v", p)
		}
	})
}

func BenchmarkLatencyFrame(b *testing.B) {
	backends := map[netip.AddrPort]bool{backend4: true}
	flows := newLatencyFlows()
	record := newLatencyRecord(benchNow)
	req := ethernetFrame(nil, client4, backend4, 0, 0, flagACK, 10)
	ans := ethernetFrame(nil, backend4, client4, 0, 0, flagACK, 10)
	seq := uint32(0)
	for b.Loop() {
		seq += 10
		binary.BigEndian.PutUint32(req[etherLen+ip4Len+4:], seq)
		binary.BigEndian.PutUint32(ans[etherLen+ip4Len+4:], seq)
		binary.BigEndian.PutUint32(ans[etherLen+ip4Len+8:], seq+10)
		for _, frame := range [][]byte{req, ans} {
			f, _ := parseLatencyFrame(frame, len(frame))
			if start, took, ok := flows.see(f, backends, benchNow); ok {
				record.add(start, took)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2, "ns/packet")
}
