package regulate

import "time"

// State is what the regulator does.
type State string

const (
	// Listening means stopped for a moment, to learn what production is like without the transfer.
	Listening State = "listening"
	// Full means that nothing but the manual limits holds the transfer back.
	Full State = "full"
	// Slowed means that it runs with a part of the full rate.
	Slowed State = "slowed"
	// Stopped means that production does not bear it now, or that its state is unknown.
	Stopped State = "stopped"
	// Paused means that a person stopped it.
	Paused State = "paused"
)

// Verdict is what the transfer may do until the next one.
type Verdict struct {
	At      time.Time     `json:"at"`
	State   State         `json:"state"`
	Share   float64       `json:"share"` // of the full rate, 0 to 1
	Rates   Rates         `json:"rates"`
	Reason  string        `json:"reason"` // always said, in words
	Signals []SignalState `json:"signals"`
	LeftOut []LeftOut     `json:"left_out,omitempty"`
	// Measure is where readings should begin from now on: earlier ones were
	// taken under another share and say nothing of this one.
	Measure time.Time `json:"-"`
}

// SignalState is what is known of one signal.
type SignalState struct {
	Name     string        `json:"name"`
	Unit     string        `json:"unit"`
	Value    float64       `json:"value"`    // while the transfer runs (or, before it ever did, at the last reading)
	Baseline float64       `json:"baseline"` // without the transfer
	Allowed  float64       `json:"allowed"`
	Quantile float64       `json:"quantile,omitempty"` // which one Value and Baseline are: 0.99
	Known    bool          `json:"known"`              // there was a reading
	Age      time.Duration `json:"age"`                // of the last reading
	Idle     bool          `json:"idle"`
	Error    string        `json:"error,omitempty"` // why the last reading failed
}
