package netswitch

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slowServer answers in the namespace "old" after as many ms as the path says.
func slowServer(t testing.TB, addr string) {
	var ln net.Listener
	in(t, "old", func() (err error) {
		ln, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		return err
	})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ms int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &ms)
		time.Sleep(time.Duration(ms) * time.Millisecond)
		_, _ = w.Write(make([]byte, 20_000)) // more than one segment
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
}

// asker is an HTTP client in a namespace.
func asker(t testing.TB, ns string, keepAlive bool) func(url string) {
	tr := &http.Transport{DialContext: dialFrom(ns), DisableKeepAlives: !keepAlive, MaxIdleConnsPerHost: 8}
	t.Cleanup(tr.CloseIdleConnections)
	c := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	return func(url string) {
		res, err := c.Get(url)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}

func watch(t testing.TB, spec LatencySpec) *LatencyProbe {
	t.Helper()
	spec.Log = testLog(t)
	p, err := WatchLatency(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// settled is the window since from once it has n requests.
func settled(t testing.TB, p *LatencyProbe, from time.Time, n int) (w LatencyWindow) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if w = p.Since(from); w.Requests >= n && w.Waiting == 0 {
			time.Sleep(100 * time.Millisecond) // for what should not come
			return p.Since(from)
		}
	}
	t.Fatalf("%d requests were asked for, the probe saw %+v", n, w)
	return w
}

func between(t testing.TB, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %s, want %s to %s", what, got, low, high)
	}
}

// production6 gives the lab an IPv6 way from the client to the old side.
func (l *lab) production6() netip.AddrPort {
	for _, line := range []string{"sysctl -qw net.ipv6.conf.all.forwarding=1", "ip -6 addr add 2001:db8:20::1/64 dev br-prod nodad", "ip -6 addr add 2001:db8::1/64 dev v-client nodad"} {
		sh(l.t, "", line)
	}
	sh(l.t, "client", "ip -6 addr add 2001:db8::7/64 dev eth0 nodad")
	sh(l.t, "client", "ip -6 route add default via 2001:db8::1")
	sh(l.t, "old", "ip -6 addr add 2001:db8:20::10/64 dev eth0 nodad")
	sh(l.t, "old", "ip -6 route add default via 2001:db8:20::1")
	return netip.MustParseAddrPort("[2001:db8:20::10]:80")
}

// TestLatencyProbe compares what the probe tells with a server's known delays,
// for clients behind the VIP, for one on the bridge, over IPv4 and IPv6, seen on
// the VM's own port and on all ports of the bridge.
func TestLatencyProbe(t *testing.T) {
	l := newLab(t)
	six := l.production6()
	l.install()
	l.guest("peer", "br-prod")
	t.Cleanup(func() { sh(t, "", "ip netns del peer") })
	sh(t, "peer", "ip addr add 10.20.0.20/24 dev eth0")
	slowServer(t, "[::]:80")
	backends := []netip.AddrPort{netip.AddrPortFrom(labServer, 80), six}
	probes := map[string]*LatencyProbe{
		"port":   watch(t, LatencySpec{Interfaces: []string{"v-old"}, Backends: backends}),
		"bridge": watch(t, LatencySpec{Bridge: "br-prod", Backends: backends}),
	}
	time.Sleep(300 * time.Millisecond)
	for _, c := range []struct {
		name, ns, url string
		keepAlive     bool
	}{
		{"VIP", "client", "http://198.51.100.1", false}, {"VIP, keep-alive", "client", "http://198.51.100.1", true},
		{"on the bridge", "peer", "http://10.20.0.10", true}, {"IPv6", "client", "http://[2001:db8:20::10]", true},
	} {
		from := time.Now()
		time.Sleep(latencySlot)
		get := asker(t, c.ns, c.keepAlive)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for i := range 10 {
					get(fmt.Sprintf("%s/%d", c.url, map[bool]int{true: 60, false: 20}[i == 9]))
				}
			})
		}
		wg.Wait()
		for name, p := range probes {
			w := settled(t, p, from, 20)
			if w.Requests != 20 || w.Dropped != 0 || time.Since(w.At) > time.Second {
				t.Errorf("%s, %s: %+v", c.name, name, w)
			}
			between(t, c.name+", "+name+", median", w.P50, 19*time.Millisecond, 100*time.Millisecond)
			between(t, c.name+", "+name+", p99", w.P99, 58*time.Millisecond, 500*time.Millisecond)
		}
	}
}

// TestLatencyOfUnanswered: a server that is silent must not look like a quiet night.
func TestLatencyOfUnanswered(t *testing.T) {
	newLab(t)
	slowServer(t, "10.20.0.10:80")
	p := watch(t, LatencySpec{Interfaces: []string{"v-old"}, Backends: []netip.AddrPort{netip.AddrPortFrom(labServer, 80)}})
	time.Sleep(1200 * time.Millisecond)
	quiet := p.Window()
	if !quiet.Idle() || time.Since(quiet.At) > time.Second || p.Err() != nil {
		t.Errorf("quiet: %+v %v", quiet, p.Err())
	}
	if ahead := p.Since(time.Now().Add(time.Hour)); ahead.From.After(ahead.At) || !ahead.Idle() {
		t.Errorf("a window that is yet to begin: %+v", ahead)
	}
	from := time.Now()
	time.Sleep(latencySlot)
	get := asker(t, "client", false)
	var wg sync.WaitGroup
	wg.Go(func() { get("http://10.20.0.10/2500") })
	time.Sleep(1500 * time.Millisecond)
	w := p.Since(from)
	if w.Idle() || w.Requests != 0 || w.Waiting != 1 || w.P99 < 500*time.Millisecond || w.Oldest < 500*time.Millisecond {
		t.Errorf("while it waits: %+v", w)
	}
	if w := p.Since(time.Now()); !w.Idle() {
		t.Errorf("a request that began before is counted: %+v", w)
	}
	wg.Wait()
	between(t, "answered", settled(t, p, from, 1).P99, 2400*time.Millisecond, 3*time.Second)
}

// TestLatencyWithLoss: a fifth of the requests and answers are lost behind the probe, so that
// it sees them again.
func TestLatencyWithLoss(t *testing.T) {
	newLab(t)
	slowServer(t, "10.20.0.10:80")
	for ns, match := range map[string]string{"old": "tcp dport 80", "client": "tcp sport 80"} {
		sh(t, ns, "nft add table ip loss")
		sh(t, ns, "nft 'add chain ip loss in { type filter hook input priority 0 ; }'")
		sh(t, ns, "nft add rule ip loss in "+match+" ip length '>' 60 numgen random mod 5 == 0 drop")
	}
	p := watch(t, LatencySpec{Bridge: "br-prod", Backends: []netip.AddrPort{netip.AddrPortFrom(labServer, 80)}})
	from := time.Now()
	time.Sleep(latencySlot)
	var wg sync.WaitGroup
	for range 5 {
		get := asker(t, "client", true)
		wg.Go(func() {
			for range 8 {
				get("http://10.20.0.10/10")
			}
		})
	}
	wg.Wait()
	w := settled(t, p, from, 40)
	if w.Requests != 40 || w.P50 < 9*time.Millisecond || w.P99 < 150*time.Millisecond {
		t.Errorf("%+v", w)
	}
}

// TestLatencyGrowsOld: an interface that is gone, or down, is not a quiet one.
func TestLatencyGrowsOld(t *testing.T) {
	newLab(t)
	slowServer(t, "10.20.0.10:80")
	gone := [2]string{"ip link set v-old down && ip link set v-old name v-gone nomaster", "ip link set v-gone name v-old && ip link set v-old master br-prod && ip link set v-old up"}
	down := [2]string{"ip link set v-old down", "ip link set v-old up"}
	for name, c := range map[string]struct {
		spec LatencySpec
		cut  [2]string
	}{
		"interface is down": {LatencySpec{Interfaces: []string{"v-old"}}, down}, "interface is gone": {LatencySpec{Interfaces: []string{"v-old"}}, gone},
		"bridge without port": {LatencySpec{Bridge: "br-prod"}, gone},
	} {
		spec, cut := c.spec, c.cut
		spec.Backends = []netip.AddrPort{netip.AddrPortFrom(labServer, 80)}
		p := watch(t, spec)
		eventually(t, name+" is alive", func() bool { return time.Since(p.Window().At) < 500*time.Millisecond && p.Err() == nil })
		sh(t, "", cut[0])
		eventually(t, name, func() bool { return time.Since(p.Window().At) > 1500*time.Millisecond && p.Err() != nil })
		sh(t, "", cut[1])
		eventually(t, "seen again: "+name, func() bool { return time.Since(p.Window().At) < 500*time.Millisecond && p.Err() == nil })
		from := time.Now()
		time.Sleep(latencySlot)
		asker(t, "client", false)("http://10.20.0.10/10")
		if w := settled(t, p, from, 1); w.Requests != 1 {
			t.Errorf("%+v", w)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLatencyOfTags sends frames with VLAN tags, which this host's kernel need not know itself.
func TestLatencyOfTags(t *testing.T) {
	newLab(t)
	p := watch(t, LatencySpec{Interfaces: []string{"v-old"}, Backends: []netip.AddrPort{backend4, backend6}})
	from := time.Now()
	time.Sleep(latencySlot)
	n := 0
	for _, tags := range [][]uint16{nil, {etherVLAN}, {etherQinQ, etherVLAN}} {
		for _, ends := range [][2]netip.AddrPort{{client4, backend4}, {client6, backend6}} {
			c, s := netip.AddrPortFrom(ends[0].Addr(), uint16(50000+n)), ends[1]
			var out, back []byte
			out = ethernetFrame(tags, c, s, 99, 0, flagSYN, 0)
			sendRaw(t, "", "v-old", out)
			sendRaw(t, "", "v-old", ethernetFrame(tags, c, s, 100, 1, flagACK, 40))
			time.Sleep(30 * time.Millisecond)
			back = ethernetFrame(tags, s, c, 1, 140, flagACK, 400)
			sendRaw(t, "old", "eth0", back)
			n++
		}
	}
	w := settled(t, p, from, n)
	if w.Requests != n {
		t.Errorf("%d requests, want %d", w.Requests, n)
	}
	between(t, "median", w.P50, 29*time.Millisecond, 100*time.Millisecond)
}

func sendRaw(t testing.TB, ns, dev string, b []byte) {
	t.Helper()
	send := func() error {
		link, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: htons(unix.ETH_P_ALL)})
	}
	if ns == "" {
		if err := send(); err != nil {
			t.Fatal(err)
		}
		return
	}
	in(t, ns, send)
}

func TestLatencySpecs(t *testing.T) {
	needLab(t)
	before := runtime.NumGoroutine()
	for name, spec := range map[string]LatencySpec{
		"nothing": {Backends: []netip.AddrPort{backend4}}, "both": {Interfaces: []string{"lo"}, Bridge: "b", Backends: []netip.AddrPort{backend4}},
		"no backend": {Interfaces: []string{"lo"}}, "no such interface": {Interfaces: []string{"nosuch"}, Backends: []netip.AddrPort{backend4}},
		"no such bridge": {Bridge: "nosuch", Backends: []netip.AddrPort{backend4}}, "no Ethernet": {Interfaces: []string{"lo"}, Backends: []netip.AddrPort{backend4}},
	} {
		spec.Log = testLog(t)
		if p, err := WatchLatency(t.Context(), spec); err == nil {
			t.Error(name)
			p.Close()
		} else {
			t.Log(err)
		}
	}
	eventually(t, "goroutines gone", func() bool { return runtime.NumGoroutine() <= before })
}

// TestLatencyUnderLoad sends a burst of answers: none is missed without being counted, and the
// processor time per packet is printed.
func TestLatencyUnderLoad(t *testing.T) {
	newLab(t)
	p := watch(t, LatencySpec{Interfaces: []string{"v-old"}, Backends: []netip.AddrPort{backend4}})
	link, err := net.InterfaceByName("v-old")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const packets = 100_000
	frame := ethernetFrame(nil, client4, backend4, 1, 1, flagACK, 1000)
	other := ethernetFrame(nil, client4, client4, 1, 1, flagACK, 1000)
	run := func(b []byte) time.Duration {
		start := processorTime()
		for range packets {
			for unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: htons(unix.ETH_P_ALL)}) != nil {
				time.Sleep(time.Millisecond)
			}
		}
		return processorTime() - start
	}
	run(other)
	base := run(other)
	seen := p.Window().Frames
	mine := run(frame)
	eventually(t, "all packets are seen or counted as dropped", func() bool { w := p.Window(); return w.Frames-seen+w.Dropped >= packets })
	w := p.Window()
	p.Close()
	bare := run(other)
	if got := w.Frames - seen + w.Dropped; got != packets {
		t.Errorf("%d seen + %d dropped, want %d", w.Frames-seen, w.Dropped, packets)
	}
	per := func(d time.Duration) time.Duration { return d / packets }
	t.Logf("per packet: %s without the probe, %s filtered out, %s with headers copied and read; %d dropped", per(bare), per(base), per(mine), w.Dropped)
}

func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
