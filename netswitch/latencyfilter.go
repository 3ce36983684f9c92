package netswitch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// latencySnap is how much of a packet is copied: all headers with two VLAN tags
// and all options.
const latencySnap = 144

// maxLatencyBackends keeps the filter below the kernel's 4096 instructions.
const maxLatencyBackends = 128

// latencyFilter is a program that the kernel runs on each packet of an
// interface: it passes TCP segments to or from the backends.
type latencyFilter []unix.SockFilter

// assembler writes a filter. Its conditional jumps reach only 255 instructions far, so
// each is made of one over an unconditional jump.
type assembler struct {
	code   []unix.SockFilter
	labels map[string]int
	jumps  map[int]string // instruction → label
}

func (a *assembler) op(code uint16, k uint32) {
	a.code = append(a.code, unix.SockFilter{Code: code, K: k})
}

func (a *assembler) label(name string) { a.labels[name] = len(a.code) }

func (a *assembler) jump(to string) {
	a.jumps[len(a.code)] = to
	a.op(unix.BPF_JMP|unix.BPF_JA, 0)
}

// jumpIf jumps if the accumulator equals k (BPF_JEQ) or shares a bit with it (BPF_JSET).
func (a *assembler) jumpIf(test uint16, k uint32, to string) {
	a.code = append(a.code, unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: 0, Jf: 1, K: k})
	a.jump(to)
}

// unless is jumpIf the other way round.
func (a *assembler) unless(test uint16, k uint32, to string) {
	a.code = append(a.code, unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: 1, Jf: 0, K: k})
	a.jump(to)
}

func (a *assembler) finish() (latencyFilter, error) {
	for at, to := range a.jumps {
		target, ok := a.labels[to]
		if !ok || target <= at {
			return nil, fmt.Errorf("filter: no label %q ahead", to)
		}
		a.code[at].K = uint32(target - at - 1)
	}
	return a.code, nil
}

const (
	loadByteAt = unix.BPF_LD | unix.BPF_B | unix.BPF_IND // of the packet, X + k
	loadHalfAt = unix.BPF_LD | unix.BPF_H | unix.BPF_IND
	loadWordAt = unix.BPF_LD | unix.BPF_W | unix.BPF_IND
	loadHalf   = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
	loadMemory = unix.BPF_LD | unix.BPF_MEM
	setX       = unix.BPF_LDX | unix.BPF_IMM
	loadX      = unix.BPF_LDX | unix.BPF_MEM
	store      = unix.BPF_ST
	storeX     = unix.BPF_STX
	toX        = unix.BPF_MISC | unix.BPF_TAX
	ret        = unix.BPF_RET | unix.BPF_K
)

// memory of the program
const (
	memTags = iota // length of the VLAN tags
	memSrcPort
	memDstPort
)

func newLatencyFilter(backends []netip.AddrPort) (latencyFilter, error) {
	if len(backends) == 0 {
		return nil, errors.New("no backend is given")
	}
	if len(backends) > maxLatencyBackends {
		return nil, fmt.Errorf("%d backends are more than the %d that can be watched", len(backends), maxLatencyBackends)
	}
	a := &assembler{labels: map[string]int{}, jumps: map[int]string{}}
	a.ethernet()
	a.label("ip4")
	a.ip4Ports()
	a.match(backends, false)
	a.label("ip6")
	a.ip6Ports()
	a.match(backends, true)
	a.label("drop")
	a.op(ret, 0)
	a.label("take")
	a.op(ret, latencySnap)
	return a.finish()
}

// ethernet leaves the length of the tags in X and jumps by what the frame holds.
func (a *assembler) ethernet() {
	a.op(setX, 0)
	for i := range uint32(2) {
		a.op(loadHalf, 12+i*vlanLen)
		next := fmt.Sprintf("tag%d", i)
		a.jumpIf(unix.BPF_JEQ, etherVLAN, next)
		a.unless(unix.BPF_JEQ, etherQinQ, "kind")
		a.label(next)
		a.op(setX, (i+1)*vlanLen)
	}
	a.op(loadHalf, 12+2*vlanLen)
	a.label("kind")
	a.op(storeX, memTags)
	a.jumpIf(unix.BPF_JEQ, etherIPv4, "ip4")
	a.jumpIf(unix.BPF_JEQ, etherIPv6, "ip6")
	a.jump("drop")
}

func (a *assembler) ip4Ports() {
	a.op(loadByteAt, etherLen+9)
	a.unless(unix.BPF_JEQ, protoTCP, "drop")
	a.op(loadHalfAt, etherLen+6)
	a.jumpIf(unix.BPF_JSET, 0x3fff, "drop") // fragments
	a.op(loadByteAt, etherLen)
	a.op(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, 15)
	a.op(unix.BPF_ALU|unix.BPF_LSH|unix.BPF_K, 2)
	a.op(unix.BPF_ALU|unix.BPF_ADD|unix.BPF_X, 0)
	a.op(toX, 0)
	a.ports(etherLen)
}

func (a *assembler) ip6Ports() {
	a.op(loadByteAt, etherLen+6)
	a.unless(unix.BPF_JEQ, protoTCP, "drop")
	a.ports(etherLen + ip6Len)
}

// ports keeps both ports of the TCP header at X + off, then X is the length of the tags again.
func (a *assembler) ports(off uint32) {
	a.op(loadHalfAt, off)
	a.op(store, memSrcPort)
	a.op(loadHalfAt, off+2)
	a.op(store, memDstPort)
	a.op(loadX, memTags)
}

// match takes packets of one of the backends, and drops all others.
func (a *assembler) match(backends []netip.AddrPort, six bool) {
	src, dst := uint32(etherLen+12), uint32(etherLen+16)
	if six {
		src, dst = etherLen+8, etherLen+24
	}
	for i, b := range backends {
		addr := b.Addr().Unmap()
		if addr.Is4() == six {
			continue
		}
		for _, way := range []struct {
			name      string
			addr, mem uint32
		}{{"from", src, memSrcPort}, {"to", dst, memDstPort}} {
			next := fmt.Sprintf("not %s %d", way.name, i)
			a.op(loadMemory, way.mem)
			a.unless(unix.BPF_JEQ, uint32(b.Port()), next)
			bytes := addr.AsSlice()
			for at := 0; at < len(bytes); at += 4 {
				a.op(loadWordAt, way.addr+uint32(at))
				a.unless(unix.BPF_JEQ, binary.BigEndian.Uint32(bytes[at:]), next)
			}
			a.jump("take")
			a.label(next)
		}
	}
	a.jump("drop")
}
