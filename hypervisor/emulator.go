package hypervisor

import "fmt"

// firstGoodCX16 is QEMU 8.0, as libvirt counts versions.
const firstGoodCX16 = 8_000_000

// BrokenCX16 tells whether the host's QEMU emulates cmpxchg16b wrongly: before
// 8.0 TCG computes its flags from a stale state, and what an interrupt saves of
// them brings newer guest kernels (seen: Linux 6.12) down while they boot.
func (c *Conn) BrokenCX16() (bool, error) {
	v, err := c.raw.GetVersion()
	if err != nil {
		return false, fmt.Errorf("ask %q for its QEMU version: %w", c.uri, err)
	}
	return v < firstGoodCX16, nil
}

// EmulatorVersion is the version of the host's QEMU.
func (c *Conn) EmulatorVersion() (string, error) {
	v, err := c.raw.GetVersion()
	if err != nil {
		return "", fmt.Errorf("ask %q for its QEMU version: %w", c.uri, err)
	}
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1000%1000, v%1000), nil
}
