package netswitch

import (
	"errors"
	"fmt"
	"net/netip"
)

var (
	// ErrAmbiguous says that the kernel's answer to a change was lost and that
	// its state could not be read afterwards. Nothing was retried; look first.
	ErrAmbiguous = errors.New("outcome of the change is unknown")
	// ErrNoUniverse says that no gateway namespace of that name exists.
	ErrNoUniverse = errors.New("no such universe")
	// ErrForeign says that an object has our name but was not made by us.
	ErrForeign = errors.New("not made by imago")
	// ErrForwardingOff says that the host does not forward IPv4 packets.
	ErrForwardingOff = errors.New("net.ipv4.ip_forward is 0")
	// ErrHoldOver says that the hold was released already, by call or by its deadline.
	ErrHoldOver = errors.New("hold is over")
	// ErrNotDrained says that requests were still in flight on the old side at the end of the time.
	ErrNotDrained = errors.New("requests still in flight")
)

// BridgeError says why a bridge cannot carry a universe.
type BridgeError struct {
	Bridge string
	Reason string
	Hint   string
}

func (e *BridgeError) Error() string {
	return fmt.Sprintf("bridge %q cannot carry a universe: %s", e.Bridge, e.Reason)
}

// VIPError says why an address cannot serve as a VIP on this host.
type VIPError struct {
	VIP   netip.Addr
	Found string // what the host knows about the address
	Hint  string
}

func (e *VIPError) Error() string {
	return fmt.Sprintf("VIP %s is not an address of this host: %s", e.VIP, e.Found)
}

// MixedError says that the VIP map in the kernel is not what this process left there.
type MixedError struct {
	Table  string
	Reason string
}

func (e *MixedError) Error() string {
	return fmt.Sprintf("table %q was changed by somebody else: %s", e.Table, e.Reason)
}
