package netswitch

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"
)

// RemoveAll takes away everything of a universe by name, after a crash or at the
// end: hold, VIP map, namespace, links, tables, sysctls. It may be repeated. Held
// clients go to what the host's own rules say.
func RemoveAll(ctx context.Context, spec UniverseSpec) error {
	if err := errors.Join(context.Cause(ctx), checkID(spec.ID)); err != nil {
		return fmt.Errorf("remove everything of universe %q: %w", spec.ID, err)
	}
	c, err := openNFT(0)
	if err != nil {
		return err
	}
	errs := []error{
		dropTable(c, nftables.TableFamilyIPv4, holdTable(spec.ID)),
		dropTable(c, nftables.TableFamilyIPv4, vipTable(spec.ID)),
	}
	if spec.Name != "" {
		errs = append(errs, RemoveUniverse(ctx, spec))
	} else {
		errs = append(errs, removeLinks(spec.ID), unsealHost(spec))
	}
	return errors.Join(errs...)
}
