package netswitch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// netlinkBuffer is large enough for one transaction of some ten thousand map
// elements; the default refuses it with "message too long".
const netlinkBuffer = 16 << 20

// openNFT returns a connection to nftables of a network namespace, given as an
// open file; 0 is the namespace of this process.
func openNFT(nsfd int) (*nftables.Conn, error) {
	opts := []nftables.ConnOption{nftables.WithSockOptions(largeBuffers)}
	if nsfd > 0 {
		opts = append(opts, nftables.WithNetNSFd(nsfd))
	}
	c, err := nftables.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return c, nil
}

func largeBuffers(c *mdnetlink.Conn) error {
	if err := c.SetWriteBuffer(netlinkBuffer); err != nil {
		return fmt.Errorf("set netlink write buffer: %w", err)
	}
	if err := c.SetReadBuffer(netlinkBuffer); err != nil {
		return fmt.Errorf("set netlink read buffer: %w", err)
	}
	return nil
}

// findTable returns the table, or nil when there is none.
func findTable(c *nftables.Conn, family nftables.TableFamily, name string) (*nftables.Table, error) {
	tables, err := c.ListTablesOfFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == name {
			return t, nil
		}
	}
	return nil, nil
}

// dropTable removes a table in one transaction, whether it exists or not.
func dropTable(c *nftables.Conn, family nftables.TableFamily, name string) error {
	t, err := findTable(c, family, name)
	if err != nil || t == nil {
		return err
	}
	c.DelTable(&nftables.Table{Name: name, Family: family})
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove nftables table %q: %w", name, err)
	}
	return nil
}

// freshTable queues the replacement of a whole table: it is added first so that
// the removal cannot fail.
func freshTable(c *nftables.Conn, family nftables.TableFamily, name string) *nftables.Table {
	t := &nftables.Table{Name: name, Family: family}
	c.AddTable(t)
	c.DelTable(t)
	return c.AddTable(&nftables.Table{Name: name, Family: family})
}

// match is a part of a rule: some expressions that belong together.
type match []expr.Any

func rule(parts ...match) []expr.Any { return slices.Concat(parts...) }

const reg = 8 // NFT_REG32_00; concatenations use the registers after it

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func ne32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func cmp(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: reg, Data: data}
}

func ifnameBytes(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func iifname(name string) match {
	return match{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg}, cmp(expr.CmpOpEq, ifnameBytes(name))}
}

func notIifname(name string) match {
	return match{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg}, cmp(expr.CmpOpNeq, ifnameBytes(name))}
}

func oifname(name string) match {
	return match{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg}, cmp(expr.CmpOpEq, ifnameBytes(name))}
}

func notOifname(name string) match {
	return match{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg}, cmp(expr.CmpOpNeq, ifnameBytes(name))}
}

func nfproto(p byte) match {
	return match{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg}, cmp(expr.CmpOpEq, []byte{p})}
}

func l4proto(p byte) match {
	return match{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, cmp(expr.CmpOpEq, []byte{p})}
}

// unicast matches packets that the link layer addressed to this machine alone.
func unicast() match {
	return match{&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: reg}, cmp(expr.CmpOpEq, []byte{unix.PACKET_HOST})}
}

func notUnicast() match {
	return match{&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: reg}, cmp(expr.CmpOpNeq, []byte{unix.PACKET_HOST})}
}

func ctBits(key expr.CtKey, bits uint32) match {
	return match{
		&expr.Ct{Key: key, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: ne32(bits), Xor: ne32(0)},
		cmp(expr.CmpOpNeq, ne32(0)),
	}
}

// ctKnown matches packets of connections that were seen before, and errors about them.
func ctKnown() match {
	return ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

func ctUntracked() match { return ctBits(expr.CtKeySTATE, expr.CtStateBitUNTRACKED) }

const ipsDstNAT = 1 << 5 // IPS_DST_NAT of the kernel's conntrack status

func ctDNAT() match { return ctBits(expr.CtKeySTATUS, ipsDstNAT) }

func ctDirection(dir byte) match {
	return match{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: reg}, cmp(expr.CmpOpEq, []byte{dir})}
}

func ctOriginal() match { return ctDirection(0) }
func ctReply() match    { return ctDirection(1) }

func payload(base expr.PayloadBase, offset, length, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: length}
}

// Offsets in the IPv4 header.
const (
	ip4Src = 12
	ip4Dst = 16
)

func ip4Addr(offset uint32, a netip.Addr) match {
	return match{payload(expr.PayloadBaseNetworkHeader, offset, 4, reg), cmp(expr.CmpOpEq, a.AsSlice())}
}

func ip4In(offset uint32, p netip.Prefix) match {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return match{
		payload(expr.PayloadBaseNetworkHeader, offset, 4, reg),
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		cmp(expr.CmpOpEq, p.Masked().Addr().AsSlice()),
	}
}

// Offsets in the transport header, the same for TCP and UDP.
const (
	portSrc = 0
	portDst = 2
)

func counter() match { return match{&expr.Counter{}} }
func countIn(name string) match {
	return match{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}}
}
func drop() match       { return match{&expr.Verdict{Kind: expr.VerdictDrop}} }
func accept() match     { return match{&expr.Verdict{Kind: expr.VerdictAccept}} }
func notrack() match    { return match{&expr.Notrack{}} }
func masquerade() match { return match{&expr.Masq{}} }
func jump(chain string) match {
	return match{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// addTo counts the packet in an element of a dynamic set. The key must lie in
// the registers from reg on.
func addTo(set *nftables.Set) match {
	return match{&expr.Dynset{
		SrcRegKey: reg, SetName: set.Name, SetID: set.ID,
		Operation: unix.NFT_DYNSET_OP_ADD, Exprs: []expr.Any{&expr.Counter{}},
	}}
}

// dnatByMap rewrites the destination by a map "address . port -> address . port"
// when the packet's destination is one of its keys.
func dnatByMap(proto byte, m *nftables.Set) match {
	return slices.Concat(l4proto(proto), match{
		payload(expr.PayloadBaseNetworkHeader, ip4Dst, 4, reg),
		payload(expr.PayloadBaseTransportHeader, portDst, 2, reg+1),
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg, RegProtoMin: reg + 1},
	})
}

// endpointKey encodes "address . port" as nftables keeps it: each part padded to 4 bytes.
func endpointKey(ap netip.AddrPort) []byte {
	b := append([]byte(nil), ap.Addr().AsSlice()...)
	return append(b, byte(ap.Port()>>8), byte(ap.Port()), 0, 0)
}

func endpointFromKey(b []byte) (netip.AddrPort, bool) {
	if len(b) < 6 {
		return netip.AddrPort{}, false
	}
	a, ok := netip.AddrFromSlice(b[:4])
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[4:6])), ok
}

// endpointMap describes a map from endpoint to endpoint.
func endpointMap(t *nftables.Table, name string) *nftables.Set {
	key := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	return &nftables.Set{Table: t, Name: name, IsMap: true, Concatenation: true, KeyType: key, DataType: key}
}

// baseChain queues a chain that hangs on a hook of the network stack.
func baseChain(c *nftables.Conn, t *nftables.Table, name string, kind nftables.ChainType, hook *nftables.ChainHook, prio int, policy nftables.ChainPolicy) *nftables.Chain {
	p := nftables.ChainPriority(prio)
	return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: &p, Policy: &policy})
}

func addRules(c *nftables.Conn, ch *nftables.Chain, rules ...[]expr.Any) {
	for _, r := range rules {
		c.AddRule(&nftables.Rule{Table: ch.Table, Chain: ch, Exprs: r})
	}
}
