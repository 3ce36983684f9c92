package netswitch

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
)

// Publication makes a service inside the universe reachable at a port of the
// gateway namespace's transit address. Clients keep their own addresses.
type Publication struct {
	TransitPort uint16
	To          netip.AddrPort // the new front end, inside the universe
	Proto       Proto
}

// addPublishTable queues the table of publications, empty at first.
func addPublishTable(c *nftables.Conn) error {
	t := freshTable(c, nftables.TableFamilyIPv4, nsTable)
	pre := baseChain(c, t, "prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100, nftables.ChainPolicyAccept)
	for _, p := range []Proto{TCP, UDP} {
		m := endpointMap(t, "published_"+p.String())
		if err := c.AddSet(m, nil); err != nil {
			return fmt.Errorf("map %q: %w", m.Name, err)
		}
		addRules(c, pre, rule(iifname(ifTransit), dnatByMap(p.number(), m)))
	}
	post := baseChain(c, t, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100, nftables.ChainPolicyAccept)
	// Reached only by what AllowOutbound lets pass.
	addRules(c, post, rule(oifname(ifTransit), ctOriginal(), masquerade()))
	return nil
}

// Publish replaces the set of publications in one transaction. Connections that
// are open already stay where they are. The universe stays sealed: only replies of
// these services get out.
func (u *Universe) Publish(ctx context.Context, pubs []Publication) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	elems := map[Proto][]nftables.SetElement{}
	for _, p := range pubs {
		if !p.To.Addr().Is4() || p.To.Port() == 0 || p.TransitPort == 0 || !p.Proto.valid() {
			return fmt.Errorf("publish %s port %d to %s: want an IPv4 endpoint and ports", p.Proto, p.TransitPort, p.To)
		}
		elems[p.Proto] = append(elems[p.Proto], nftables.SetElement{
			Key: endpointKey(netip.AddrPortFrom(u.spec.Addr(), p.TransitPort)), Val: endpointKey(p.To),
		})
	}
	c, err := openNFT(int(u.ns))
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: nsTable, Family: nftables.TableFamilyIPv4}
	for _, p := range []Proto{TCP, UDP} {
		m := endpointMap(t, "published_"+p.String())
		c.FlushSet(m)
		if len(elems[p]) > 0 {
			if err := c.SetAddElements(m, elems[p]); err != nil {
				return fmt.Errorf("encode publications: %w", err)
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("publish in universe %q: %w", u.spec.Name, err)
	}
	u.spec.Log.Info("published", "netns", u.spec.Name, "services", len(pubs))
	return nil
}

// Unpublish takes all publications back.
func (u *Universe) Unpublish(ctx context.Context) error { return u.Publish(ctx, nil) }

// AllowOutbound opens or seals the universe for connections of its own. They
// appear with the host's address. Meant for after the switch, when the new version
// needs the outside as the old one did.
func (u *Universe) AllowOutbound(ctx context.Context, allow bool) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// Opened from the inside out, sealed from the outside in: at no time is the
	// host open for a namespace that is not meant to be.
	steps := []func(bool) error{u.allowInNS, u.allowOnHost}
	if !allow {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, step := range steps {
		if err := step(allow); err != nil {
			return fmt.Errorf("set outbound of universe %q to %t: %w", u.spec.Name, allow, err)
		}
	}
	u.spec.Log.Info("outbound", "netns", u.spec.Name, "allowed", allow)
	return nil
}

func (u *Universe) allowInNS(allow bool) error {
	c, err := openNFT(int(u.ns))
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: nsTable, Family: nftables.TableFamilyINet}
	out := &nftables.Chain{Name: chainOut, Table: t}
	c.FlushChain(out)
	if allow {
		addRules(c, out, rule(unicast(), accept()))
	}
	return c.Flush()
}

func (u *Universe) allowOnHost(allow bool) error {
	c, err := openNFT(0)
	if err != nil {
		return err
	}
	inet := &nftables.Chain{Name: chainOut, Table: &nftables.Table{Name: hostTable(u.spec.ID), Family: nftables.TableFamilyINet}}
	nat := &nftables.Chain{Name: chainOut, Table: &nftables.Table{Name: hostTable(u.spec.ID), Family: nftables.TableFamilyIPv4}}
	c.FlushChain(inet)
	c.FlushChain(nat)
	if allow {
		link := transitLink(u.spec.ID)
		addRules(c, inet, rule(iifname(link), accept()))
		addRules(c, nat, rule(ip4Addr(ip4Src, u.spec.Addr()), notOifname(link), masquerade()))
	}
	return c.Flush()
}
