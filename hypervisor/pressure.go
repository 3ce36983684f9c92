package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrNoPressure says that the kernel tells no pressure stall information (it
	// was built without it, or booted with psi=0).
	ErrNoPressure = errors.New("the kernel tells no pressure stall information")
	// ErrNoCgroup says that a domain's QEMU is in no control group (v2) of its own.
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

// Stalled is a part of the time, in percent over about the last 10, 60 and 300 s,
// and in whole since the start.
type Stalled struct {
	Avg10, Avg60, Avg300 float64
	Total                time.Duration
}

// Since is the part of the time in percent between an earlier reading and this
// one, d apart. Unlike Avg10, it remembers nothing of what was before.
func (s Stalled) Since(before Stalled, d time.Duration) float64 {
	if d <= 0 || s.Total < before.Total {
		return 0
	}
	return min(100*float64(s.Total-before.Total)/float64(d), 100)
}

// HostPressure reads the pressure of this whole host from /proc/pressure.
func HostPressure(ctx context.Context) (Pressure, error) {
	if ctx.Err() != nil {
		return Pressure{}, context.Cause(ctx)
	}
	p, err := readPressure("/proc/pressure", "")
	if err != nil {
		return Pressure{}, fmt.Errorf("read the host's pressure: %w", err)
	}
	return p, nil
}

// Pressure reads the pressure of the control group that holds the domain's QEMU:
// what this guest feels, unlike the host's. [ErrNoCgroup] if it has none of its
// own. It looks on this host, so the connection must be a local one.
func (d *Domain) Pressure(ctx context.Context) (Pressure, error) {
	if ctx.Err() != nil {
		return Pressure{}, context.Cause(ctx)
	}
	dir, err := qemuCgroup("/proc", "/run/libvirt/qemu", d.name)
	if err != nil {
		return Pressure{}, fmt.Errorf("find the control group of domain %q: %w", d.name, err)
	}
	p, err := readPressure(dir, ".pressure")
	if err != nil {
		return Pressure{}, fmt.Errorf("read the pressure on domain %q: %w", d.name, err)
	}
	return p, nil
}

func readPressure(dir, suffix string) (Pressure, error) {
	p := Pressure{At: time.Now()}
	for _, r := range []struct {
		name string
		into *Stall
	}{{"io", &p.IO}, {"cpu", &p.CPU}, {"memory", &p.Memory}} {
		path := filepath.Join(dir, r.name+suffix)
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
			return Pressure{}, fmt.Errorf("%s: %w", path, ErrNoPressure)
		}
		if err != nil {
			return Pressure{}, err
		}
		if *r.into, err = parseStall(string(b)); err != nil {
			return Pressure{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	return p, nil
}

// parseStall reads "some avg10=0.12 avg60=0.05 avg300=0.01 total=1234" and, where
// the kernel has it, the same with "full".
func parseStall(text string) (Stall, error) {
	var s Stall
	seen := false
	for line := range strings.Lines(text) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		var err error
		switch kind {
		case "some":
			s.Some, err = parseStalled(rest)
			seen = true
		case "full":
			s.Full, err = parseStalled(rest)
		}
		if err != nil {
			return Stall{}, err
		}
	}
	if !seen {
		return Stall{}, errors.New("no line that begins with \"some\"")
	}
	return s, nil
}

func parseStalled(text string) (Stalled, error) {
	var s Stalled
	found := 0
	for _, f := range strings.Fields(text) {
		key, value, _ := strings.Cut(f, "=")
		if key == "total" {
			us, err := strconv.ParseInt(value, 10, 64)
			if err != nil || us < 0 || us > int64(1<<63-1)/int64(time.Microsecond) {
				return Stalled{}, fmt.Errorf("total %q is no number of microseconds", value)
			}
			s.Total = time.Duration(us) * time.Microsecond
			found++
			continue
		}
		into := map[string]*float64{"avg10": &s.Avg10, "avg60": &s.Avg60, "avg300": &s.Avg300}[key]
		if into == nil {
			continue // of a newer kernel
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || !(v >= 0 && v <= 100) {
			return Stalled{}, fmt.Errorf("%s %q is no percentage", key, value)
		}
		*into = v
		found++
	}
	if found < 4 {
		return Stalled{}, fmt.Errorf("%q lacks a part", text)
	}
	return s, nil
}
