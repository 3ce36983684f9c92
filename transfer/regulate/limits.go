package regulate

import "time"

// Limits are bounds that a person sets, on top of what the signals allow. Zero is no bound.
type Limits struct {
	RowsPerSecond  int64 `json:"rows_per_second,omitempty"`
	BytesPerSecond int64 `json:"bytes_per_second,omitempty"`
	PullRate       int64 `json:"pull_rate,omitempty"` // bytes per second of disks that are copied
}

// Rates are what the transfer may do now: zero stops, a negative rate is unlimited.
type Rates struct {
	RowsPerSecond  int64 `json:"rows_per_second"`
	BytesPerSecond int64 `json:"bytes_per_second"`
	PullRate       int64 `json:"pull_rate"` // bytes per second; libvirt takes 0 as unlimited, so the driver must translate
}

// Change is something that a person changed while the transfer ran.
type Change struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	Why  string    `json:"why"`
	What string    `json:"what"` // "paused", "resumed", "limits: 5000 rows/s"
}
