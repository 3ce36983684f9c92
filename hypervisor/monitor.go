package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
)

// ErrNoMonitor says that QMP cannot be reached from here: only over the local
// daemon's unix socket.
var ErrNoMonitor = errors.New("no way to the QEMU monitor")

// monitorPatience bounds one QMP command.
const monitorPatience = 20 * time.Second

// defaultSockets are where libvirt's QEMU daemon listens for root.
var defaultSockets = []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"}

// AnnounceSelf makes the guest's NICs announce their addresses (gratuitous ARP
// and RARP), so that switches learn a moved NIC at once. Only for domains of
// ours: QMP passthrough marks a domain as tainted.
func (d *Domain) AnnounceSelf(ctx context.Context) error {
	_, err := d.qmp(ctx, "announce-self", map[string]int{"initial": 50, "max": 550, "rounds": 5, "step": 50})
	return err
}

// BlockNode is one node of QEMU's block graph.
type BlockNode struct {
	Name     string `json:"node-name"`
	Driver   string `json:"drv"`
	File     string `json:"file"`
	ReadOnly bool   `json:"ro"`
}

// BlockNodes lists the block graph of a domain of ours, as QEMU sees it.
func (d *Domain) BlockNodes(ctx context.Context) ([]BlockNode, error) {
	out, err := d.qmp(ctx, "query-named-block-nodes", map[string]bool{"flat": true})
	if err != nil {
		return nil, err
	}
	var nodes []BlockNode
	if err := json.Unmarshal(out, &nodes); err != nil {
		return nil, fmt.Errorf("parse the block nodes of domain %q: %w", d.name, err)
	}
	return nodes, nil
}

// qmp runs one command for which libvirt has no call, on a domain of ours.
func (d *Domain) qmp(ctx context.Context, command string, args any) (json.RawMessage, error) {
	if err := d.mustBeOurs(ctx); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(map[string]any{"execute": command, "arguments": args})
	if err != nil {
		return nil, fmt.Errorf("write QMP command %s: %w", command, err)
	}
	answer, err := d.runQMP(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("QMP %s on domain %q: %w", command, d.name, err)
	}
	var reply struct {
		Return json.RawMessage               `json:"return"`
		Error  *struct{ Class, Desc string } `json:"error"`
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return nil, fmt.Errorf("QMP %s on domain %q: parse the answer: %w", command, d.name, err)
	}
	if reply.Error != nil {
		return nil, fmt.Errorf("QMP %s on domain %q: %s", command, d.name, reply.Error.Desc)
	}
	return reply.Return, nil
}

func (d *Domain) runQMP(ctx context.Context, command []byte) ([]byte, error) {
	conn, err := dialLibvirt(ctx, d.conn.uri)
	if err != nil {
		return nil, err
	}
	// The connection's deadline is what ends a call that hangs: go-qemu takes no context.
	_ = conn.SetDeadline(time.Now().Add(monitorPatience))
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	mon := qmp.NewLibvirtRPCMonitor(d.name, conn)
	if err := mon.Connect(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	out, err := mon.Run(command)
	return out, errors.Join(err, mon.Disconnect())
}

// dialLibvirt opens the daemon's unix socket that a URI means.
func dialLibvirt(ctx context.Context, uri string) (net.Conn, error) {
	paths, err := socketPaths(uri)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		conn, err := (&net.Dialer{Timeout: monitorPatience}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func socketPaths(uri string) ([]string, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("libvirt URI %q: %w", uri, err)
	}
	if u.Host != "" || u.Path != "/system" || u.Scheme != "qemu" && u.Scheme != "qemu+unix" {
		return nil, fmt.Errorf("libvirt URI %q: %w", uri, ErrNoMonitor)
	}
	if s := u.Query().Get("socket"); s != "" {
		return []string{s}, nil
	}
	return defaultSockets, nil
}
