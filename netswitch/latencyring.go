package netswitch

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The ring is 4 MiB: about 20,000 headers, so a reader that does not run
// for 100 ms loses none at 200,000 packets a second.
const (
	ringBlock  = 1 << 16
	ringBlocks = 64
	ringFrame  = 2048
	ringRetire = 20 // ms until a block that is not full is handed over
	ringLook   = 200 * time.Millisecond
)

// latencyPacket is the beginning of one packet.
type latencyPacket struct {
	at     time.Time
	data   []byte // valid only until the next one
	length int    // on the wire
}

// latencyRing is a packet socket on one interface with a ring of headers
// (TPACKET_V3, see packet_mmap in the kernel's documentation).
type latencyRing struct {
	fd      int
	memory  []byte
	next    int // block to read
	stopped atomic.Bool
	dropped atomic.Uint64
}

func openLatencyRing(name string, filter latencyFilter) (_ *latencyRing, err error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("look it up: %w", err)
	}
	if kind := link.Attrs().EncapType; kind != "ether" {
		return nil, fmt.Errorf("it carries %s, not Ethernet frames", kind)
	}
	// Protocol 0 receives nothing until bind names one: the filter is there before the first packet.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	r := &latencyRing{fd: fd}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return nil, fmt.Errorf("attach filter: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return nil, fmt.Errorf("ask for TPACKET_V3: %w", err)
	}
	req := unix.TpacketReq3{Block_size: ringBlock, Block_nr: ringBlocks, Frame_size: ringFrame, Frame_nr: ringBlock / ringFrame * ringBlocks, Retire_blk_tov: ringRetire}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, fmt.Errorf("make ring: %w", err)
	}
	if r.memory, err = unix.Mmap(fd, 0, ringBlock*ringBlocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index}); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	return r, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// read hands over what comes, and each ringLook at least an empty row, until ctx ends,
// stop is called or the interface is gone.
func (r *latencyRing) read(ctx context.Context, take func(now time.Time, packets iter.Seq[latencyPacket])) error {
	fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN | unix.POLLERR}}
	for ctx.Err() == nil && !r.stopped.Load() {
		block := r.memory[r.next*ringBlock:][:ringBlock]
		status := (*uint32)(unsafe.Pointer(&block[blockHeader]))
		if atomic.LoadUint32(status)&unix.TP_STATUS_USER != 0 {
			take(time.Now(), func(yield func(latencyPacket) bool) { eachPacket(block, yield) })
			atomic.StoreUint32(status, unix.TP_STATUS_KERNEL)
			if r.next = (r.next + 1) % ringBlocks; r.next == 0 {
				r.count()
			}
			continue
		}
		r.count()
		fds[0].Revents = 0
		n, err := unix.Poll(fds, int(ringLook.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for packets: %w", err)
		}
		if n > 0 && fds[0].Revents&unix.POLLERR != 0 {
			if e, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
				return fmt.Errorf("wait for packets: %w", errors.Join(err, unix.Errno(e)))
			}
		}
		take(time.Now(), func(func(latencyPacket) bool) {})
	}
	return nil
}

// blockHeader is where a block's own header begins, after version and private offset.
const blockHeader = 8

// eachPacket yields the packets of a block that the kernel has handed over.
func eachPacket(block []byte, yield func(latencyPacket) bool) {
	head := (*unix.TpacketHdrV1)(unsafe.Pointer(&block[blockHeader]))
	at := uint64(head.Offset_to_first_pkt)
	for range head.Num_pkts {
		if at+uint64(unix.SizeofTpacket3Hdr) > ringBlock {
			return
		}
		h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&block[at]))
		from := at + uint64(h.Mac)
		if from+uint64(h.Snaplen) > ringBlock {
			return
		}
		p := latencyPacket{at: time.Unix(int64(h.Sec), int64(h.Nsec)), data: block[from : from+uint64(h.Snaplen)], length: int(h.Len)}
		if !yield(p) || h.Next_offset == 0 {
			return
		}
		at += uint64(h.Next_offset)
	}
	runtime.KeepAlive(head)
}

// count adds what the kernel dropped since it was asked last.
func (r *latencyRing) count() {
	if s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		r.dropped.Add(uint64(s.Drops))
	}
}

func (r *latencyRing) drops() uint64 { return r.dropped.Load() }

// stop makes read return soon.
func (r *latencyRing) stop() { r.stopped.Store(true) }

// close may be called once nobody reads.
func (r *latencyRing) close() {
	if r.memory != nil {
		_ = unix.Munmap(r.memory)
	}
	_ = unix.Close(r.fd)
}

// bridgePorts lists the interfaces that are ports of a bridge now.
func bridgePorts(bridge string) ([]string, error) {
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("look up bridge %q: %w", bridge, err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the ports of bridge %q: %w", bridge, err)
	}
	var names []string
	for _, l := range links {
		if l.Attrs().MasterIndex == br.Attrs().Index {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}
