package netswitch

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

var errNotTCP = errors.New("not a whole IPv4 TCP segment")

// TCP flags.
const (
	flagFIN = 1 << 0
	flagSYN = 1 << 1
	flagRST = 1 << 2
	flagACK = 1 << 4
)

const ip4Len, tcpLen = 20, 20 // headers without options

// segment is a view of an IPv4 packet that holds one TCP segment. Its setters
// write into the packet; seal must be called before it goes out.
type segment struct {
	b         []byte // the whole packet
	tcp, data int    // offsets of the TCP header and of the payload
}

func parseSegment(b []byte) (segment, error) {
	if len(b) < ip4Len || b[0]>>4 != 4 || b[9] != unix.IPPROTO_TCP {
		return segment{}, errNotTCP
	}
	ihl, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	fragment := binary.BigEndian.Uint16(b[6:])&0x3fff != 0 // more fragments, or an offset
	if ihl < ip4Len || total > len(b) || total < ihl+tcpLen || fragment {
		return segment{}, errNotTCP
	}
	off := int(b[ihl+12]>>4) * 4
	if off < tcpLen || ihl+off > total {
		return segment{}, errNotTCP
	}
	return segment{b: b[:total], tcp: ihl, data: ihl + off}, nil
}

func (s segment) src() netip.AddrPort {
	a, _ := netip.AddrFromSlice(s.b[12:16])
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(s.b[s.tcp:]))
}

func (s segment) dst() netip.AddrPort {
	a, _ := netip.AddrFromSlice(s.b[16:20])
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(s.b[s.tcp+2:]))
}

func (s segment) seq() uint32     { return binary.BigEndian.Uint32(s.b[s.tcp+4:]) }
func (s segment) ack() uint32     { return binary.BigEndian.Uint32(s.b[s.tcp+8:]) }
func (s segment) window() uint16  { return binary.BigEndian.Uint16(s.b[s.tcp+14:]) }
func (s segment) has(f byte) bool { return s.b[s.tcp+13]&f == f }
func (s segment) payload() []byte { return s.b[s.data:] }

// end is the sequence number after the payload, flags not counted.
func (s segment) end() uint32 { return s.seq() + uint32(len(s.payload())) }

func (s segment) setSeq(v uint32)  { binary.BigEndian.PutUint32(s.b[s.tcp+4:], v) }
func (s segment) setAck(v uint32)  { binary.BigEndian.PutUint32(s.b[s.tcp+8:], v) }
func (s segment) setFlag(f byte)   { s.b[s.tcp+13] |= f }
func (s segment) options() []byte  { return s.b[s.tcp+tcpLen : s.data] }
func (s segment) isFirstSYN() bool { return s.has(flagSYN) && !s.has(flagACK) && !s.has(flagRST) }

// timestamps returns the TCP timestamp option, when there is one.
func (s segment) timestamps() (val, ecr uint32, ok bool) {
	for o := s.options(); len(o) > 0; {
		switch {
		case o[0] == 0:
			return 0, 0, false
		case o[0] == 1:
			o = o[1:]
		case len(o) < 2 || int(o[1]) < 2 || int(o[1]) > len(o):
			return 0, 0, false
		case o[0] == 8 && o[1] == 10:
			return binary.BigEndian.Uint32(o[2:]), binary.BigEndian.Uint32(o[6:]), true
		default:
			o = o[o[1]:]
		}
	}
	return 0, 0, false
}

// seal writes the TCP checksum, whole: the packet may have come without one.
func (s segment) seal() {
	binary.BigEndian.PutUint16(s.b[s.tcp+16:], 0)
	binary.BigEndian.PutUint16(s.b[s.tcp+16:], s.checksum())
}

func (s segment) checksum() uint16 {
	sum := uint32(unix.IPPROTO_TCP) + uint32(len(s.b)-s.tcp)
	sum = addWords(sum, s.b[12:20])
	sum = addWords(sum, s.b[s.tcp:])
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func addWords(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// forged describes a segment that we send in the server's name.
type forged struct {
	from, to     netip.AddrPort
	seq, ack     uint32
	flags        byte
	window       uint16
	stamped      bool
	tsVal, tsEcr uint32
}

// bytes builds the packet. The kernel fills in the IP checksum and length.
func (f forged) bytes() []byte {
	opts := 0
	if f.stamped {
		opts = 12
	}
	b := make([]byte, ip4Len+tcpLen+opts)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], f.from.Addr().AsSlice())
	copy(b[16:], f.to.Addr().AsSlice())
	t := b[ip4Len:]
	binary.BigEndian.PutUint16(t[0:], f.from.Port())
	binary.BigEndian.PutUint16(t[2:], f.to.Port())
	binary.BigEndian.PutUint32(t[4:], f.seq)
	binary.BigEndian.PutUint32(t[8:], f.ack)
	t[12], t[13] = byte((tcpLen+opts)/4)<<4, f.flags
	binary.BigEndian.PutUint16(t[14:], f.window)
	if f.stamped {
		t[20], t[21], t[22], t[23] = 1, 1, 8, 10
		binary.BigEndian.PutUint32(t[24:], f.tsVal)
		binary.BigEndian.PutUint32(t[28:], f.tsEcr)
	}
	segment{b: b, tcp: ip4Len, data: len(b)}.seal()
	return b
}

// after says whether sequence number a comes after b, around the wrap.
func after(a, b uint32) bool { return int32(a-b) > 0 }
