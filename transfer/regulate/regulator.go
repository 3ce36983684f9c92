package regulate

import (
	"errors"
	"time"
)

// Config is what a [Regulator] starts with.
type Config struct {
	Signals []Signal  // all that are asked for; at least one
	LeftOut []LeftOut // signals that it does without, and why
	Limits  Limits
	// Full is the guess of what the machine can do: the rates at share 1 until
	// [Regulator.Achieved] has told better.
	Full Rates
	// Floor is the share that is kept up although production suffers; 0, the
	// default, is none. It does not hold when a signal is stale or a person paused.
	Floor float64
}

// Regulator turns signals into a share of the full rate. Its methods may be called
// from any goroutine.
type Regulator struct{}

// New makes a regulator, which is closed until it has listened to production.
func New(c Config) (*Regulator, error) { return nil, errors.ErrUnsupported }

// Observe takes a reading of the named signal; one of an unknown name is an error.
func (r *Regulator) Observe(signal string, rd Reading) error { return errors.ErrUnsupported }

// Failed notes that the signal could not be read; it ages until it can be again.
func (r *Regulator) Failed(signal string, err error) error { return errors.ErrUnsupported }

// Achieved tells how fast the transfer was since the last verdict. Call it only while there was
// enough to do, or the regulator takes a lack of work for a slow machine.
func (r *Regulator) Achieved(got Rates) {}

// Step decides what holds from now on. Call it about once a second.
func (r *Regulator) Step(now time.Time) Verdict { return Verdict{} }

// SetLimits replaces the manual limits.
func (r *Regulator) SetLimits(now time.Time, l Limits, who, why string) {}

// Pause stops the transfer until [Regulator.Resume].
func (r *Regulator) Pause(now time.Time, who, why string) {}

// Resume ends a pause.
func (r *Regulator) Resume(now time.Time, who, why string) {}

// Changes lists what persons changed, oldest first.
func (r *Regulator) Changes() []Change { return nil }

// Limits are the manual limits in force.
func (r *Regulator) Limits() Limits { return Limits{} }
