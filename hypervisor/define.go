package hypervisor

import (
	"context"
	"errors"
	"fmt"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// Define registers a new domain that carries imago's mark. It refuses to
// replace a domain that exists and is not ours.
func (c *Conn) Define(ctx context.Context, dom *libvirtxml.Domain) (*Domain, error) {
	if err := c.mayDefine(ctx, dom); err != nil {
		return nil, err
	}
	text, err := dom.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write the XML of domain %q: %w", dom.Name, err)
	}
	raw, err := c.raw.DomainDefineXMLFlags(text, libvirt.DOMAIN_DEFINE_VALIDATE)
	if err != nil {
		return nil, fmt.Errorf("define domain %q: %w", dom.Name, err)
	}
	d, err := c.wrap(raw)
	if err != nil {
		return nil, err
	}
	if err := d.keptIdentity(ctx, dom); err != nil {
		return nil, errors.Join(err, d.Undefine(context.WithoutCancel(ctx)), d.Free())
	}
	return d, nil
}

func (c *Conn) mayDefine(ctx context.Context, dom *libvirtxml.Domain) error {
	if dom.Metadata == nil {
		return fmt.Errorf("define domain %q: its XML has no mark: %w", dom.Name, ErrNotOurs)
	}
	if _, ok := decodeMark(dom.Metadata.XML, Namespace, dom.UUID); !ok {
		return fmt.Errorf("define domain %q: its XML has no mark: %w", dom.Name, ErrNotOurs)
	}
	old, err := c.LookupDomain(dom.Name)
	if errors.Is(err, ErrNoDomain) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = old.Free() }()
	return old.mustBeOurs(ctx)
}

// keptIdentity asks whether libvirt understood <hwuuid>: one that does not
// know the element drops it silently, and the clone would have a new identity.
func (d *Domain) keptIdentity(ctx context.Context, want *libvirtxml.Domain) error {
	if want.HWUUID == "" {
		return nil
	}
	got, err := d.DescribeInactive(ctx)
	if err != nil {
		return err
	}
	if got.HWUUID != want.HWUUID {
		return fmt.Errorf("define domain %q: libvirt %s dropped the SMBIOS UUID %s", d.name, d.conn.Version(), want.HWUUID)
	}
	return nil
}

// StartDomain defines and starts a domain; if the start fails, the definition
// is removed again.
func (c *Conn) StartDomain(ctx context.Context, dom *libvirtxml.Domain) (*Domain, error) {
	d, err := c.Define(ctx, dom)
	if err != nil {
		return nil, err
	}
	if err := d.Start(ctx); err != nil {
		return nil, errors.Join(err, d.Undefine(context.WithoutCancel(ctx)), d.Free())
	}
	return d, nil
}
