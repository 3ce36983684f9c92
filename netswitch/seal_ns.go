package netswitch

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Names inside our tables in the gateway namespace.
const (
	setTried    = "tried"    // address . protocol . port of IPv4 packets that were stopped
	setTried6   = "tried6"   // the same for IPv6
	setAsked    = "asked"    // addresses that were asked for by ARP
	setPresent  = "present"  // addresses that spoke ARP themselves
	counterLeft = "left"     // packets of the universe's own that went out
	chainOut    = "outbound" // empty while sealed
	triedSize   = 65535      // elements; what comes after is still dropped and in the totals
)

// setSysctls makes the namespace a router that is silent by itself: no IPv6, no
// ARP answers for the addresses of its other link.
func (u *Universe) setSysctls() error {
	return inNetNS(u.ns, func() error {
		for _, link := range []string{"all", "default"} {
			if err := disableIPv6(link); err != nil {
				return err
			}
		}
		for _, s := range []struct{ value, name string }{
			{"1", "ip_forward"}, {"1", "conf/all/arp_ignore"}, {"2", "conf/all/arp_announce"},
			{"0", "conf/all/rp_filter"}, {"0", "conf/default/rp_filter"},
			{"0", "conf/all/send_redirects"}, {"0", "conf/default/send_redirects"},
			{"0", "conf/all/accept_redirects"}, {"0", "conf/default/accept_redirects"},
		} {
			if err := writeSysctl(s.value, "ipv4", s.name); err != nil {
				return err
			}
		}
		return nil
	})
}

// seal loads our tables into the namespace unless they are there: they come in
// one transaction, so they are whole or absent, and their counters are kept.
func (u *Universe) seal() error {
	c, err := openNFT(int(u.ns))
	if err != nil {
		return err
	}
	t, err := findTable(c, nftables.TableFamilyINet, nsTable)
	if err != nil || t != nil {
		return err
	}
	if err := addSealTable(c); err != nil {
		return err
	}
	if err := addPublishTable(c); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("load tables: %w", err)
	}
	return nil
}

func triedSet(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: setTried, Dynamic: true, Concatenation: true, Size: triedSize,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)}
}

func tried6Set(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: setTried6, Dynamic: true, Concatenation: true, Size: triedSize,
		KeyType: nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService)}
}

func addSealTable(c *nftables.Conn) error {
	t := freshTable(c, nftables.TableFamilyINet, nsTable)
	set := triedSet(t)
	if err := c.AddSet(set, nil); err != nil {
		return fmt.Errorf("set %q: %w", setTried, err)
	}
	c.AddObj(&nftables.CounterObj{Table: t, Name: counterLeft})
	out := c.AddChain(&nftables.Chain{Name: chainOut, Table: t})
	tried := c.AddChain(&nftables.Chain{Name: "tried", Table: t})
	addRules(c, tried, triedRules(set)...)

	filter := nftables.ChainTypeFilter
	pre := baseChain(c, t, "prerouting", filter, nftables.ChainHookPrerouting, -150, nftables.ChainPolicyAccept)
	addRules(c, pre,
		rule(iifname(ifUniverse), ctReply(), ctKnown(), accept()),
		rule(iifname(ifUniverse), jump(out.Name)),
		rule(iifname(ifUniverse), jump(tried.Name)),
		// Broadcast and multicast would be thrown away by routing, unseen.
		rule(iifname(ifUniverse), notUnicast(), counter(), drop()),
	)
	fwd := baseChain(c, t, "forward", filter, nftables.ChainHookForward, 0, nftables.ChainPolicyDrop)
	addRules(c, fwd,
		rule(iifname(ifTransit), oifname(ifUniverse), ctDNAT(), accept()),
		rule(iifname(ifTransit), oifname(ifUniverse), ctReply(), ctKnown(), accept()),
		rule(iifname(ifUniverse), oifname(ifTransit), ctReply(), ctKnown(), accept()),
		rule(iifname(ifUniverse), oifname(ifTransit), jump(out.Name)),
		rule(counter(), drop()),
	)
	in := baseChain(c, t, "input", filter, nftables.ChainHookInput, 0, nftables.ChainPolicyDrop)
	addRules(c, in,
		rule(iifname("lo"), accept()),
		rule(iifname(ifUniverse), ctReply(), ctKnown(), accept()),
		rule(counter(), drop()),
	)
	output := baseChain(c, t, "output", filter, nftables.ChainHookOutput, 0, nftables.ChainPolicyDrop)
	addRules(c, output,
		rule(oifname("lo"), accept()),
		rule(oifname(ifUniverse), accept()),
		rule(oifname(ifTransit), ctKnown(), accept()), // ICMP errors about published connections
		rule(counter(), drop()),
	)
	post := baseChain(c, t, "postrouting", filter, nftables.ChainHookPostrouting, 300, nftables.ChainPolicyAccept)
	addRules(c, post, rule(oifname(ifTransit), ctOriginal(), countIn(counterLeft)))
	return nil
}

// triedRules count by destination, protocol and, where the protocol has one, port.
func triedRules(set *nftables.Set) [][]expr.Any {
	key := match{
		payload(expr.PayloadBaseNetworkHeader, ip4Dst, 4, reg),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg + 1},
	}
	port := match{payload(expr.PayloadBaseTransportHeader, portDst, 2, reg+2)}
	noPort := match{&expr.Immediate{Register: reg + 2, Data: be16(0)}}
	done := match{&expr.Verdict{Kind: expr.VerdictReturn}}
	var rules [][]expr.Any
	for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		rules = append(rules, rule(nfproto(unix.NFPROTO_IPV4), l4proto(p), key, port, addTo(set), done))
	}
	return append(rules, rule(nfproto(unix.NFPROTO_IPV4), key, noPort, addTo(set)))
}

// watchFrames counts what never reaches the IP layer of the namespace: IPv6, which
// is disabled there, and ARP requests, which name the neighbours that guests miss.
func (u *Universe) watchFrames() error {
	c, err := openNFT(int(u.ns))
	if err != nil {
		return err
	}
	old, err := findTable(c, nftables.TableFamilyNetdev, nsTable)
	if err != nil || old != nil {
		return err
	}
	t := freshTable(c, nftables.TableFamilyNetdev, nsTable)
	addrs := func(name string) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, Dynamic: true, Size: triedSize, KeyType: nftables.TypeIPAddr}
	}
	asked, present, tried6 := addrs(setAsked), addrs(setPresent), tried6Set(t)
	for _, s := range []*nftables.Set{asked, present, tried6} {
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("set %q: %w", s.Name, err)
		}
	}
	prio, policy := nftables.ChainPriority(0), nftables.ChainPolicyAccept
	ch := c.AddChain(&nftables.Chain{Name: "frames", Table: t, Type: nftables.ChainTypeFilter, Device: ifUniverse,
		Hooknum: nftables.ChainHookIngress, Priority: &prio, Policy: &policy})
	addRules(c, ch,
		rule(etherType(unix.ETH_P_ARP), arpField(14), addTo(present)),
		rule(etherType(unix.ETH_P_ARP), arpRequest(), arpField(24), addTo(asked)),
		rule(etherType(unix.ETH_P_IPV6), ip6Key(unix.IPPROTO_TCP), addTo(tried6), drop()),
		rule(etherType(unix.ETH_P_IPV6), ip6Key(unix.IPPROTO_UDP), addTo(tried6), drop()),
		rule(etherType(unix.ETH_P_IPV6), ip6Key(0), addTo(tried6), drop()),
	)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("load frame counters: %w", err)
	}
	return nil
}

func etherType(t uint16) match {
	return match{payload(expr.PayloadBaseLLHeader, 12, 2, reg), cmp(expr.CmpOpEq, be16(t))}
}

func arpRequest() match {
	return match{payload(expr.PayloadBaseNetworkHeader, 6, 2, reg), cmp(expr.CmpOpEq, be16(1))}
}

// arpField loads one of the IPv4 addresses of an ARP packet as a key.
func arpField(offset uint32) match {
	return match{payload(expr.PayloadBaseNetworkHeader, offset, 4, reg)}
}

// ip6Key loads destination, next header and port; proto 0 matches any and takes no port.
func ip6Key(proto byte) match {
	next := payload(expr.PayloadBaseNetworkHeader, 6, 1, reg)
	dst := payload(expr.PayloadBaseNetworkHeader, 24, 16, reg)
	nextKey := payload(expr.PayloadBaseNetworkHeader, 6, 1, reg+4)
	if proto == 0 {
		return match{dst, nextKey, &expr.Immediate{Register: reg + 5, Data: be16(0)}}
	}
	// No extension headers in between, so the ports follow the fixed 40 bytes.
	port := payload(expr.PayloadBaseNetworkHeader, 42, 2, reg+5)
	return match{next, cmp(expr.CmpOpEq, []byte{proto}), dst, nextKey, port}
}
