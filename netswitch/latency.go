package netswitch

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"
)

// LatencySpec says where production's clients are watched.
//
// A frame that goes from one port of a bridge to another is never seen on the
// bridge device itself, only on the ports; one that the host routes there (from a
// client, after its DNAT) is seen on the bridge and on the port. So the ports are
// what is watched: the tap devices of production's VMs. A frame seen on two of
// them counts once.
type LatencySpec struct {
	Interfaces []string // tap devices of the VMs that hold the Backends
	// Bridge stands for all of its ports, as they come and go, for when the taps are not
	// known. The universe's bridge must not be among them: its VMs have the same addresses.
	Bridge   string
	Backends []netip.AddrPort // where production's services listen, as the VM sees it
	Log      *slog.Logger
}

// LatencyWindow is what clients felt in the time from From to At: from the first
// segment of a request to the first segment of its answer.
type LatencyWindow struct {
	From, At      time.Time // At stays behind when the probe cannot see production any more
	P50, P90, P99 time.Duration
	Requests      int           // answered in this time; 0 with a recent At is a quiet time
	Waiting       int           // requests without an answer at its end
	Oldest        time.Duration // how long the longest of these waits
	Dropped       uint64        // packets that the probe missed, since its start; production missed none
	Frames        uint64        // packets of the backends that it saw, since its start
	// Buckets is the distribution behind the quantiles, in ascending order. It counts waiting
	// requests too, once they wait longer than most answers took.
	Buckets []LatencyBucket
}

// LatencyBucket counts requests that took about Latency.
type LatencyBucket struct {
	Latency time.Duration
	Count   int
}

// LatencyProbe measures production's latency from packets that pass anyway. It never holds a packet up:
// the kernel copies headers into a ring, and when the ring is full, the copy is dropped and counted.
type LatencyProbe struct{}

// WatchLatency starts a probe, which runs until ctx ends or Close.
func WatchLatency(ctx context.Context, spec LatencySpec) (*LatencyProbe, error) {
	return nil, errors.ErrUnsupported
}

// Window tells about the last ten seconds.
func (p *LatencyProbe) Window() LatencyWindow { return LatencyWindow{} }

// Since tells about the time since from, at most the last minute of it, and in steps of a quarter of a second:
// an answer that came before from is never counted.
func (p *LatencyProbe) Since(from time.Time) LatencyWindow { return LatencyWindow{} }

// Err tells why the probe sees nothing now; nil while all is well.
func (p *LatencyProbe) Err() error { return nil }

// Close ends the probe and waits for it.
func (p *LatencyProbe) Close() error { return nil }
