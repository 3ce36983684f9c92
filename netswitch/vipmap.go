package netswitch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// vipPriority precedes an administrator's own DNAT rules at dstnat (-100), which
// stay in place and serve again when our table is gone.
const vipPriority = -101

// VIPMap decides which version the clients reach. Its truth is in the kernel, in
// one nftables table of our own, and outlives this process: a VIPMap made anew
// from the same services takes over. Safe for concurrent use.
type VIPMap struct {
	id       string
	services []Service
	log      *slog.Logger
}

// NewVIPMap names the map of a universe; it asks and changes nothing.
func NewVIPMap(id string, services []Service, log *slog.Logger) (*VIPMap, error) {
	if err := errors.Join(checkID(id), checkServices(services)); err != nil {
		return nil, fmt.Errorf("VIP map: %w", err)
	}
	if log == nil {
		return nil, errors.New("VIP map: log: missing")
	}
	return &VIPMap{id: id, services: append([]Service(nil), services...), log: log}, nil
}

// Services returns what the map serves.
func (m *VIPMap) Services() []Service { return append([]Service(nil), m.services...) }

// InstallVIPMap checks every VIP and that the host forwards, then makes the map,
// pointing at the old side. One that is there already and holds the same services
// is kept as it is, whichever side it points at.
func InstallVIPMap(ctx context.Context, id string, services []Service, log *slog.Logger) (*VIPMap, error) {
	m, err := NewVIPMap(id, services, log)
	if err != nil {
		return nil, err
	}
	for _, s := range services {
		if err := CheckVIP(ctx, s.VIP.Addr()); err != nil {
			return nil, fmt.Errorf("service %q: %w", s.Name, err)
		}
	}
	if v, err := readSysctl("ipv4", "ip_forward"); err != nil || v != "1" {
		return nil, errors.Join(fmt.Errorf("install VIP map: %w", ErrForwardingOff), err)
	}
	side, err := m.Side(ctx)
	if err != nil {
		return nil, err
	}
	switch side {
	case Old, New:
		return m, nil
	case Mixed:
		return nil, &MixedError{vipTable(id), "it holds other services or targets; remove it or flip it first"}
	}
	return m, m.create()
}

func (m *VIPMap) table() *nftables.Table {
	return &nftables.Table{Name: vipTable(m.id), Family: nftables.TableFamilyIPv4}
}

// mapName avoids the bare protocol's name, a word of nft's own language.
func mapName(p Proto) string { return "vip_" + p.String() }

func (m *VIPMap) create() error {
	c, err := openNFT(0)
	if err != nil {
		return err
	}
	t := freshTable(c, nftables.TableFamilyIPv4, vipTable(m.id))
	pre := baseChain(c, t, "prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, vipPriority, nftables.ChainPolicyAccept)
	out := baseChain(c, t, "output", nftables.ChainTypeNAT, nftables.ChainHookOutput, vipPriority, nftables.ChainPolicyAccept)
	for _, p := range []Proto{TCP, UDP} {
		set := endpointMap(t, mapName(p))
		if err := c.AddSet(set, nil); err != nil {
			return fmt.Errorf("map %q: %w", set.Name, err)
		}
		for elems := m.wanted(p, Old); len(elems) > 0; {
			n := min(len(elems), elementsPerMessage)
			if err := c.SetAddElements(set, setElements(elems[:n])); err != nil {
				return fmt.Errorf("encode map %q: %w", set.Name, err)
			}
			elems = elems[n:]
		}
		addRules(c, pre, rule(dnatByMap(p.number(), set)))
		addRules(c, out, rule(dnatByMap(p.number(), set)))
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("install VIP map %q: %w", vipTable(m.id), err)
	}
	m.log.Info("VIP map is installed", "table", vipTable(m.id), "services", len(m.services), "side", Old)
	return nil
}

func (m *VIPMap) wanted(p Proto, side Side) []element {
	var out []element
	for _, s := range m.services {
		if s.Proto == p {
			out = append(out, element{endpointKey(s.VIP), endpointKey(s.target(side))})
		}
	}
	return out
}

func setElements(elems []element) []nftables.SetElement {
	out := make([]nftables.SetElement, len(elems))
	for i, e := range elems {
		out[i] = nftables.SetElement{Key: e.key, Val: e.val}
	}
	return out
}

// flipTries bounds how often a flip is built anew because somebody else changed
// the ruleset at the same time.
const flipTries = 20

// Flip points all services at one side, in one kernel transaction: no packet sees
// a part of it. It is built upon the generation of the ruleset that was read and
// refused by the kernel when that has moved, then built anew. Afterwards the map
// is read back and compared. ErrAmbiguous means that its state is not known.
//
// Connections that are open stay where they are; see Hold and DropOldFlows.
func (m *VIPMap) Flip(ctx context.Context, to Side) error {
	if to != Old && to != New {
		return fmt.Errorf("flip VIP map to %s: want old or new", to)
	}
	started := time.Now()
	var err error
	for range flipTries {
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("flip VIP map to %s: %w", to, cause)
		}
		if err = m.tryFlip(to); !errors.Is(err, errGeneration) {
			break
		}
	}
	if errors.Is(err, errGeneration) {
		return fmt.Errorf("flip VIP map to %s: others keep changing the ruleset: %w", to, err)
	}
	// Whatever the answer was, what counts is what the kernel has now.
	side, readErr := m.Side(context.WithoutCancel(ctx))
	switch {
	case readErr != nil:
		return fmt.Errorf("flip VIP map to %s: %w", to, errors.Join(ErrAmbiguous, err, readErr))
	case side == to:
		m.log.Info("VIP map is flipped", "table", vipTable(m.id), "side", to, "took", time.Since(started))
		return nil
	case err != nil:
		return fmt.Errorf("flip VIP map to %s, it is %s: %w", to, side, err)
	}
	return fmt.Errorf("flip VIP map to %s: %w", to, &MixedError{vipTable(m.id), "it reads " + side.String() + " after the flip"})
}

func (m *VIPMap) tryFlip(to Side) error {
	b, err := newBatch()
	if err != nil {
		return err
	}
	defer b.close()
	for _, p := range []Proto{TCP, UDP} {
		have, err := m.elements(p)
		if err != nil {
			return err
		}
		var gone []element
		for _, e := range have {
			gone = append(gone, element{key: e.Key})
		}
		if err := b.remove(unix.NFPROTO_IPV4, vipTable(m.id), mapName(p), gone); err != nil {
			return err
		}
		if err := b.add(unix.NFPROTO_IPV4, vipTable(m.id), mapName(p), m.wanted(p, to)); err != nil {
			return err
		}
	}
	return b.commit()
}

func (m *VIPMap) elements(p Proto) ([]nftables.SetElement, error) {
	c, err := openNFT(0)
	if err != nil {
		return nil, err
	}
	elems, err := c.GetSetElements(endpointMap(m.table(), mapName(p)))
	if err != nil {
		return nil, fmt.Errorf("read VIP map %q: %w", vipTable(m.id), err)
	}
	return elems, nil
}

// Side reads from the kernel where the map points. Mixed also means that it holds
// services which are not ours, or lacks some.
func (m *VIPMap) Side(ctx context.Context) (Side, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	c, err := openNFT(0)
	if err != nil {
		return 0, err
	}
	t, err := findTable(c, nftables.TableFamilyIPv4, vipTable(m.id))
	if err != nil {
		return 0, err
	}
	if t == nil {
		return Absent, nil
	}
	isOld, isNew := true, true
	for _, p := range []Proto{TCP, UDP} {
		have, err := m.elements(p)
		if err != nil {
			return 0, err
		}
		isOld = isOld && sameElements(have, m.wanted(p, Old))
		isNew = isNew && sameElements(have, m.wanted(p, New))
	}
	switch {
	case isOld:
		return Old, nil
	case isNew:
		return New, nil
	}
	return Mixed, nil
}

func sameElements(have []nftables.SetElement, want []element) bool {
	if len(have) != len(want) {
		return false
	}
	byKey := make(map[string][]byte, len(have))
	for _, e := range have {
		byKey[string(e.Key)] = e.Val
	}
	for _, e := range want {
		if v, ok := byKey[string(e.key)]; !ok || !bytes.Equal(v, e.val) {
			return false
		}
	}
	return true
}

// Targets reads from the kernel where each endpoint goes, by protocol.
func (m *VIPMap) Targets(ctx context.Context) (map[Proto]map[netip.AddrPort]netip.AddrPort, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	out := map[Proto]map[netip.AddrPort]netip.AddrPort{}
	for _, p := range []Proto{TCP, UDP} {
		elems, err := m.elements(p)
		if err != nil {
			return nil, err
		}
		out[p] = map[netip.AddrPort]netip.AddrPort{}
		for _, e := range elems {
			from, ok1 := endpointFromKey(e.Key)
			to, ok2 := endpointFromKey(e.Val)
			if ok1 && ok2 {
				out[p][from] = to
			}
		}
	}
	return out, nil
}

// Remove takes the map away; then the host's own rules decide again. It may be repeated.
func (m *VIPMap) Remove(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	c, err := openNFT(0)
	if err != nil {
		return err
	}
	if err := dropTable(c, nftables.TableFamilyIPv4, vipTable(m.id)); err != nil {
		return err
	}
	m.log.Info("VIP map is removed", "table", vipTable(m.id))
	return nil
}
