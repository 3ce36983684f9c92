package guestagent

import "sync/atomic"

// Rate is a speed in bytes per second that can be turned while a call runs. It
// is safe for concurrent use. A negative rate is no bound; 0, the zero value,
// pauses.
type Rate struct{ bytes atomic.Int64 }

// Unlimited is the rate that bounds nothing.
const Unlimited = -1

// NewRate makes a rate.
func NewRate(bytesPerSecond int64) *Rate {
	r := new(Rate)
	r.Set(bytesPerSecond)
	return r
}

// Set changes the rate; running calls follow within a few tenths of a second.
func (r *Rate) Set(bytesPerSecond int64) { r.bytes.Store(max(bytesPerSecond, Unlimited)) }

// Get reads the rate.
func (r *Rate) Get() int64 { return r.bytes.Load() }
