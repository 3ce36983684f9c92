package netswitch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"
)

// States and flags of the kernel's TCP conntrack.
const (
	ctEstablished = 3
	ctCloseWait   = 5 // the states after it are those of connections closed on both sides
	ctSynSent2    = 9
	ctClosedFirst = 0x04 // IP_CT_TCP_FLAG_CLOSE_INIT, of the first byte of the flags (the second is their mask)
)

// dumpFlows returns the conntrack entries of the services, with the service's index.
func dumpFlows(services []Service, each func(s Service, f conntrack.Flow) error) error {
	c, err := conntrack.Dial(nil)
	if err != nil {
		return fmt.Errorf("open conntrack: %w", err)
	}
	defer c.Close()
	if err := errors.Join(c.SetReadBuffer(netlinkBuffer), c.SetWriteBuffer(netlinkBuffer)); err != nil {
		return fmt.Errorf("set conntrack buffers: %w", err)
	}
	flows, err := c.Dump(nil)
	if err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	type endpoint struct {
		ap    netip.AddrPort
		proto uint8
	}
	by := make(map[endpoint]Service, len(services))
	for _, s := range services {
		by[endpoint{s.VIP, s.Proto.number()}] = s
	}
	for _, f := range flows {
		o := f.TupleOrig
		s, ok := by[endpoint{netip.AddrPortFrom(o.IP.DestinationAddress, o.Proto.DestinationPort), o.Proto.Protocol}]
		if !ok {
			continue
		}
		if err := each(s, f); err != nil {
			return err
		}
	}
	return nil
}

// knownFlow is a TCP connection from before the hold.
type knownFlow struct {
	key    flowKey
	app    App
	closed bool          // the server has closed it: no request can be in flight
	idle   time.Duration // at least so long since its last packet
}

// knownFlows lists the connections from before the hold.
func knownFlows(services []Service) ([]knownFlow, error) {
	limits := readTimeouts()
	var out []knownFlow
	err := dumpFlows(services, func(s Service, f conntrack.Flow) error {
		tcp := f.ProtoInfo.TCP
		if tcp == nil || s.Proto != TCP {
			return nil
		}
		k := knownFlow{app: s.App, key: flowKey{vip: s.VIP,
			client: netip.AddrPortFrom(f.TupleOrig.IP.SourceAddress, f.TupleOrig.Proto.SourcePort)}}
		k.closed = tcp.State > ctCloseWait && tcp.State < ctSynSent2 || byte(tcp.ReplyFlags>>8)&ctClosedFirst != 0
		if tcp.State == ctEstablished {
			k.idle = limits.idle(time.Duration(f.Timeout) * time.Second)
		}
		out = append(out, k)
		return nil
	})
	return out, err
}

// timeouts are how long the kernel keeps an open connection without a packet, and
// the shorter time when its last packet awaits an acknowledgement.
type timeouts struct{ established, unacknowledged time.Duration }

func readTimeouts() timeouts {
	return timeouts{
		established:    tcpTimeout("established"),
		unacknowledged: max(tcpTimeout("unacknowledged"), tcpTimeout("max_retrans")),
	}
}

// tcpTimeout reads one of them; 0 when it is not known.
func tcpTimeout(name string) time.Duration {
	v, err := readSysctl("netfilter", "nf_conntrack_tcp_timeout_"+name)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// idle says for how long at least a connection has been silent, when left is what
// remains of its timeout. A remainder that could be of the shorter timeout tells
// nothing: the connection may be in the middle of a request.
func (t timeouts) idle(left time.Duration) time.Duration {
	if left <= t.unacknowledged || left > t.established {
		return 0
	}
	return max(0, t.established-left-time.Second) // in whole seconds, so one is not certain
}

// DropOldFlows deletes the conntrack entries that pin connections of the services
// to any other place than side, so that no packet of theirs takes the former way,
// and returns how many there were. Call it after Flip and before Release: datagrams
// that were held, too, then find no entry of the past.
func DropOldFlows(ctx context.Context, services []Service, side Side) (int, error) {
	if err := errors.Join(context.Cause(ctx), checkServices(services)); err != nil {
		return 0, fmt.Errorf("drop old flows: %w", err)
	}
	if side != Old && side != New {
		return 0, fmt.Errorf("drop old flows: side %s: want old or new", side)
	}
	c, err := conntrack.Dial(nil)
	if err != nil {
		return 0, fmt.Errorf("open conntrack: %w", err)
	}
	defer c.Close()
	n := 0
	err = dumpFlows(services, func(s Service, f conntrack.Flow) error {
		r := f.TupleReply
		if netip.AddrPortFrom(r.IP.SourceAddress, r.Proto.SourcePort) == s.target(side) {
			return nil
		}
		err := c.Delete(conntrack.Flow{TupleOrig: f.TupleOrig, TupleReply: f.TupleReply, ID: f.ID, Zone: f.Zone})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("delete connection of %s: %w", f.TupleOrig.IP.SourceAddress, err)
		}
		n++
		return nil
	})
	return n, err
}
