package netswitch

import (
	"encoding/binary"
	"net/netip"
)

// latencyFrame is what the probe needs of one TCP segment, IPv4 or IPv6.
type latencyFrame struct {
	src, dst netip.AddrPort
	seq, ack uint32
	payload  uint32 // its length; the bytes themselves are not copied
	flags    byte
}

func (f latencyFrame) has(flag byte) bool { return f.flags&flag == flag }

const (
	etherLen  = 14
	vlanLen   = 4
	ip6Len    = 40
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8
	protoTCP  = 6
)

// parseLatencyFrame reads the headers of an Ethernet frame of which b is the
// beginning and length the whole length on the wire. Tags of VLANs (at most two) that the kernel left
// in the frame are skipped; so they may differ between the two ways. Fragments
// and IPv6 extension headers are not followed.
func parseLatencyFrame(b []byte, length int) (latencyFrame, bool) {
	if len(b) < etherLen || length < len(b) {
		return latencyFrame{}, false
	}
	kind, l3 := binary.BigEndian.Uint16(b[12:]), etherLen
	for range 2 {
		if kind != etherVLAN && kind != etherQinQ {
			break
		}
		if len(b) < l3+vlanLen {
			return latencyFrame{}, false
		}
		kind = binary.BigEndian.Uint16(b[l3+2:])
		l3 += vlanLen
	}
	switch kind {
	case etherIPv4:
		return latencyIPv4(b[l3:], length-l3)
	case etherIPv6:
		return latencyIPv6(b[l3:], length-l3)
	}
	return latencyFrame{}, false
}

func latencyIPv4(b []byte, length int) (latencyFrame, bool) {
	if len(b) < ip4Len || b[0]>>4 != 4 || b[9] != protoTCP {
		return latencyFrame{}, false
	}
	ihl, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		total = length // a train of segments too long for the field (BIG TCP)
	}
	if fragment := binary.BigEndian.Uint16(b[6:])&0x3fff != 0; fragment || ihl < ip4Len || total > length {
		return latencyFrame{}, false
	}
	src, _ := netip.AddrFromSlice(b[12:16])
	dst, _ := netip.AddrFromSlice(b[16:20])
	return latencyTCP(b, ihl, total, src, dst)
}

func latencyIPv6(b []byte, length int) (latencyFrame, bool) {
	if len(b) < ip6Len || b[0]>>4 != 6 || b[6] != protoTCP {
		return latencyFrame{}, false
	}
	total := ip6Len + int(binary.BigEndian.Uint16(b[4:]))
	if total == ip6Len {
		total = length
	}
	if total > length {
		return latencyFrame{}, false
	}
	src, _ := netip.AddrFromSlice(b[8:24])
	dst, _ := netip.AddrFromSlice(b[24:40])
	return latencyTCP(b, ip6Len, total, src, dst)
}

// latencyTCP reads the TCP header at off of an IP packet that is total bytes long.
func latencyTCP(b []byte, off, total int, src, dst netip.Addr) (latencyFrame, bool) {
	if len(b) < off+tcpLen {
		return latencyFrame{}, false
	}
	t := b[off:]
	header := int(t[12]>>4) * 4
	if header < tcpLen || off+header > total {
		return latencyFrame{}, false
	}
	return latencyFrame{
		src: netip.AddrPortFrom(src.Unmap(), binary.BigEndian.Uint16(t)), dst: netip.AddrPortFrom(dst.Unmap(), binary.BigEndian.Uint16(t[2:])),
		seq: binary.BigEndian.Uint32(t[4:]), ack: binary.BigEndian.Uint32(t[8:]),
		payload: uint32(total - off - header), flags: t[13],
	}, true
}
