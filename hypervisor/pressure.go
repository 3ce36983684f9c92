package hypervisor

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrNoPressure says that the kernel tells no pressure stall information.
	ErrNoPressure = errors.New("no pressure stall information")
	// ErrNoCgroup says that a domain's QEMU is in no control group of its own.
	ErrNoCgroup = errors.New("no control group of its own")
)

// Pressure is pressure stall information: for how much of the time tasks waited
// for a resource that was short.
type Pressure struct {
	At              time.Time
	IO, CPU, Memory Stall
}

// Stall is the pressure on one resource.
type Stall struct {
	Some Stalled // at least one task waited
	Full Stalled // all of them did
}

// Stalled is a part of the time, in percent over the last 10, 60 and 300 s, and in whole since the start.
type Stalled struct {
	Avg10, Avg60, Avg300 float64
	Total                time.Duration
}

// HostPressure reads the pressure of this whole host from /proc/pressure.
func HostPressure(ctx context.Context) (Pressure, error) {
	return Pressure{}, errors.ErrUnsupported
}

// Pressure reads the pressure of the control group that holds the domain's QEMU: what
// this guest feels, unlike the host's. [ErrNoCgroup] if it has none of its own.
func (d *Domain) Pressure(ctx context.Context) (Pressure, error) {
	return Pressure{}, errors.ErrUnsupported
}
