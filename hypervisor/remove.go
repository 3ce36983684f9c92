package hypervisor

import (
	"context"
	"fmt"

	"libvirt.org/go/libvirt"
)

// Destroy ends a domain of ours at once, as if its power was cut. One that is
// already off or gone is fine; one that is not ours is [ErrNotOurs].
func (d *Domain) Destroy(ctx context.Context) error {
	if err := d.mustBeOurs(ctx); err != nil {
		return ignoreGone(err)
	}
	err := d.raw.Destroy()
	if err == nil || isCode(err, libvirt.ERR_OPERATION_INVALID, libvirt.ERR_NO_DOMAIN) {
		return nil
	}
	return fmt.Errorf("destroy domain %q: %w", d.name, err)
}

// Undefine removes the configuration of a domain of ours together with its
// NVRAM file and whatever else libvirt keeps for it; disk images stay.
func (d *Domain) Undefine(ctx context.Context) error {
	if err := d.mustBeOurs(ctx); err != nil {
		return ignoreGone(err)
	}
	flags := libvirt.DOMAIN_UNDEFINE_NVRAM | libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE |
		libvirt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
	err := d.raw.UndefineFlags(flags)
	if err == nil || isCode(err, libvirt.ERR_NO_DOMAIN) {
		return nil
	}
	return fmt.Errorf("undefine domain %q: %w", d.name, err)
}

// Remove destroys and undefines a domain of ours.
func (d *Domain) Remove(ctx context.Context) error {
	if err := d.Destroy(ctx); err != nil {
		return err
	}
	return d.Undefine(ctx)
}

// ignoreGone turns "no such domain" into success: gone is what was wanted.
func ignoreGone(err error) error {
	if isCode(err, libvirt.ERR_NO_DOMAIN) {
		return nil
	}
	return err
}

func (d *Domain) mustBeOurs(ctx context.Context) error {
	_, ours, err := d.IsOurs(ctx)
	if err != nil {
		return err
	}
	if !ours {
		return fmt.Errorf("domain %q: %w", d.name, ErrNotOurs)
	}
	return nil
}
