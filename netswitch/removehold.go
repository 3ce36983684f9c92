package netswitch

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"
)

// RemoveHold takes away what a hold of a dead process left: its rules let every
// packet pass already, since nobody reads their queue. It may be repeated.
func RemoveHold(ctx context.Context, id string) error {
	if err := errors.Join(context.Cause(ctx), checkID(id)); err != nil {
		return fmt.Errorf("remove hold %q: %w", id, err)
	}
	c, err := openNFT(0)
	if err != nil {
		return err
	}
	return dropTable(c, nftables.TableFamilyIPv4, holdTable(id))
}
