package journal

import (
	"fmt"
	"slices"
)

// State is how far a run has come. The order of the constants is part of the
// meaning: After compares them, and the journal file stores their names.
type State int

// The states of a run, in the order of an upgrade that goes well; the ways
// back follow.
const (
	StateNew State = iota
	StateChecked
	StateCloned
	StateConverted
	StateTested
	StateSwitched // from here on nothing is undone without being asked
	StateFinalized
	StateRolledBack
	StateAborted
)

var stateNames = []string{"new", "checked", "cloned", "converted", "tested", "switched", "finalized", "rolled-back", "aborted"}

func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state(%d)", int(s))
	}
	return stateNames[s]
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// After tells whether s comes later than t on the way of an upgrade.
func (s State) After(t State) bool { return s > t }

// Over tells whether the run has ended and another may begin.
func (s State) Over() bool { return s == StateFinalized || s == StateAborted }

func parseState(name string) (State, error) {
	i := slices.Index(stateNames, name)
	if i < 0 {
		return 0, fmt.Errorf("unknown state %q in the journal: it was written by a newer imago", name)
	}
	return State(i), nil
}

// Phase is one part of an upgrade; each verb of the command is one.
type Phase string

// The phases.
const (
	PhaseCheck    Phase = "check"
	PhaseClone    Phase = "clone"
	PhaseConvert  Phase = "convert"
	PhaseTest     Phase = "test"
	PhaseSwitch   Phase = "switch"
	PhaseRollback Phase = "rollback"
	PhaseFinalize Phase = "finalize"
	PhaseAbort    Phase = "abort"
)

// step says from which states a phase may start, and where it leads.
type step struct {
	from []State
	to   State
}

var steps = map[Phase]step{
	PhaseCheck:    {[]State{StateNew, StateChecked, StateCloned, StateConverted, StateTested}, StateChecked},
	PhaseClone:    {[]State{StateNew, StateChecked}, StateCloned},
	PhaseConvert:  {[]State{StateCloned, StateConverted, StateTested}, StateConverted},
	PhaseTest:     {[]State{StateConverted, StateTested}, StateTested},
	PhaseSwitch:   {[]State{StateTested, StateRolledBack}, StateSwitched},
	PhaseRollback: {[]State{StateSwitched}, StateRolledBack},
	PhaseFinalize: {[]State{StateSwitched}, StateFinalized},
	PhaseAbort:    {[]State{StateNew, StateChecked, StateCloned, StateConverted, StateTested, StateRolledBack}, StateAborted},
}

// TransitionError says that a phase cannot start in the run's state.
type TransitionError struct {
	Phase Phase
	State State
	From  []State
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("the upgrade is %s, and %s needs it to be one of %v", e.State, e.Phase, e.From)
}

// next is the state after a phase ended well. A check never takes a run back.
func next(p Phase, s State) State {
	if to := steps[p].to; p != PhaseCheck || to.After(s) {
		return to
	}
	return s
}
