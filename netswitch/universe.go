package netswitch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/google/nftables"
	"github.com/vishvananda/netns"
)

// UniverseSpec describes the network of one universe. It is a plain value; the
// host is asked only when a Universe is opened, found or removed.
type UniverseSpec struct {
	// Name of the gateway namespace, mounted at /run/netns/<Name>.
	Name string
	// ID goes into the names of links and tables: 1 to 6 characters of a-z and 0-9.
	ID string
	// Bridge is the universe's bridge on the host. It must exist, without addresses.
	Bridge string
	// Gateways are production's gateway addresses with their subnets; the gateway
	// namespace takes them inside the universe. IPv4 only.
	Gateways []netip.Prefix
	// Transit is a /30 that nobody else uses: its first address is the host's, its
	// second the gateway namespace's.
	Transit netip.Prefix
	// Log receives what was made and removed. Required.
	Log *slog.Logger
}

// HostAddr is the host's address on the transit link.
func (s UniverseSpec) HostAddr() netip.Addr { return s.Transit.Masked().Addr().Next() }

// Addr is the gateway namespace's address on the transit link: what is published
// appears here, so it is the new side of the VIP map.
func (s UniverseSpec) Addr() netip.Addr { return s.HostAddr().Next() }

// Validate says everything that is wrong with the values, without asking the host.
func (s UniverseSpec) Validate() error {
	errs := []error{checkID(s.ID)}
	if s.Name == "" || s.Name == "." || s.Name == ".." || !validName.MatchString(s.Name) {
		errs = append(errs, fmt.Errorf("namespace name %q: want letters, digits, '.', '_' and '-'", s.Name))
	}
	if s.Bridge == "" || len(s.Bridge) > 15 {
		errs = append(errs, fmt.Errorf("bridge name %q: want 1 to 15 characters", s.Bridge))
	}
	if !s.Transit.Addr().Is4() || s.Transit.Bits() != 30 {
		errs = append(errs, fmt.Errorf("transit network %s: want an IPv4 /30", s.Transit))
	}
	if len(s.Gateways) == 0 {
		errs = append(errs, errors.New("gateways: want at least one address"))
	}
	for _, g := range s.Gateways {
		if !g.Addr().Is4() || g.Bits() > 30 || g.Addr() == g.Masked().Addr() {
			errs = append(errs, fmt.Errorf("gateway %s: want an IPv4 host address with its subnet", g))
		} else if g.Overlaps(s.Transit) {
			errs = append(errs, fmt.Errorf("gateway %s: overlaps the transit network %s", g, s.Transit))
		}
	}
	if s.Log == nil {
		errs = append(errs, errors.New("log: missing"))
	}
	return errors.Join(errs...)
}

// Universe is the gateway namespace of one universe: the only way in, and sealed
// towards the outside. Its state is in the kernel; the value holds only an open
// file of the namespace. Safe for concurrent use.
type Universe struct {
	spec UniverseSpec
	ns   netns.NsHandle
}

// Spec returns what the universe was opened with.
func (u *Universe) Spec() UniverseSpec { return u.spec }

// Close lets go of the namespace; it stays as it is.
func (u *Universe) Close() error { return u.ns.Close() }

// OpenUniverse makes the gateway namespace and seals it, or completes and returns
// the one that is there. The seal is in place before the first packet can pass.
// When it fails, RemoveUniverse takes away what was made.
func OpenUniverse(ctx context.Context, spec UniverseSpec) (*Universe, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("universe %q: %w", spec.Name, err)
	}
	if err := checkBridge(spec); err != nil {
		return nil, err
	}
	if err := checkTransit(spec); err != nil {
		return nil, err
	}
	if err := sealHost(spec); err != nil {
		return nil, fmt.Errorf("seal host against universe %q: %w", spec.Name, err)
	}
	h, err := openOrCreateNS(spec.Name)
	if err != nil {
		return nil, err
	}
	u := &Universe{spec: spec, ns: h}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"set sysctls of", u.setSysctls},
		{"seal", u.seal},
		{"link", u.link},
		{"wait for the links of", func() error { return waitUp(ctx, transitLink(spec.ID), bridgeLink(spec.ID)) }},
	} {
		if err := errors.Join(context.Cause(ctx), step.do()); err != nil {
			h.Close()
			return nil, fmt.Errorf("%s universe %q: %w", step.what, spec.Name, err)
		}
	}
	spec.Log.Info("universe is open", "netns", spec.Name, "bridge", spec.Bridge, "transit", spec.Addr())
	return u, nil
}

func openOrCreateNS(name string) (netns.NsHandle, error) {
	h, err := openNetNS(name)
	if err == nil {
		return h, checkOurs(h, name)
	}
	if !errors.Is(err, ErrNoUniverse) {
		return h, err
	}
	if err := createNetNS(name); err != nil {
		return netns.None(), err
	}
	return openNetNS(name)
}

// checkOurs refuses a namespace that somebody else made under the same name: one
// that has links but not our table.
func checkOurs(h netns.NsHandle, name string) error {
	c, err := openNFT(int(h))
	if err != nil {
		return err
	}
	t, err := findTable(c, nftables.TableFamilyINet, nsTable)
	if err != nil {
		return fmt.Errorf("look into namespace %q: %w", name, err)
	}
	if t != nil {
		return nil
	}
	foreign, err := hasForeignLinks(h)
	if err != nil {
		return fmt.Errorf("look into namespace %q: %w", name, err)
	}
	if foreign {
		return fmt.Errorf("namespace %q: %w", name, ErrForeign)
	}
	return nil
}

// FindUniverse returns the universe that is there, changing nothing; ErrNoUniverse
// when there is none.
func FindUniverse(ctx context.Context, spec UniverseSpec) (*Universe, error) {
	if err := errors.Join(context.Cause(ctx), spec.Validate()); err != nil {
		return nil, fmt.Errorf("universe %q: %w", spec.Name, err)
	}
	h, err := openNetNS(spec.Name)
	if err != nil {
		return nil, err
	}
	if err := checkOurs(h, spec.Name); err != nil {
		h.Close()
		return nil, err
	}
	return &Universe{spec: spec, ns: h}, nil
}

// RemoveUniverse takes away the namespace, its links, our tables on the host and
// gives the bridge its sysctls back. It may be repeated, and it touches nothing
// that does not carry our names. Client connections into the universe break. Do
// not call it during a hold: when the kernel removes a hook it drops all packets
// that wait in its queues.
func RemoveUniverse(ctx context.Context, spec UniverseSpec) error {
	if err := errors.Join(context.Cause(ctx), checkID(spec.ID)); err != nil {
		return fmt.Errorf("remove universe %q: %w", spec.Name, err)
	}
	err := errors.Join(
		removeLinks(spec.ID),
		removeNS(spec.Name),
		unsealHost(spec),
	)
	if err != nil {
		return fmt.Errorf("remove universe %q: %w", spec.Name, err)
	}
	if spec.Log != nil {
		spec.Log.Info("universe is removed", "netns", spec.Name)
	}
	return nil
}

func removeNS(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("namespace name %q is not valid", name)
	}
	h, err := openNetNS(name)
	if errors.Is(err, ErrNoUniverse) {
		return removeEmptyMountPoint(name)
	}
	if err != nil {
		return err
	}
	defer h.Close()
	if err := checkOurs(h, name); err != nil {
		return err
	}
	return deleteNetNS(name)
}
