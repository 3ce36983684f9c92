package snapshot

import (
	"context"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// agentChannel is the name of the port that the QEMU guest agent listens on.
const agentChannel = "org.qemu.guest_agent.0"

// thawPatience bounds how long we go on trying to thaw a guest.
const thawPatience = 60 * time.Second

// agentConnected tells whether libvirt sees a guest agent on the channel.
func agentConnected(desc *libvirtxml.Domain) bool {
	if desc.Devices == nil {
		return false
	}
	for i := range desc.Devices.Channels {
		t := desc.Devices.Channels[i].Target
		if t != nil && t.VirtIO != nil && t.VirtIO.Name == agentChannel {
			return t.VirtIO.State == "connected"
		}
	}
	return false
}

// freeze asks the guest to flush and stop its file systems. It sets vm.frozenAt
// before it asks, because a guest whose answer got lost may be frozen all the same.
func freeze(vm *vmView, timeout time.Duration) {
	vm.frozenAt = time.Now()
	seconds := max(1, int(timeout/time.Second))
	// Without a limit of its own libvirt waits for the agent for ever.
	if err := vm.dom.AgentSetResponseTimeout(seconds, 0); err != nil {
		vm.consistency = Consistency{Why: fmt.Sprintf("no time limit for the guest agent: %v", err)}
		return
	}
	if err := vm.dom.FSFreeze(nil, 0); err != nil {
		vm.consistency = Consistency{Why: fmt.Sprintf("the guest could not freeze its file systems: %v", err)}
		return
	}
	vm.consistency = Consistency{FileSystems: true}
}

// thaw lets the guest go on and tries until it does. A guest that is not
// frozen is fine.
func thaw(ctx context.Context, dom *libvirt.Domain) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), thawPatience)
	defer cancel()
	for {
		err := dom.FSThaw(nil, 0)
		if err == nil {
			break
		}
		if gone(dom) {
			return nil
		}
		if pause(ctx, pollEvery) != nil {
			return fmt.Errorf("thaw the guest's file systems: %w", err)
		}
	}
	// Back to libvirt's default. The thaw has succeeded; that is what counts.
	_ = dom.AgentSetResponseTimeout(int(libvirt.DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK), 0)
	return nil
}

// gone tells whether there is no guest any more that could be frozen.
func gone(dom *libvirt.Domain) bool {
	state, _, err := dom.GetState()
	if err != nil {
		return isCode(err, libvirt.ERR_NO_DOMAIN)
	}
	return state == libvirt.DOMAIN_SHUTOFF || state == libvirt.DOMAIN_CRASHED
}
