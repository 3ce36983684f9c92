package netswitch

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// insideEnv says that the process is in the namespaces made for the tests.
const insideEnv = "IMAGO_NETSWITCH_INSIDE"

// TestMain runs all tests in network, mount and pid namespaces of their own, so
// that the machine's network is never touched.
func TestMain(m *testing.M) {
	fuzzing := slices.ContainsFunc(os.Args, func(a string) bool {
		return strings.HasPrefix(a, "-test.fuzz") && a != "-test.fuzz=" && !strings.HasPrefix(a, "-test.fuzzcachedir")
	})
	if fuzzing || os.Getenv(holderEnv) != "" {
		os.Exit(m.Run()) // no namespaces needed, or in those of the parent
	}
	if os.Getenv(insideEnv) != "" {
		if err := settleIn(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	args := append([]string{"--fork", "--pid", "--kill-child", "--mount-proc", "--mount", "--net", os.Args[0]}, os.Args[1:]...)
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}

func settleIn() error {
	for _, c := range []string{"mount -t tmpfs tmpfs /run", "mkdir /run/netns", "mount -t sysfs sysfs /sys", "ip link set lo up", "sysctl -qw net.ipv4.ip_forward=1"} {
		if out, err := exec.Command("sh", "-c", c).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", c, err, out)
		}
	}
	return nil
}

// needLab skips where namespaces cannot be made, except in CI.
func needLab(t *testing.T) {
	t.Helper()
	missing := ""
	if os.Getenv(insideEnv) == "" {
		missing = "root"
	}
	for _, tool := range []string{"ip", "nft", "unshare", "sysctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing += " " + tool
		}
	}
	if missing == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s", missing)
	}
	t.Skipf("missing: %s", missing)
}

// sh runs a line of shell in the namespace, "" for the host.
func sh(t testing.TB, ns, line string) string {
	t.Helper()
	if ns != "" {
		line = "ip netns exec " + ns + " " + line
	}
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

// A lab is a host with production and universe bridges, a client and two servers
// that have the same address.
//
//	client 198.51.100.7 ── host (VIP 198.51.100.1) ── prod bridge ── old 10.20.0.10
//	                          │ transit ── gateway ns ── uni bridge ── new 10.20.0.10
type lab struct {
	t    testing.TB
	spec UniverseSpec
}

var (
	labVIP    = netip.MustParseAddr("198.51.100.1")
	labServer = netip.MustParseAddr("10.20.0.10")
)

func newLab(t testing.TB) *lab {
	t.Helper()
	if tt, ok := t.(*testing.T); ok {
		needLab(tt)
	}
	l := &lab{t: t, spec: UniverseSpec{
		Name: "imago-uni", ID: "t1", Bridge: "br-uni",
		Gateways: []netip.Prefix{netip.MustParsePrefix("10.20.0.1/24")},
		Transit:  netip.MustParsePrefix("100.127.255.0/30"),
		Log:      testLog(t),
	}}
	t.Cleanup(l.remove)
	sh(t, "", "ip link add br-prod type bridge && ip addr add 10.20.0.1/24 dev br-prod && ip link set br-prod up")
	sh(t, "", "ip link add br-uni address 52:54:00:00:00:01 type bridge && ip link set br-uni up")
	l.guest("client", "")
	sh(t, "", "ip addr add 198.51.100.1/24 dev v-client")
	sh(t, "client", "ip addr add 198.51.100.7/24 dev eth0")
	sh(t, "client", "ip route add default via 198.51.100.1")
	l.guest("old", "br-prod")
	l.guest("new", "br-uni")
	for _, g := range []string{"old", "new"} {
		sh(t, g, "ip addr add 10.20.0.10/24 dev eth0")
		sh(t, g, "ip route add default via 10.20.0.1")
	}
	return l
}

// guest makes a namespace with one link, to a bridge or to the host.
func (l *lab) guest(name, bridge string) {
	sh(l.t, "", "ip netns add "+name)
	sh(l.t, "", fmt.Sprintf("ip link add v-%s type veth peer name eth0 netns %s && ip link set v-%s up", name, name, name))
	if bridge != "" {
		sh(l.t, "", fmt.Sprintf("ip link set v-%s master %s", name, bridge))
	}
	sh(l.t, name, "ip link set lo up")
	sh(l.t, name, "ip link set eth0 up")
}

func (l *lab) remove() {
	if err := RemoveAll(context.Background(), l.spec); err != nil {
		l.t.Errorf("remove all: %v", err)
	}
	for _, line := range []string{"ip netns del client", "ip netns del old", "ip netns del new", "ip link del br-prod", "ip link del br-uni",
		"ip link del v-client", "ip link del v-old", "ip link del v-new"} {
		_ = exec.Command("sh", "-c", line).Run()
	}
	// A namespace's links go some time after its name.
	eventually(l.t, "links of the lab gone", func() bool {
		out, _ := exec.Command("ip", "-o", "link").Output()
		return !strings.Contains(string(out), "v-")
	})
}

func (l *lab) open() *Universe {
	l.t.Helper()
	u, err := OpenUniverse(l.t.Context(), l.spec)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { u.Close() })
	return u
}

// services is the one service of the lab, at the VIP's port 80.
func (l *lab) services() []Service {
	return []Service{{
		Name: "web", Proto: TCP, App: HTTP,
		VIP: netip.AddrPortFrom(labVIP, 80),
		Old: netip.AddrPortFrom(labServer, 80),
		New: netip.AddrPortFrom(l.spec.Addr(), 8080),
	}}
}

func (l *lab) publish(u *Universe) {
	l.t.Helper()
	err := u.Publish(l.t.Context(), []Publication{{TransitPort: 8080, To: netip.AddrPortFrom(labServer, 80), Proto: TCP}})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) install() *VIPMap {
	l.t.Helper()
	m, err := InstallVIPMap(l.t.Context(), l.spec.ID, l.services(), l.spec.Log)
	if err != nil {
		l.t.Fatal(err)
	}
	return m
}

// in runs f on a thread inside the named namespace.
func in(t testing.TB, ns string, f func() error) {
	t.Helper()
	if err := inNamed(ns, f); err != nil {
		t.Fatalf("in %s: %v", ns, err)
	}
}

func inNamed(ns string, f func() error) error {
	h, err := netns.GetFromName(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	return inNetNS(h, f)
}

// listenIn opens a TCP listener inside a namespace.
func listenIn(t testing.TB, ns, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	in(t, ns, func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp4", addr)
		return err
	})
	t.Cleanup(func() { l.Close() })
	return l
}

// dialFrom dials from inside a namespace; it fits http.Transport.
func dialFrom(ns string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		var c net.Conn
		err := inNamed(ns, func() (err error) {
			c, err = (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// namedServer answers every connection with the name and the client's address.
func namedServer(t testing.TB, ns string) {
	ln := listenIn(t, ns, "10.20.0.10:80")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprintf(c, "%s %s", ns, host)
			c.Close()
		}
	}()
}

// ask opens a new connection from the client to the VIP and returns the answer.
func ask(t testing.TB) string {
	t.Helper()
	return askFrom(t, "client")
}

func askFrom(t testing.TB, ns string) string {
	t.Helper()
	c, err := dialFrom(ns)(t.Context(), "tcp", "198.51.100.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	var b [256]byte
	n, err := c.Read(b[:])
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}
