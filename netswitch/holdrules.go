package netswitch

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// Where a hold looks at packets: outside of conntrack and NAT, so that it sees the
// addresses that the client sees, conntrack sees what the server sees, and a held
// packet meets conntrack and the VIP map only when it is released.
const (
	holdRaw   = -310 // our own packets are kept out of conntrack
	holdIn    = -250 // before conntrack (-200)
	holdOut   = 110  // after source NAT (100)
	setHoldEP = "vips"
)

// queueTo is the xt NFQUEUE target, revision 3. It works also on kernels without
// the queue expression of nftables. With bypass, a queue that nobody reads accepts.
func queueTo(queue uint16) match {
	const bypass = 1
	info := make([]byte, 0, 8)
	for _, v := range []uint16{queue, 1, bypass, 0} {
		info = append(info, ne32(uint32(v))[:2]...)
	}
	if ne32(1)[0] == 0 { // big endian
		info = []byte{byte(queue >> 8), byte(queue), 0, 1, 0, bypass, 0, 0}
	}
	u := xt.Unknown(info)
	return match{&expr.Target{Name: "NFQUEUE", Rev: 3, Info: &u}}
}

// endpointIn matches packets whose address and port, at the given offsets, are in a set.
func endpointIn(proto byte, addrOffset, portOffset uint32, set *nftables.Set) match {
	return slices.Concat(l4proto(proto), match{
		payload(expr.PayloadBaseNetworkHeader, addrOffset, 4, reg),
		payload(expr.PayloadBaseTransportHeader, portOffset, 2, reg+1),
		&expr.Lookup{SourceRegister: reg, SetName: set.Name, SetID: set.ID},
	})
}

var holdChains = []string{"client_in", "client_out", "answer_out", "answer_in"}

// addHoldRules loads the hold's table in one transaction. The queue's reader must
// be there already.
func addHoldRules(spec HoldSpec) error {
	c, err := openNFT(0)
	if err != nil {
		return err
	}
	t := freshTable(c, nftables.TableFamilyIPv4, holdTable(spec.ID))
	filter, open := nftables.ChainTypeFilter, nftables.ChainPolicyAccept
	raw := baseChain(c, t, "own", filter, nftables.ChainHookOutput, holdRaw, open)
	chains := []*nftables.Chain{
		baseChain(c, t, holdChains[0], filter, nftables.ChainHookPrerouting, holdIn, open),
		baseChain(c, t, holdChains[1], filter, nftables.ChainHookOutput, holdIn, open),
		baseChain(c, t, holdChains[2], filter, nftables.ChainHookPostrouting, holdOut, open),
		baseChain(c, t, holdChains[3], filter, nftables.ChainHookInput, holdOut, open),
	}
	for _, p := range []Proto{TCP, UDP} {
		set, err := addVIPSet(c, t, p, spec.Services)
		if err != nil {
			return err
		}
		from, to := endpointIn(p.number(), ip4Src, portSrc, set), endpointIn(p.number(), ip4Dst, portDst, set)
		addRules(c, raw, rule(from, notrack()))
		addRules(c, chains[0], rule(to, queueTo(spec.Queue)))
		addRules(c, chains[1], rule(to, queueTo(spec.Queue)))
		addRules(c, chains[2], rule(ctUntracked(), accept()), rule(from, queueTo(spec.Queue)))
		addRules(c, chains[3], rule(ctUntracked(), accept()), rule(from, queueTo(spec.Queue)))
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("load table %q: %w", holdTable(spec.ID), err)
	}
	return nil
}

func addVIPSet(c *nftables.Conn, t *nftables.Table, p Proto, services []Service) (*nftables.Set, error) {
	set := &nftables.Set{Table: t, Name: setHoldEP + "_" + p.String(), Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}
	if err := c.AddSet(set, nil); err != nil {
		return nil, fmt.Errorf("set %q: %w", set.Name, err)
	}
	var elems []nftables.SetElement
	for _, s := range services {
		if s.Proto == p {
			elems = append(elems, nftables.SetElement{Key: endpointKey(s.VIP)})
		}
	}
	for len(elems) > 0 {
		n := min(len(elems), elementsPerMessage)
		if err := c.SetAddElements(set, elems[:n]); err != nil {
			return nil, fmt.Errorf("encode set %q: %w", set.Name, err)
		}
		elems = elems[n:]
	}
	return set, nil
}

// disarm removes the rules but keeps their hooks: when a hook goes, the kernel
// drops every packet that waits in a queue.
func disarm(id string) error {
	c, err := openNFT(0)
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: holdTable(id), Family: nftables.TableFamilyIPv4}
	for _, name := range holdChains {
		c.FlushChain(&nftables.Chain{Name: name, Table: t})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove rules of table %q: %w", t.Name, err)
	}
	return nil
}

func removeHoldTable(id string) error {
	c, err := openNFT(0)
	if err != nil {
		return err
	}
	return dropTable(c, nftables.TableFamilyIPv4, holdTable(id))
}
