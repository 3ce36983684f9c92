package netswitch

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Proto is a transport protocol.
type Proto int

const (
	// TCP is the transmission control protocol.
	TCP Proto = iota + 1
	// UDP is the user datagram protocol.
	UDP
)

func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	default:
		return fmt.Sprintf("proto(%d)", int(p))
	}
}

func (p Proto) valid() bool { return p == TCP || p == UDP }

func (p Proto) number() byte {
	if p == UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// ParseProto reads "tcp" or "udp".
func ParseProto(s string) (Proto, error) {
	switch s {
	case "tcp":
		return TCP, nil
	case "udp":
		return UDP, nil
	}
	return 0, fmt.Errorf("protocol %q: want tcp or udp", s)
}

// Service is one endpoint that clients know, and where each version serves it.
type Service struct {
	Name  string
	VIP   netip.AddrPort
	Proto Proto
	Old   netip.AddrPort // production's front end
	New   netip.AddrPort // the publication at the universe's transit address
	// App tells the hold how to find the end of a request. Opaque when zero.
	App App
}

// App is an application protocol that the hold can follow.
type App int

const (
	// Opaque streams are followed by their silence only.
	Opaque App = iota
	// HTTP means HTTP/1.x in clear text: the end of each answer is known.
	HTTP
)

func (a App) String() string {
	if a == HTTP {
		return "http"
	}
	return "tcp"
}

func (s Service) target(side Side) netip.AddrPort {
	if side == New {
		return s.New
	}
	return s.Old
}

func checkServices(services []Service) error {
	if len(services) == 0 {
		return errors.New("no services")
	}
	var errs []error
	seen := map[string]string{}
	for _, s := range services {
		for _, ap := range []netip.AddrPort{s.VIP, s.Old, s.New} {
			if !ap.Addr().Is4() || ap.Port() == 0 {
				errs = append(errs, fmt.Errorf("service %q: %s: want an IPv4 address and a port", s.Name, ap))
			}
		}
		if !s.Proto.valid() {
			errs = append(errs, fmt.Errorf("service %q: protocol is neither tcp nor udp", s.Name))
		}
		if s.Old == s.New {
			errs = append(errs, fmt.Errorf("service %q: old and new are both %s", s.Name, s.Old))
		}
		key := s.Proto.String() + " " + s.VIP.String()
		if other, ok := seen[key]; ok {
			errs = append(errs, fmt.Errorf("services %q and %q: both at %s", other, s.Name, key))
		}
		seen[key] = s.Name
	}
	return errors.Join(errs...)
}

// Side says which version the VIP map points at.
type Side int

const (
	// Absent means that there is no map: whatever the host does without us is in force.
	Absent Side = iota
	// Old is production as it was.
	Old
	// New is the universe.
	New
	// Mixed means that the map points partly elsewhere; Flip repairs it in one step.
	Mixed
)

func (s Side) String() string {
	switch s {
	case Absent:
		return "absent"
	case Old:
		return "old"
	case New:
		return "new"
	case Mixed:
		return "mixed"
	default:
		return fmt.Sprintf("side(%d)", int(s))
	}
}
