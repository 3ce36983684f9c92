package netswitch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// bridgeSysctls is what the universe's bridge must have on the host. Without
// arp_ignore Linux answers there for any address the host has, among them
// production's gateway.
var bridgeSysctls = map[string]string{
	"ipv4/conf/%s/arp_ignore":   "8",
	"ipv6/conf/%s/disable_ipv6": "1",
}

const chainMemo = "memo" // holds the bridge's former sysctls in a rule's comment

// sealHost loads our tables of the host unless they are there, then sets the
// sysctls. The former values are in the same transaction as the tables, so that a
// crash cannot lose them.
func sealHost(spec UniverseSpec) error {
	c, err := openNFT(0)
	if err != nil {
		return err
	}
	t, err := findTable(c, nftables.TableFamilyINet, hostTable(spec.ID))
	if err != nil {
		return err
	}
	if t == nil {
		former, err := readBridgeSysctls(spec.Bridge)
		if err != nil {
			return err
		}
		if err := addHostTables(c, spec, former); err != nil {
			return err
		}
	}
	return writeBridgeSysctls(spec.Bridge, bridgeSysctls)
}

func readBridgeSysctls(bridge string) (map[string]string, error) {
	former := map[string]string{}
	for name := range bridgeSysctls {
		v, err := readSysctl(fmt.Sprintf(name, bridge))
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6 in this kernel
		}
		if err != nil {
			return nil, err
		}
		former[name] = v
	}
	return former, nil
}

func writeBridgeSysctls(bridge string, values map[string]string) error {
	for name, v := range values {
		err := writeSysctl(v, fmt.Sprintf(name, bridge))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func addHostTables(c *nftables.Conn, spec UniverseSpec, former map[string]string) error {
	memo, err := json.Marshal(former)
	if err != nil {
		return fmt.Errorf("encode former sysctls: %w", err)
	}
	addHostFilter(c, spec, memo)
	addHostNAT(c, spec)
	addBridgeGuard(c, spec)
	addHostARP(c, spec)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("load tables: %w", err)
	}
	return nil
}

// addHostFilter is the second barrier, independent of the namespace's own.
func addHostFilter(c *nftables.Conn, spec UniverseSpec, memo []byte) {
	bridge, transit := spec.Bridge, transitLink(spec.ID)
	t := freshTable(c, nftables.TableFamilyINet, hostTable(spec.ID))
	m := c.AddChain(&nftables.Chain{Name: chainMemo, Table: t})
	c.AddRule(&nftables.Rule{Table: t, Chain: m, Exprs: counter(),
		UserData: userdata.AppendString(nil, userdata.TypeComment, string(memo))})
	c.AddObj(&nftables.CounterObj{Table: t, Name: counterLeft})
	out := c.AddChain(&nftables.Chain{Name: chainOut, Table: t})

	filter, open := nftables.ChainTypeFilter, nftables.ChainPolicyAccept
	// With bridge-nf-call-iptables the universe's bridged frames pass here. Their
	// addresses are production's too, so they must never meet its conntrack entries.
	raw := baseChain(c, t, "raw", filter, nftables.ChainHookPrerouting, -310, open)
	addRules(c, raw, rule(iifname(bridge), notrack()))
	in := baseChain(c, t, "input", filter, nftables.ChainHookInput, -10, open)
	addRules(c, in,
		rule(iifname(bridge), counter(), drop()),
		rule(iifname(transit), ctReply(), ctKnown(), accept()),
		rule(iifname(transit), countIn(counterLeft), drop()),
	)
	fwd := baseChain(c, t, "forward", filter, nftables.ChainHookForward, -10, open)
	addRules(c, fwd,
		rule(iifname(bridge), notOifname(bridge), counter(), drop()),
		rule(oifname(bridge), notIifname(bridge), counter(), drop()),
		rule(iifname(transit), ctReply(), ctKnown(), accept()),
		rule(iifname(transit), jump(out.Name)),
		rule(iifname(transit), countIn(counterLeft), drop()),
	)
	output := baseChain(c, t, "output", filter, nftables.ChainHookOutput, -10, open)
	addRules(c, output, rule(oifname(bridge), counter(), drop()))
}

// addHostNAT hides clients whose addresses the universe has too: the host itself
// and production's VMs. Their answers would stay inside the universe. All other
// clients keep their addresses.
func addHostNAT(c *nftables.Conn, spec UniverseSpec) {
	t := freshTable(c, nftables.TableFamilyIPv4, hostTable(spec.ID))
	out := c.AddChain(&nftables.Chain{Name: chainOut, Table: t})
	post := baseChain(c, t, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 99, nftables.ChainPolicyAccept)
	for _, g := range spec.Gateways {
		addRules(c, post, rule(oifname(transitLink(spec.ID)), ip4In(ip4Src, g), masquerade()))
	}
	addRules(c, post, rule(jump(out.Name)))
}

// addBridgeGuard drops what the bridge hands up to the host, of any protocol.
func addBridgeGuard(c *nftables.Conn, spec UniverseSpec) {
	t := freshTable(c, nftables.TableFamilyNetdev, hostTable(spec.ID))
	prio, policy := nftables.ChainPriority(0), nftables.ChainPolicyAccept
	ch := c.AddChain(&nftables.Chain{Name: "to_host", Table: t, Type: nftables.ChainTypeFilter, Device: spec.Bridge,
		Hooknum: nftables.ChainHookIngress, Priority: &prio, Policy: &policy})
	addRules(c, ch, rule(counter(), drop()))
}

const arpOutput = 1 // NF_ARP_OUT

// addHostARP keeps the host from asking in the universe.
func addHostARP(c *nftables.Conn, spec UniverseSpec) {
	t := freshTable(c, nftables.TableFamilyARP, hostTable(spec.ID))
	prio, policy := nftables.ChainPriority(0), nftables.ChainPolicyAccept
	hook := nftables.ChainHookRef(arpOutput)
	ch := c.AddChain(&nftables.Chain{Name: "output", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: hook, Priority: &prio, Policy: &policy})
	addRules(c, ch, []expr.Any(rule(oifname(spec.Bridge), counter(), drop())))
}

// unsealHost gives the bridge its former sysctls and removes our tables. A bridge
// that is gone has taken its sysctls along.
func unsealHost(spec UniverseSpec) error {
	c, err := openNFT(0)
	if err != nil {
		return err
	}
	former, err := formerSysctls(c, spec.ID)
	if err == nil && spec.Bridge != "" {
		err = writeBridgeSysctls(spec.Bridge, former)
	}
	if err != nil {
		return err // the memo is kept for another try
	}
	var errs []error
	for _, f := range []nftables.TableFamily{
		nftables.TableFamilyNetdev, nftables.TableFamilyARP, nftables.TableFamilyIPv4, nftables.TableFamilyINet,
	} {
		errs = append(errs, dropTable(c, f, hostTable(spec.ID)))
	}
	return errors.Join(errs...)
}

func formerSysctls(c *nftables.Conn, id string) (map[string]string, error) {
	t, err := findTable(c, nftables.TableFamilyINet, hostTable(id))
	if err != nil || t == nil {
		return nil, err
	}
	rules, err := c.GetRules(t, &nftables.Chain{Name: chainMemo, Table: t})
	if err != nil {
		return nil, fmt.Errorf("read former sysctls: %w", err)
	}
	for _, r := range rules {
		memo, ok := userdata.GetString(r.UserData, userdata.TypeComment)
		if !ok {
			continue
		}
		former := map[string]string{}
		if err := json.Unmarshal([]byte(memo), &former); err != nil {
			return nil, fmt.Errorf("decode former sysctls: %w", err)
		}
		return allowed(former), nil
	}
	return nil, nil
}

// allowed keeps only the sysctls that we set, whatever the comment says.
func allowed(former map[string]string) map[string]string {
	kept := map[string]string{}
	for name := range bridgeSysctls {
		if v, ok := former[name]; ok {
			kept[name] = v
		}
	}
	return kept
}
