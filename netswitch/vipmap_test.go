package netswitch

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
)

func TestFlipThereAndBack(t *testing.T) {
	l := newLab(t)
	u := l.open()
	l.publish(u)
	namedServer(t, "old")
	namedServer(t, "new")
	m := l.install()
	if got := ask(t); got != "old 198.51.100.7" {
		t.Fatalf("before the flip: %q", got)
	}
	for _, side := range []Side{New, Old, New} {
		if err := m.Flip(t.Context(), side); err != nil {
			t.Fatal(err)
		}
		if got, want := ask(t), side.String()+" 198.51.100.7"; got != want {
			t.Fatalf("after the flip: got %q, want %q", got, want)
		}
		if got, err := m.Side(t.Context()); err != nil || got != side {
			t.Fatalf("side: %v, %v", got, err)
		}
	}
	if left, err := u.PacketsLeft(t.Context()); err != nil || left != 0 {
		t.Errorf("packets left: %d, %v", left, err)
	}
}

// A map made by a process that died is found again, and an administrator's own
// rule serves when ours is gone.
func TestVIPMapOutlivesProcess(t *testing.T) {
	l := newLab(t)
	u := l.open()
	l.publish(u)
	namedServer(t, "old")
	namedServer(t, "new")
	sh(t, "", `nft 'table ip admin { chain pre { type nat hook prerouting priority dstnat; ip daddr 198.51.100.1 tcp dport 80 dnat to 10.20.0.10:80; }; }'`)
	t.Cleanup(func() { sh(t, "", "nft delete table ip admin") })
	before := sh(t, "", "nft list table ip admin")
	if err := l.install().Flip(t.Context(), New); err != nil {
		t.Fatal(err)
	}
	again := l.install()
	if side, err := again.Side(t.Context()); err != nil || side != New {
		t.Fatalf("found again: %v, %v", side, err)
	}
	if got := ask(t); !strings.HasPrefix(got, "new") {
		t.Fatalf("got %q", got)
	}
	for range 2 {
		if err := again.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if side, err := again.Side(t.Context()); err != nil || side != Absent {
		t.Fatalf("removed: %v, %v", side, err)
	}
	if got := ask(t); !strings.HasPrefix(got, "old") {
		t.Fatalf("without our map: %q", got)
	}
	if after := sh(t, "", "nft list table ip admin"); after != before {
		t.Errorf("foreign table changed:\n%s\n%s", before, after)
	}
}

func TestSideSeesForeignChange(t *testing.T) {
	l := newLab(t)
	m := l.install()
	sh(t, "", "nft add element ip imago_vip_t1 vip_tcp '{ 198.51.100.1 . 443 : 10.20.0.99 . 443 }'")
	if side, err := m.Side(t.Context()); err != nil || side != Mixed {
		t.Fatalf("side: %v, %v", side, err)
	}
	var mixed *MixedError
	if _, err := InstallVIPMap(t.Context(), l.spec.ID, l.services(), l.spec.Log); !errors.As(err, &mixed) {
		t.Fatalf("install over a changed map: %v", err)
	}
	if err := m.Flip(t.Context(), Old); err != nil {
		t.Fatal(err)
	}
	if side, err := m.Side(t.Context()); err != nil || side != Old {
		t.Fatalf("repaired: %v, %v", side, err)
	}
}

// The kernel refuses a transaction built upon a ruleset that has changed since.
func TestBatchIsGuardedByGeneration(t *testing.T) {
	l := newLab(t)
	m := l.install()
	b, err := newBatch()
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if err := b.remove(byte(nftables.TableFamilyIPv4), vipTable("t1"), "vip_tcp", m.wanted(TCP, Old)); err != nil {
		t.Fatal(err)
	}
	sh(t, "", "nft add table ip other && nft delete table ip other")
	if err := b.commit(); !errors.Is(err, errGeneration) {
		t.Fatalf("commit: %v", err)
	}
	if side, err := m.Side(t.Context()); err != nil || side != Old {
		t.Fatalf("nothing may be applied: %v, %v", side, err)
	}
}

func TestFlipManyServices(t *testing.T) {
	needLab(t)
	var services []Service
	for i := range 10000 {
		vip := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 9, byte(i >> 8), byte(i)}), 80)
		services = append(services, Service{Name: vip.String(), Proto: TCP, VIP: vip,
			Old: netip.MustParseAddrPort("10.20.0.10:80"), New: netip.MustParseAddrPort("100.127.255.2:8080")})
	}
	m, err := NewVIPMap("big", services, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Remove(context.Background()) })
	if err := m.create(); err != nil {
		t.Fatal(err)
	}
	for _, side := range []Side{New, Old} {
		if err := m.Flip(t.Context(), side); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckVIP(t *testing.T) {
	newLab(t)
	sh(t, "", "ip route add 203.0.113.0/24 via 198.51.100.7")
	for _, c := range []struct{ vip, found string }{
		{"198.51.100.1", ""},
		{"10.20.0.1", ""},
		{"10.20.0.10", `another machine on interface "br-prod"`},
		{"203.0.113.9", `through interface "v-client" to gateway 198.51.100.7`},
		{"192.0.2.77", "no route"},
		{"224.0.0.1", "no client can reach"},
		{"127.0.0.1", "no client can reach"},
		{"2001:db8::1", "not an IPv4"},
	} {
		err := CheckVIP(t.Context(), netip.MustParseAddr(c.vip))
		var vipErr *VIPError
		switch {
		case c.found == "" && err != nil:
			t.Errorf("%s: %v", c.vip, err)
		case c.found != "" && (!errors.As(err, &vipErr) || !strings.Contains(vipErr.Found, c.found) || vipErr.Hint == ""):
			t.Errorf("%s: got %v, want %q", c.vip, err, c.found)
		}
	}
}

func TestCheckServices(t *testing.T) {
	ok := Service{Name: "a", Proto: TCP, VIP: netip.MustParseAddrPort("192.0.2.1:80"),
		Old: netip.MustParseAddrPort("10.0.0.1:80"), New: netip.MustParseAddrPort("10.0.0.2:80")}
	for name, change := range map[string]func(*Service){
		"proto": func(s *Service) { s.Proto = 0 },
		"vip":   func(s *Service) { s.VIP = netip.MustParseAddrPort("[2001:db8::1]:80") },
		"port":  func(s *Service) { s.Old = netip.AddrPortFrom(s.Old.Addr(), 0) },
		"same":  func(s *Service) { s.New = s.Old },
	} {
		s := ok
		change(&s)
		if checkServices([]Service{s}) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if checkServices([]Service{ok, ok}) == nil {
		t.Error("two services at one endpoint: accepted")
	}
	if checkServices(nil) == nil {
		t.Error("no services: accepted")
	}
	if err := checkServices([]Service{ok}); err != nil {
		t.Error(err)
	}
}
