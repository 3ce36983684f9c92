package journal

import (
	"errors"
	"fmt"
	"slices"
)

// State is how far a run is. The order is the order of an upgrade that goes well, then the ways out; it is pinned by a
// test, because "before the switch" is decided by comparing.
type State int

// The states of a run. An -ing state is left for the settled state it leads to, or back to the one before it when its
// work was undone.
//
//	new → checked → cloning → cloned → converting → converted → testing → tested → switching → switched → finalizing → finalized
//	                                                                         ↑         │           │ ↑
//	                                                                         └─────────┘           ↓ │
//	                                                                  (hold given up)         rolling-back → rolled-back
//
// Everything before switched, and rolled-back, may go to aborting → aborted. From switched on nothing is undone on its
// own: only rollback leads back. Failed means that what is true is not known, such as where the VIP map points: who goes
// on from it must look first.
const (
	New State = iota + 1
	Checked
	Cloning
	Cloned
	Converting
	Converted
	Testing
	Tested
	Switching
	Switched
	RollingBack
	RolledBack
	Finalizing
	Finalized
	Aborting
	Aborted
	Failed
)

var stateNames = map[State]string{
	New: "new", Checked: "checked", Cloning: "cloning", Cloned: "cloned", Converting: "converting", Converted: "converted",
	Testing: "testing", Tested: "tested", Switching: "switching", Switched: "switched", RollingBack: "rolling-back",
	RolledBack: "rolled-back", Finalizing: "finalizing", Finalized: "finalized", Aborting: "aborting", Aborted: "aborted",
	Failed: "failed",
}

// next has the legal transitions. An -ing state may be entered again by a process that resumes after a crash.
var next = map[State][]State{
	New:        {Checked, Cloning, Aborting, Failed},
	Checked:    {Checked, Cloning, Aborting, Failed},
	Cloning:    {Cloning, Cloned, Checked, Aborting, Failed},
	Cloned:     {Converting, Aborting, Failed},
	Converting: {Converting, Converted, Cloned, Aborting, Failed},
	Converted:  {Converting, Testing, Aborting, Failed},
	Testing:    {Testing, Tested, Converted, Aborting, Failed},
	Tested:     {Testing, Converting, Switching, Aborting, Failed},
	// Back to tested: the hold was given up and clients are on the old version. Failed: the truth is not known.
	Switching: {Switching, Switched, Tested, Aborting, Failed},
	Switched:  {RollingBack, Finalizing},
	// Back to switched: the map still leads to the new version.
	RollingBack: {RollingBack, RolledBack, Switched, Failed},
	RolledBack:  {Converting, Switching, Aborting},
	Finalizing:  {Finalizing, Finalized, Switched},
	Finalized:   nil,
	Aborting:    {Aborting, Aborted, Failed},
	Aborted:     nil,
	// A failed run keeps everything for a person: remove it, or lead clients back first when the switch was ambiguous.
	Failed: {Aborting, RollingBack},
}

// ErrTransition says that a state may not follow another.
var ErrTransition = errors.New("illegal transition")

// String gives the state's name, as status and journal write it.
func (s State) String() string {
	if name, ok := stateNames[s]; ok {
		return name
	}
	return fmt.Sprintf("state %d", int(s))
}

// MarshalText writes the name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a name.
func (s *State) UnmarshalText(text []byte) error {
	for state, name := range stateNames {
		if name == string(text) {
			*s = state
			return nil
		}
	}
	return fmt.Errorf("unknown state %q", text)
}

// CanBecome reports whether to may follow s.
func (s State) CanBecome(to State) bool { return slices.Contains(next[s], to) }

// Terminal reports whether a run in this state is over for good, so that another of its name may begin.
func (s State) Terminal() bool { return s == Finalized || s == Aborted }

// BeforeSwitch reports whether clients are certainly on the old version and an error may undo on its own.
func (s State) BeforeSwitch() bool { return s < Switching }
