package hypervisor

import (
	"context"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// pollEvery is how often a state is asked for while waiting for a change.
const pollEvery = 200 * time.Millisecond

// Domain is one libvirt domain. Free it when done.
type Domain struct {
	conn *Conn
	raw  *libvirt.Domain
	name string
	uuid string
}

// wrap takes over the reference raw.
func (c *Conn) wrap(raw *libvirt.Domain) (*Domain, error) {
	name, err := raw.GetName()
	if err != nil {
		_ = raw.Free()
		return nil, fmt.Errorf("ask for a domain's name: %w", err)
	}
	uuid, err := raw.GetUUIDString()
	if err != nil {
		_ = raw.Free()
		return nil, fmt.Errorf("ask domain %q for its UUID: %w", name, err)
	}
	return &Domain{conn: c, raw: raw, name: name, uuid: uuid}, nil
}

// Name is the domain's name.
func (d *Domain) Name() string { return d.name }

// UUID is the domain's UUID in libvirt, in lower case.
func (d *Domain) UUID() string { return d.uuid }

// Raw gives the libvirt domain for what this package does not wrap.
func (d *Domain) Raw() *libvirt.Domain { return d.raw }

// Free gives the libvirt reference back; the domain itself is not affected.
func (d *Domain) Free() error { return d.raw.Free() }

// Describe reads the domain's XML: that of the running guest if it runs, else its configuration.
func (d *Domain) Describe(ctx context.Context) (*libvirtxml.Domain, error) {
	return d.describe(ctx, 0)
}

// DescribeInactive reads the configuration that the next start will use.
func (d *Domain) DescribeInactive(ctx context.Context) (*libvirtxml.Domain, error) {
	return d.describe(ctx, libvirt.DOMAIN_XML_INACTIVE)
}

func (d *Domain) describe(ctx context.Context, flags libvirt.DomainXMLFlags) (*libvirtxml.Domain, error) {
	text, err := d.xml(ctx, flags)
	if err != nil {
		return nil, err
	}
	dom := new(libvirtxml.Domain)
	if err := dom.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("parse the XML of domain %q: %w", d.name, err)
	}
	return dom, nil
}

func (d *Domain) xml(ctx context.Context, flags libvirt.DomainXMLFlags) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	text, err := d.raw.GetXMLDesc(flags)
	if err != nil {
		return "", fmt.Errorf("read the XML of domain %q: %w", d.name, err)
	}
	return text, nil
}

// State is a domain's state and the reason libvirt gives for it.
type State struct {
	State  libvirt.DomainState
	Reason int
}

// Running tells whether the guest's CPUs run.
func (s State) Running() bool { return s.State == libvirt.DOMAIN_RUNNING }

// Active tells whether a QEMU process exists for the domain.
func (s State) Active() bool {
	return s.State != libvirt.DOMAIN_SHUTOFF && s.State != libvirt.DOMAIN_NOSTATE
}

// Crashed tells whether the guest died rather than being shut down.
func (s State) Crashed() bool {
	return s.State == libvirt.DOMAIN_CRASHED ||
		s.State == libvirt.DOMAIN_SHUTOFF && (s.Reason == int(libvirt.DOMAIN_SHUTOFF_CRASHED) || s.Reason == int(libvirt.DOMAIN_SHUTOFF_FAILED))
}

// IOError tells whether the guest is paused because a disk failed.
func (s State) IOError() bool {
	return s.State == libvirt.DOMAIN_PAUSED && s.Reason == int(libvirt.DOMAIN_PAUSED_IOERROR)
}

var stateNames = map[libvirt.DomainState]string{
	libvirt.DOMAIN_NOSTATE: "unknown", libvirt.DOMAIN_RUNNING: "running", libvirt.DOMAIN_BLOCKED: "blocked",
	libvirt.DOMAIN_PAUSED: "paused", libvirt.DOMAIN_SHUTDOWN: "shutting down", libvirt.DOMAIN_SHUTOFF: "shut off",
	libvirt.DOMAIN_CRASHED: "crashed", libvirt.DOMAIN_PMSUSPENDED: "suspended",
}

func (s State) String() string {
	switch {
	case s.IOError():
		return "paused (I/O error)"
	case s.State == libvirt.DOMAIN_SHUTOFF && s.Crashed():
		return "shut off (crashed)"
	}
	return stateNames[s.State]
}

// State asks libvirt for the domain's state.
func (d *Domain) State() (State, error) {
	st, reason, err := d.raw.GetState()
	if err != nil {
		return State{}, fmt.Errorf("ask domain %q for its state: %w", d.name, err)
	}
	return State{State: st, Reason: reason}, nil
}

// Start boots the domain; one that already runs is left alone.
func (d *Domain) Start(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	st, err := d.State()
	if err != nil {
		return err
	}
	if st.Active() {
		return nil
	}
	if err := d.raw.Create(); err != nil {
		return fmt.Errorf("start domain %q: %w", d.name, err)
	}
	return nil
}

// Shutdown asks the guest to power off and waits at most timeout for it. It
// works on any domain, because retiring the old version is the operator's wish.
func (d *Domain) Shutdown(ctx context.Context, timeout time.Duration) error {
	st, err := d.State()
	if err != nil || !st.Active() {
		return err
	}
	if err := d.raw.Shutdown(); err != nil {
		return fmt.Errorf("shut down domain %q: %w", d.name, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("domain %q still runs %s after the shutdown request", d.name, timeout))
	defer cancel()
	return d.waitInactive(ctx)
}

func (d *Domain) waitInactive(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		st, err := d.State()
		if err != nil {
			return err
		}
		if !st.Active() {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
