package regulate

import (
	"fmt"
	"strings"
	"time"
)

// Limits are bounds that a person sets, on top of what the signals allow. Zero is
// no bound.
type Limits struct {
	RowsPerSecond  int64 `json:"rows_per_second,omitempty"`
	BytesPerSecond int64 `json:"bytes_per_second,omitempty"`
	PullRate       int64 `json:"pull_rate,omitempty"` // bytes per second of disks that are copied
}

func (l Limits) check() error {
	if l.RowsPerSecond < 0 || l.BytesPerSecond < 0 || l.PullRate < 0 {
		return fmt.Errorf("limits must be 0 (none) or more, got %d rows/s, %d bytes/s and %d bytes/s of disks; to stop, pause", l.RowsPerSecond, l.BytesPerSecond, l.PullRate)
	}
	return nil
}

// String is empty if there is no limit.
func (l Limits) String() string {
	var parts []string
	for _, p := range []struct {
		rate int64
		unit string
	}{{l.RowsPerSecond, "rows/s"}, {l.BytesPerSecond, "bytes/s"}, {l.PullRate, "bytes/s of disks"}} {
		if p.rate > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.rate, p.unit))
		}
	}
	return strings.Join(parts, " and ")
}

// Rates are what the transfer may do now: zero stops, a negative rate is unlimited.
// (libvirt takes a bandwidth of 0 as unlimited, so a driver must translate PullRate.)
type Rates struct {
	RowsPerSecond  int64 `json:"rows_per_second"`
	BytesPerSecond int64 `json:"bytes_per_second"`
	PullRate       int64 `json:"pull_rate"`
}

// Change is something that a person changed while the transfer ran.
type Change struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	Why  string    `json:"why"`
	What string    `json:"what"` // "paused", "resumed", "limits: 5000 rows/s"

	limits bool
}

// rateBook turns a share into rates.
type rateBook struct {
	limits Limits
	full   Rates // what share 1 is worth
}

func (b *rateBook) at(share float64) Rates {
	return Rates{
		rateAt(share, b.full.RowsPerSecond, b.limits.RowsPerSecond),
		rateAt(share, b.full.BytesPerSecond, b.limits.BytesPerSecond),
		rateAt(share, b.full.PullRate, b.limits.PullRate),
	}
}

func rateAt(share float64, full, limit int64) int64 {
	switch {
	case share <= 0:
		return 0
	case share >= 1 && limit > 0:
		return limit
	case share >= 1:
		return -1
	}
	rate := max(int64(share*float64(full)), 1)
	if limit > 0 {
		rate = min(rate, limit)
	}
	return rate
}

// achieved learns what the machine can do. A share that does not hold the transfer
// back must not grow further in secret: halving it later would change nothing
// (TCP validates its window for the same reason, RFC 7661).
func (b *rateBook) achieved(got Rates, share float64) {
	b.full.RowsPerSecond = learnFull(b.full.RowsPerSecond, got.RowsPerSecond, b.limits.RowsPerSecond, share)
	b.full.BytesPerSecond = learnFull(b.full.BytesPerSecond, got.BytesPerSecond, b.limits.BytesPerSecond, share)
	b.full.PullRate = learnFull(b.full.PullRate, got.PullRate, b.limits.PullRate, share)
}

func learnFull(full, got, limit int64, share float64) int64 {
	if got <= 0 || limit > 0 && got >= limit-limit/4 {
		return full // nothing to do of this kind, or a person holds it back
	}
	free := float64(got) * 1.25
	switch {
	case share >= 1 && (got > full || free < float64(full)):
		return max(int64(free), 1)
	case share < 1 && float64(got) < 0.5*share*float64(full):
		return max(int64(free/share), 1)
	}
	return full
}
