package snapshot

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// owner is the user and group that QEMU runs as.
type owner struct{ uid, gid int }

// qemuOwner reads the DAC label of a running domain, such as "+64055:+64055".
// nil means that it has none, so QEMU runs as whoever libvirtd is.
func qemuOwner(desc *libvirtxml.Domain) *owner {
	for _, l := range desc.SecLabel {
		if l.Model != "dac" {
			continue
		}
		user, group, ok := strings.Cut(l.Label, ":")
		uid, err1 := strconv.Atoi(strings.TrimPrefix(user, "+"))
		gid, err2 := strconv.Atoi(strings.TrimPrefix(group, "+"))
		if ok && err1 == nil && err2 == nil {
			return &owner{uid, gid}
		}
	}
	return nil
}

// own gives dir to QEMU, which makes its socket there itself.
func (o *owner) own(dir string) error {
	if o == nil || o.uid == os.Geteuid() {
		return nil
	}
	if err := os.Chown(dir, o.uid, o.gid); err != nil {
		return fmt.Errorf("give the socket's folder to QEMU: %w", err)
	}
	return nil
}
