package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// qemuConf lets QEMU run as root without cgroups, AppArmor or own mounts: the
// lab's namespaces are the fence, and no systemd is there to make cgroups.
const qemuConf = `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
`

const libvirtdConf = `auth_unix_rw = "none"
unix_sock_group = "root"
log_outputs = "2:stderr"
`

// Socket is libvirtd's socket in the lab's mount namespace.
const Socket = "/run/libvirt/libvirt-sock"

// mountHost gives the lab its own view of what libvirt keeps on a host.
func mountHost(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for _, m := range []struct{ fs, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}} {
		if err := unix.Mount(m.fs, m.at, m.fs, 0, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fs, m.at, err)
		}
	}
	for _, at := range []string{"/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/var/lib/imago"} {
		src := filepath.Join(dir, "host", at)
		if err := os.MkdirAll(src, 0o755); err != nil {
			return err
		}
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(src, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", at, err)
		}
	}
	for _, d := range []string{"/run/libvirt", "/run/netns", "/run/lock", "/var/lib/libvirt/dnsmasq", "/var/lib/libvirt/qemu"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/etc/libvirt/qemu.conf", []byte(qemuConf), 0o600); err != nil {
		return err
	}
	return os.WriteFile("/etc/libvirt/libvirtd.conf", []byte(libvirtdConf), 0o600)
}

// startLibvirtd runs the lab's libvirtd and waits until its socket answers.
func startLibvirtd(ctx context.Context, dir string) (*exec.Cmd, error) {
	path, err := exec.LookPath("libvirtd")
	if err != nil {
		return nil, errors.New("libvirtd is not installed: apt-get install libvirt-daemon-system")
	}
	log, err := os.Create(filepath.Join(dir, "libvirtd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(path)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start libvirtd: %w", err)
	}
	return cmd, waitFor(ctx, 20*time.Second, "libvirtd's socket", func() error {
		c, err := net.DialTimeout("unix", Socket, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// waitFor polls a condition until it holds or the time is over.
func waitFor(ctx context.Context, limit time.Duration, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s for %s: %w", what, limit, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// run executes a host tool and returns its output in the error if it fails.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// hostNetwork makes what an admin's host has before imago comes: the virtual
// IP with the admin's own NAT rule to the front end, and the clients, who
// live in a namespace of their own behind a router port of the host.
func hostNetwork(ctx context.Context, s *System) error {
	steps := [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"sysctl", "-qw", "net.ipv4.ip_forward=1"},
		{"ip", "addr", "add", s.VIP.Addr().String() + "/32", "dev", "lo"},
		{"ip", "netns", "add", ClientsNamespace},
		{"ip", "link", "add", "to-clients", "type", "veth", "peer", "name", "eth0", "netns", ClientsNamespace},
		{"ip", "addr", "add", hostClientPrefix, "dev", "to-clients"},
		{"ip", "link", "set", "to-clients", "up"},
		{"ip", "-n", ClientsNamespace, "link", "set", "lo", "up"},
		{"ip", "-n", ClientsNamespace, "addr", "add", clientPrefix, "dev", "eth0"},
		{"ip", "-n", ClientsNamespace, "link", "set", "eth0", "up"},
		{"ip", "-n", ClientsNamespace, "route", "add", "default", "via", strings.TrimSuffix(hostClientPrefix, "/24")},
	}
	for _, st := range steps {
		if err := run(ctx, st[0], st[1:]...); err != nil {
			return err
		}
	}
	rules := fmt.Sprintf(`table ip admin {
	chain prerouting {
		type nat hook prerouting priority dstnat
		ip daddr %s tcp dport %d dnat to %s
	}
	chain output {
		type nat hook output priority -100
		ip daddr %s tcp dport %d dnat to %s
	}
}
`, s.VIP.Addr(), s.VIP.Port(), s.FrontEnd, s.VIP.Addr(), s.VIP.Port(), s.FrontEnd)
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load the lab's NAT rule: %w: %s", err, out)
	}
	return nil
}

const (
	// ClientsNamespace is the network namespace that a lab's clients live in.
	ClientsNamespace = "clients"

	hostClientPrefix = "203.0.113.1/24"
	clientPrefix     = "203.0.113.2/24"
)
