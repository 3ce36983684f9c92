package upgrade

import "sync"

// EventKind says what an event is about.
type EventKind string

// The kinds of events.
const (
	EventPhase    EventKind = "phase"    // a phase began
	EventDone     EventKind = "done"     // a phase ended well; Seconds is set
	EventFailed   EventKind = "failed"   // a phase failed; Text says why
	EventStep     EventKind = "step"     // something began or was found; Text says what
	EventProgress EventKind = "progress" // Done of Total for Name
	EventOutput   EventKind = "output"   // a line that a step printed in VM Name
	EventWarning  EventKind = "warning"
)

// Event is one thing that a person who watches wants to see.
type Event struct {
	Kind    EventKind `json:"kind"`
	Phase   string    `json:"phase,omitempty"`
	Name    string    `json:"name,omitempty"`
	Text    string    `json:"text,omitempty"`
	Done    uint64    `json:"done,omitempty"`
	Total   uint64    `json:"total,omitempty"`
	Unit    string    `json:"unit,omitempty"` // B for bytes, else what is counted
	Seconds float64   `json:"seconds,omitempty"`
}

// observer passes events on, one at a time, with the phase filled in.
type observer struct {
	mu    sync.Mutex
	to    func(Event)
	phase string
}

func newObserver(to func(Event)) *observer {
	if to == nil {
		to = func(Event) {}
	}
	return &observer{to: to}
}

func (o *observer) send(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.Kind == EventPhase {
		o.phase = e.Name
	}
	e.Phase = o.phase
	o.to(e)
}

func (o *observer) step(text string)    { o.send(Event{Kind: EventStep, Text: text}) }
func (o *observer) warning(text string) { o.send(Event{Kind: EventWarning, Text: text}) }

func (o *observer) progress(name, unit string, done, total uint64) {
	o.send(Event{Kind: EventProgress, Name: name, Unit: unit, Done: done, Total: total})
}
