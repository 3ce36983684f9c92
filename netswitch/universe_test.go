package netswitch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// snapshot is everything of the host's network that a user could see.
func snapshot(t testing.TB) string {
	return sh(t, "", "nft -s list ruleset; ip -o link | sed 's/@[^:]*//; s/state [A-Z]*//; s/,LOWER_UP//; s/,M-DOWN//; s/NO-CARRIER,//' | sort -k2; ip -o addr | sed 's/ tentative//'; ip route; ip neigh show nud permanent; ls /run/netns; "+
		"sysctl -a 2>/dev/null | grep -E '^net.(ipv4|ipv6|bridge|netfilter)' | grep -vE 'nf_conntrack_count|stat|random|uuid|neigh.*retrans|route.*flush|tcp_mem|imgt|imgb'")
}

func TestRemoveAllLeavesNothing(t *testing.T) {
	l := newLab(t)
	sh(t, "", "sysctl -qw net.ipv4.conf.br-uni.arp_ignore=3")
	sh(t, "", `nft 'table inet admin { chain f { type filter hook forward priority 0; ct state invalid drop; }; }'`)
	t.Cleanup(func() { sh(t, "", "nft delete table inet admin") })
	before := snapshot(t)
	u := l.open()
	l.publish(u)
	if err := u.AllowOutbound(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	l.install()
	if snapshot(t) == before {
		t.Fatal("the snapshot does not see what was made")
	}
	for range 2 {
		if err := RemoveAll(t.Context(), l.spec); err != nil {
			t.Fatal(err)
		}
		after := ""
		eventually(t, "links gone", func() bool { after = snapshot(t); return !strings.Contains(after, "imgb-") })
		if after != before {
			t.Fatalf("differs:\n%s", diffLines(before, after))
		}
	}
	if _, err := FindUniverse(t.Context(), l.spec); !errors.Is(err, ErrNoUniverse) {
		t.Errorf("find after removal: %v", err)
	}
}

func diffLines(a, b string) string {
	in := map[string]int{}
	for _, s := range strings.Split(a, "\n") {
		in[s]++
	}
	var out []string
	for _, s := range strings.Split(b, "\n") {
		if in[s]--; in[s] < 0 {
			out = append(out, "+"+s)
		}
	}
	for s, n := range in {
		if n > 0 {
			out = append(out, "-"+s)
		}
	}
	return strings.Join(out, "\n")
}

// Opened again after a crash it is the same universe, with its counters.
func TestOpenIsIdempotent(t *testing.T) {
	l := newLab(t)
	l.open()
	sendUDP(t, "new", "203.0.113.5:53", 3)
	first := snapshot(t)
	u := l.open()
	if again := snapshot(t); again != first {
		t.Errorf("differs:\n%s", diffLines(first, again))
	}
	found, err := FindUniverse(t.Context(), l.spec)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	for _, u := range []*Universe{u, found} {
		if _, total, err := u.Tried(t.Context()); err != nil || total < 3 {
			t.Errorf("counters lost: %d, %v", total, err)
		}
	}
}

// A crash may come after any step: an empty mount point, a bare namespace, a
// sealed one without links.
func TestOpenCompletesWhatACrashLeft(t *testing.T) {
	for name, crash := range map[string]func(*testing.T, *lab){
		"mount point": func(t *testing.T, l *lab) {
			if err := os.WriteFile(netnsPath(l.spec.Name), nil, 0o444); err != nil {
				t.Fatal(err)
			}
		},
		"bare namespace": func(t *testing.T, l *lab) {
			if err := createNetNS(l.spec.Name); err != nil {
				t.Fatal(err)
			}
		},
		"no links": func(t *testing.T, l *lab) {
			l.open()
			if err := removeLinks(l.spec.ID); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			crash(t, l)
			u := l.open()
			l.publish(u)
			namedServer(t, "new")
			m := l.install()
			if err := m.Flip(t.Context(), New); err != nil {
				t.Fatal(err)
			}
			if got := ask(t); got != "new 198.51.100.7" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestRefusesForeignNamespace(t *testing.T) {
	l := newLab(t)
	l.spec.Name = "client"
	if _, err := OpenUniverse(t.Context(), l.spec); !errors.Is(err, ErrForeign) {
		t.Errorf("open: %v", err)
	}
	if err := RemoveUniverse(t.Context(), l.spec); !errors.Is(err, ErrForeign) {
		t.Errorf("remove: %v", err)
	}
	if !strings.Contains(sh(t, "", "ls /run/netns"), "client") {
		t.Error("the foreign namespace is gone")
	}
	l.spec.Name = "imago-uni"
}

func TestRefusesUnsafeBridge(t *testing.T) {
	l := newLab(t)
	for name, c := range map[string]struct{ bridge, setup, undo string }{
		"production":  {"br-prod", "", ""},
		"missing":     {"br-none", "", ""},
		"no bridge":   {"v-client", "", ""},
		"leads out":   {"br-uni", "ip link add vx7 type vxlan id 7 dstport 4789 && ip link set vx7 master br-uni", "ip link del vx7"},
		"has address": {"br-uni", "ip addr add 10.77.0.1/24 dev br-uni", "ip addr del 10.77.0.1/24 dev br-uni"},
	} {
		if c.setup != "" {
			sh(t, "", c.setup)
		}
		spec := l.spec
		spec.Bridge = c.bridge
		var bad *BridgeError
		if _, err := OpenUniverse(t.Context(), spec); !errors.As(err, &bad) || bad.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
		if c.undo != "" {
			sh(t, "", c.undo)
		}
	}
	spec := l.spec
	spec.Transit = netip.MustParsePrefix("198.51.100.0/30")
	if _, err := OpenUniverse(t.Context(), spec); err == nil {
		t.Error("transit over the clients' network: accepted")
	}
	if s := sh(t, "", "nft list ruleset; ls /run/netns"); strings.Contains(s, "imago") {
		t.Errorf("a refusal left something: %s", s)
	}
}

func TestValidateNamesEverything(t *testing.T) {
	err := UniverseSpec{Name: "../x", ID: "TooLong", Transit: netip.MustParsePrefix("10.0.0.0/24"),
		Gateways: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8::1/64")}}.Validate()
	for _, want := range []string{"../x", "TooLong", "bridge", "transit", "10.0.0.0/24", "2001:db8::1", "log"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in: %v", want, err)
		}
	}
}

func TestDialReachesTheUniverseOnly(t *testing.T) {
	l := newLab(t)
	u := l.open()
	for _, ns := range []string{"old", "new"} {
		ln := listenIn(t, ns, "10.20.0.10:80")
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, ns, " ", r.RemoteAddr) })}
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
	}
	get := func(c *http.Client) string {
		resp, err := c.Get("http://10.20.0.10/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	inside := &http.Transport{DialContext: u.Dial}
	defer inside.CloseIdleConnections()
	if got := get(&http.Client{Transport: inside}); !strings.HasPrefix(got, "new 10.20.0.1:") {
		t.Errorf("through the universe: %q", got)
	}
	outside := &http.Transport{}
	defer outside.CloseIdleConnections()
	if got := get(&http.Client{Transport: outside}); !strings.HasPrefix(got, "old 10.20.0.1:") {
		t.Errorf("from the host: %q", got)
	}
	if _, err := u.Dial(t.Context(), "tcp", "wiki.example:80"); err == nil {
		t.Error("a name must not be resolved")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := u.Dial(ctx, "tcp", "10.20.0.77:80"); err == nil {
		t.Error("nobody is there")
	}
}

func sendUDP(t testing.TB, ns, addr string, n int) {
	in(t, ns, func() error {
		c, err := net.Dial("udp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		for range n {
			if _, err := c.Write([]byte("hello")); err != nil {
				return err
			}
		}
		return nil
	})
}

// ping sends one message from the new server over a raw socket.
func ping(t testing.TB, network, addr string, msg []byte) {
	t.Helper()
	eventually(t, "sent to "+addr, func() bool { // an IPv6 address is tentative at first
		return inNamed("new", func() error {
			c, err := net.Dial(network, addr)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(msg)
			return err
		}) == nil
	})
}

// sniffer counts the frames that a link of a namespace receives.
type sniffer struct {
	fd int
}

func sniff(t testing.TB, link string) *sniffer {
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0x0300)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: ifi.Index}); err != nil {
		t.Fatal(err)
	}
	return &sniffer{fd}
}

// from returns how many frames the given hardware address sent.
func (s *sniffer) from(mac string) int {
	n, b := 0, make([]byte, 2048)
	for {
		k, _, err := unix.Recvfrom(s.fd, b, 0)
		if err != nil {
			return n
		}
		if k >= 12 && net.HardwareAddr(b[6:12]).String() == mac {
			n++
		}
	}
}

// Nothing of the universe may reach production or the host, and all of it is named.
func TestSealedUniverse(t *testing.T) {
	for _, call := range []string{"1", "0"} {
		t.Run("bridge-nf-call-iptables="+call, func(t *testing.T) {
			was := strings.TrimSpace(sh(t, "", "sysctl -n net.bridge.bridge-nf-call-iptables || echo 1"))
			t.Cleanup(func() { sh(t, "", "sysctl -qw net.bridge.bridge-nf-call-iptables="+was) })
			l := newLab(t)
			sh(t, "", "sysctl -qw net.bridge.bridge-nf-call-iptables="+call)
			testSealed(t, l)
		})
	}
}

func testSealed(t *testing.T, l *lab) {
	u := l.open()
	onProd, onClient := sniff(t, "br-prod"), sniff(t, "v-client")
	onTransit := sniff(t, transitLink(l.spec.ID))
	mac := strings.TrimSpace(sh(t, "new", "cat /sys/class/net/eth0/address"))
	sendUDP(t, "new", "203.0.113.5:123", 2)
	sendUDP(t, "new", "10.20.0.1:53", 4) // the gateway as a name server
	sendUDP(t, "new", "224.0.0.251:5353", 1)
	sendUDP(t, "new", "198.51.100.7:9", 1) // the client itself
	ping(t, "ip4:icmp", "203.0.113.6", []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
	ping(t, "ip6:ipv6-icmp", "ff02::1%eth0", []byte{128, 0, 0, 0, 0, 0, 0, 0})
	for _, addr := range []string{"203.0.113.7:443", "10.20.0.55:3306"} {
		in(t, "new", func() error {
			d := net.Dialer{Timeout: 300 * time.Millisecond}
			if c, err := d.Dial("tcp", addr); err == nil {
				c.Close()
				return fmt.Errorf("reached %s", addr)
			}
			return nil
		})
	}
	want := map[string]uint64{
		"203.0.113.5 udp 123": 2, "10.20.0.1 udp 53": 4, "224.0.0.251 udp 5353": 1, "198.51.100.7 udp 9": 1,
		"203.0.113.6 icmp 0": 1, "203.0.113.7 tcp 443": 1, "10.20.0.55 arp 0": 1, "ff02::1 icmpv6 0": 1,
	}
	attempts, total, err := u.Tried(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sum uint64
	for _, a := range attempts {
		sum += a.Packets
		key := fmt.Sprintf("%s %s %d", a.Dst, a.Proto, a.Port)
		if n, ok := want[key]; ok && a.Packets < n {
			t.Errorf("%s: %d packets, want %d", key, a.Packets, n)
		}
		delete(want, key)
	}
	if len(want) > 0 {
		t.Errorf("not named: %v\nin %v", want, attempts)
	}
	if sum != total {
		t.Errorf("total %d, sum %d", total, sum)
	}
	if left, err := u.PacketsLeft(t.Context()); err != nil || left != 0 {
		t.Errorf("packets left: %d, %v", left, err)
	}
	gateway := macFor(l.spec.ID, ifTransit).String()
	if n := onProd.from(mac) + onClient.from(mac) + onTransit.from(gateway); n != 0 {
		t.Errorf("%d frames got out", n)
	}
}

// The count of packets that left must be able to count: opened, it is not 0.
func TestAllowOutbound(t *testing.T) {
	l := newLab(t)
	u := l.open()
	ln := listenIn(t, "client", "198.51.100.7:25")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, c.RemoteAddr())
			c.Close()
		}
	}()
	dial := func(limit time.Duration) (string, error) {
		var from string
		err := inNamed("new", func() error {
			c, err := (&net.Dialer{Timeout: limit}).Dial("tcp", "198.51.100.7:25")
			if err != nil {
				return err
			}
			defer c.Close()
			b, err := io.ReadAll(c)
			from = string(b)
			return err
		})
		return from, err
	}
	if _, err := dial(300 * time.Millisecond); err == nil {
		t.Fatal("sealed, and yet out")
	}
	if err := u.AllowOutbound(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	from, err := dial(10 * time.Second)
	if err != nil || !strings.HasPrefix(from, "198.51.100.1:") {
		t.Errorf("opened: %q, %v", from, err)
	}
	if left, err := u.PacketsLeft(t.Context()); err != nil || left == 0 {
		t.Errorf("packets left: %d, %v", left, err)
	}
	if err := u.AllowOutbound(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(300 * time.Millisecond); err == nil {
		t.Error("sealed again, and yet out")
	}
}

// Clients with addresses that the universe has too are served as well.
func TestClientsWithAddressesOfTheUniverse(t *testing.T) {
	l := newLab(t)
	u := l.open()
	l.publish(u)
	namedServer(t, "new")
	l.guest("old2", "br-prod")
	t.Cleanup(func() { sh(t, "", "ip netns del old2") })
	sh(t, "old2", "ip addr add 10.20.0.33/24 dev eth0")
	sh(t, "old2", "ip route add default via 10.20.0.1")
	m := l.install()
	if err := m.Flip(t.Context(), New); err != nil {
		t.Fatal(err)
	}
	if got := askFrom(t, "old2"); got != "new 100.127.255.1" {
		t.Errorf("from a VM of production: %q", got)
	}
	c, err := net.DialTimeout("tcp", "198.51.100.1:80", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "new ") {
		t.Errorf("from the host itself: %q, %v", b, err)
	}
}

// Without the seal the host answers in the universe for production's gateway.
func TestHostIsSilentOnTheUniversesBridge(t *testing.T) {
	l := newLab(t)
	hostMAC := strings.TrimSpace(sh(t, "", "cat /sys/class/net/br-uni/address"))
	answered := func() bool {
		sh(t, "new", "ip neigh flush all")
		sendUDP(t, "new", "10.20.0.1:9", 1)
		entry := ""
		eventually(t, "neighbour settled", func() bool {
			entry = sh(t, "new", "ip neigh show 10.20.0.1")
			return strings.Contains(entry, "lladdr") || strings.Contains(entry, "FAILED")
		})
		return strings.Contains(entry, hostMAC)
	}
	if !answered() {
		t.Fatal("Linux did not answer: this test proves nothing here")
	}
	sh(t, "", "sysctl -qw net.ipv4.conf.br-uni.arp_ignore=8")
	if answered() {
		t.Error("arp_ignore=8 does not silence the host")
	}
	sh(t, "", "sysctl -qw net.ipv4.conf.br-uni.arp_ignore=0")
	l.open()
	if answered() {
		t.Error("the host answers in the sealed universe")
	}
	gateway := strings.TrimSpace(sh(t, "imago-uni", "cat /sys/class/net/"+ifUniverse+"/address"))
	if got := sh(t, "new", "ip neigh show 10.20.0.1"); !strings.Contains(got, gateway) {
		t.Errorf("the gateway (%s) does not answer: %q", gateway, got)
	}
}
