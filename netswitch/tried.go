package netswitch

import (
	"context"
	"fmt"
	"net/netip"
	"sort"
	"strconv"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Attempt is what the universe tried to reach and could not: a hidden dependency.
type Attempt struct {
	Dst netip.Addr
	// Proto is tcp, udp, icmp, ...; "arp" is a neighbour that was asked for and
	// never spoke itself: a machine that the universe lacks.
	Proto   string
	Port    uint16 // 0 where the protocol has none
	Packets uint64
	Bytes   uint64
}

// Tried returns everything that tried to leave, the most frequent first, and the
// sum of its packets.
func (u *Universe) Tried(ctx context.Context) (attempts []Attempt, total uint64, err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, 0, err
	}
	c, err := openNFT(int(u.ns))
	if err != nil {
		return nil, 0, err
	}
	for _, read := range []func(*nftables.Conn) ([]Attempt, error){u.triedIPv4, u.triedIPv6, u.missedNeighbours} {
		more, err := read(c)
		if err != nil {
			return nil, 0, fmt.Errorf("read attempts of universe %q: %w", u.spec.Name, err)
		}
		attempts = append(attempts, more...)
	}
	for _, a := range attempts {
		total += a.Packets
	}
	sort.SliceStable(attempts, func(i, j int) bool { return attempts[i].Packets > attempts[j].Packets })
	return attempts, total, nil
}

func (u *Universe) triedIPv4(c *nftables.Conn) ([]Attempt, error) {
	return readTried(c, triedSet(&nftables.Table{Name: nsTable, Family: nftables.TableFamilyINet}), 4)
}

func (u *Universe) triedIPv6(c *nftables.Conn) ([]Attempt, error) {
	return readTried(c, tried6Set(&nftables.Table{Name: nsTable, Family: nftables.TableFamilyNetdev}), 16)
}

func readTried(c *nftables.Conn, set *nftables.Set, addrLen int) ([]Attempt, error) {
	elems, err := c.GetSetElements(set)
	if err != nil {
		return nil, fmt.Errorf("read set %q: %w", set.Name, err)
	}
	var out []Attempt
	for _, e := range elems {
		if len(e.Key) < addrLen+6 {
			continue
		}
		dst, _ := netip.AddrFromSlice(e.Key[:addrLen])
		a := Attempt{Dst: dst, Proto: protoName(e.Key[addrLen]), Port: uint16(e.Key[addrLen+4])<<8 | uint16(e.Key[addrLen+5])}
		if e.Counter != nil {
			a.Packets, a.Bytes = e.Counter.Packets, e.Counter.Bytes
		}
		out = append(out, a)
	}
	return out, nil
}

func protoName(p byte) string {
	switch p {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	case unix.IPPROTO_IGMP:
		return "igmp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_HOPOPTS:
		return "hopopt"
	default:
		return "ip-" + strconv.Itoa(int(p))
	}
}

func (u *Universe) missedNeighbours(c *nftables.Conn) ([]Attempt, error) {
	t := &nftables.Table{Name: nsTable, Family: nftables.TableFamilyNetdev}
	there := map[netip.Addr]bool{}
	for _, g := range u.spec.Gateways {
		there[g.Addr()] = true
	}
	present, err := c.GetSetElements(&nftables.Set{Table: t, Name: setPresent})
	if err != nil {
		return nil, fmt.Errorf("read set %q: %w", setPresent, err)
	}
	for _, e := range present {
		if a, ok := netip.AddrFromSlice(e.Key); ok {
			there[a] = true
		}
	}
	asked, err := c.GetSetElements(&nftables.Set{Table: t, Name: setAsked})
	if err != nil {
		return nil, fmt.Errorf("read set %q: %w", setAsked, err)
	}
	var out []Attempt
	for _, e := range asked {
		a, ok := netip.AddrFromSlice(e.Key)
		if !ok || there[a] || e.Counter == nil {
			continue
		}
		out = append(out, Attempt{Dst: a, Proto: "arp", Packets: e.Counter.Packets, Bytes: e.Counter.Bytes})
	}
	return out, nil
}

// PacketsLeft returns how many packets of the universe's own got out towards the
// host, replies to published services not among them. It must be 0 unless
// AllowOutbound was used. It is the largest of three independent counts: the
// namespace's, the host's table, and, while nothing was ever published, the
// transit link's.
func (u *Universe) PacketsLeft(ctx context.Context) (uint64, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	inside, err := readCounter(int(u.ns), nsTable, counterLeft)
	if err != nil {
		return 0, fmt.Errorf("packets that left universe %q: %w", u.spec.Name, err)
	}
	outside, err := readCounter(0, hostTable(u.spec.ID), counterLeft)
	if err != nil {
		return 0, fmt.Errorf("packets that left universe %q: %w", u.spec.Name, err)
	}
	onLink, err := u.transitPackets()
	if err != nil {
		return 0, fmt.Errorf("packets that left universe %q: %w", u.spec.Name, err)
	}
	return max(inside, outside, onLink), nil
}

func readCounter(nsfd int, table, name string) (uint64, error) {
	c, err := openNFT(nsfd)
	if err != nil {
		return 0, err
	}
	t := &nftables.Table{Name: table, Family: nftables.TableFamilyINet}
	obj, err := c.GetObject(&nftables.CounterObj{Table: t, Name: name})
	if err != nil {
		return 0, fmt.Errorf("read counter %q of table %q: %w", name, table, err)
	}
	counter, ok := obj.(*nftables.CounterObj)
	if !ok {
		return 0, fmt.Errorf("counter %q of table %q is a %T", name, table, obj)
	}
	return counter.Packets, nil
}

// transitPackets is what the host's end of the transit received that no client of
// a publication can explain: everything, as long as the host has sent nothing in.
func (u *Universe) transitPackets() (uint64, error) {
	l, err := netlink.LinkByName(transitLink(u.spec.ID))
	if err != nil {
		return 0, fmt.Errorf("find link %q: %w", transitLink(u.spec.ID), err)
	}
	s := l.Attrs().Statistics
	if s == nil || s.TxPackets > 0 {
		return 0, nil
	}
	return s.RxPackets, nil
}
