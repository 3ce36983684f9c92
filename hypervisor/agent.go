package hypervisor

import (
	"context"
	"fmt"
	"time"

	"libvirt.org/go/libvirtxml"
)

// agentChannel is the name of the port that the QEMU guest agent listens on.
const agentChannel = "org.qemu.guest_agent.0"

// AgentResponds tells whether the guest agent answers; [ErrNoAgent] if not. It
// asks only when libvirt sees the agent's end of the channel open, so a guest
// without agent costs nothing.
func (d *Domain) AgentResponds(ctx context.Context) error {
	desc, err := d.Describe(ctx)
	if err != nil {
		return err
	}
	if !agentConnected(desc) {
		return fmt.Errorf("domain %q: %w", d.name, ErrNoAgent)
	}
	answer := make(chan error, 1)
	go func() {
		_, _, err := d.raw.GetTime(0)
		answer <- err
	}()
	timeout := time.NewTimer(agentPatience)
	defer timeout.Stop()
	select {
	case err = <-answer:
	case <-timeout.C:
		err = fmt.Errorf("silent for %s", agentPatience)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("domain %q: %w: %v", d.name, ErrNoAgent, err)
	}
	return nil
}

// agentPatience is longer than libvirt's own 5 s for the agent's first answer.
const agentPatience = 8 * time.Second

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
