package regulate

import (
	"fmt"
	"math"
	"time"
)

// State is what the regulator does.
type State string

const (
	// Listening means stopped for a moment, to learn what production is like without the transfer.
	Listening State = "listening"
	// Full means that nothing but manual limits holds the transfer back.
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
	// Measure is where readings should begin from now on: earlier ones were taken
	// under another share and say nothing of this one. It may lie a moment ahead.
	Measure time.Time `json:"-"`
}

// SignalState is what is known of one signal.
type SignalState struct {
	Name     string        `json:"name"`
	Unit     string        `json:"unit"`
	Value    float64       `json:"value"`    // under the present share; 0 until there is enough to tell
	Baseline float64       `json:"baseline"` // without the transfer
	Allowed  float64       `json:"allowed"`
	Quantile float64       `json:"quantile,omitempty"` // which one Value and Baseline are: 0.99
	Known    bool          `json:"known"`              // there was a reading
	Age      time.Duration `json:"age"`                // since the end of the last reading
	Idle     bool          `json:"idle"`
	Error    string        `json:"error,omitempty"` // why the last reading failed
}

// say puts the present phase into words, after advance.
func (r *Regulator) say(now time.Time, judged []judgement) (State, float64, string) {
	switch r.phase {
	case held:
		return Paused, 0, fmt.Sprintf("paused by %s%s, %s ago", r.paused.Who, because(r.paused.Why), now.Sub(r.paused.At).Round(time.Second))
	case blind:
		return Stopped, 0, "stopped: " + r.staleNow(now).unknownText(now, r.started)
	case listening:
		if t := r.unheard(); t != nil && now.Sub(r.measure) > Stale {
			return Stopped, 0, fmt.Sprintf("stopped: nothing could be learnt of %s for %.0f s, since the transfer stopped", t.Name, now.Sub(r.measure).Seconds())
		}
		return Listening, 0, "listening: " + r.listenText()
	case resting:
		if r.floor > 0 {
			return Slowed, r.floor, fmt.Sprintf("slowed to the plan's floor of %s: %s", percent(r.floor), r.because)
		}
		text := "stopped: " + r.because
		if left := r.until.Sub(now).Round(time.Second); left > 0 {
			text += fmt.Sprintf("; next try in %s", left)
		}
		return Stopped, 0, text
	}
	share := max(r.share, r.floor)
	switch {
	case share >= 1:
		return Full, 1, "full speed"
	case r.because == "":
		return Slowed, share, "speeding up, now " + percent(share) + worstText(judged)
	case r.growing:
		return Slowed, share, "slowed to " + percent(share) + ", speeding up" + worstText(judged) + "; before: " + r.because
	}
	return Slowed, share, "slowed to " + percent(share) + ": " + r.because
}

func (r *Regulator) listenText() string {
	switch {
	case len(r.doubted) > 0:
		return r.doubted[0].t.Name + " rose; is it slow without the transfer too?"
	case r.pause == 0:
		return "how is production without the transfer?"
	}
	return "a moment's pause to learn how production is without the transfer"
}

func worstText(judged []judgement) string {
	text, most := "", math.Inf(-1)
	for _, j := range judged {
		if j.known && j.strain.value > most {
			text, most = ": "+j.text(), j.strain.value
		}
	}
	return text
}

// text says how far a signal is from what is normal: "clients' latency p99 +18 % (40 ms, now 47.2 ms)".
func (j judgement) text() string {
	name := j.t.Name
	if j.quantile > 0 {
		name += fmt.Sprintf(" p%.0f", 100*j.quantile)
	}
	change := ""
	if j.normal > 0 {
		change = fmt.Sprintf(" %+.0f %%", 100*(j.value/j.normal-1))
	}
	return fmt.Sprintf("%s%s (%.3g %s, now %.3g %s)", name, change, j.normal, j.t.Unit, j.value, j.t.Unit)
}

func (t *tracker) overText() string {
	return fmt.Sprintf("%s is %.3g %s without the transfer, the limit is %.3g %s", t.Name, t.level(), t.Unit, t.Limit, t.Unit)
}

func (t *tracker) unknownText(now, started time.Time) string {
	text := fmt.Sprintf("%s is unknown for %.0f s", t.Name, math.Ceil(t.age(now, started).Seconds()))
	if t.err != nil {
		text += " (" + t.err.Error() + ")"
	}
	return text
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

func percent(share float64) string {
	if share < 0.1 {
		return fmt.Sprintf("%.1f %%", 100*share)
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}
