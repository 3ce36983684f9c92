package journal

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestStateOrder pins the order: BeforeSwitch and whoever compares states rely on it.
func TestStateOrder(t *testing.T) {
	want := []State{New, Checked, Cloning, Cloned, Converting, Converted, Testing, Tested, Switching, Switched, RollingBack, RolledBack, Finalizing, Finalized, Aborting, Aborted, Failed}
	names := []string{"new", "checked", "cloning", "cloned", "converting", "converted", "testing", "tested", "switching", "switched",
		"rolling-back", "rolled-back", "finalizing", "finalized", "aborting", "aborted", "failed"}
	if !slices.IsSorted(want) || len(want) != len(stateNames) || len(want) != len(next) {
		t.Fatalf("order %v, %d names, %d rows of transitions", want, len(stateNames), len(next))
	}
	for i, s := range want {
		var back State
		if err := back.UnmarshalText([]byte(names[i])); err != nil || s.String() != names[i] || back != s {
			t.Errorf("%d is %s, read back as %s, %v; want %s", i, s, back, err, names[i])
		}
		if s.BeforeSwitch() != (s < Switching) {
			t.Errorf("%s: BeforeSwitch is %t", s, s.BeforeSwitch())
		}
	}
}

func TestTransitions(t *testing.T) {
	never := map[State][]State{
		New:       {Switching, Switched, Cloned},
		Converted: {Switching, Switched}, // untested is not switched
		Switched:  {Aborting, Failed, Converting, Tested},
		Finalized: {RollingBack, Aborting, New}, Aborted: {New, Aborting, Failed},
		RollingBack: {Aborting, Tested}, Finalizing: {RollingBack, Aborting},
		Failed: {Cloning, Switching, Tested, Switched},
	}
	for from, all := range never {
		for _, to := range all {
			if from.CanBecome(to) {
				t.Errorf("%s may become %s", from, to)
			}
		}
	}
	for from := range next {
		if from.Terminal() != (len(next[from]) == 0) {
			t.Errorf("%s: Terminal is %t", from, from.Terminal())
		}
		if from < Switched && !from.CanBecome(Aborting) {
			t.Errorf("%s cannot be aborted", from)
		}
	}
}

func TestRunThroughItsStates(t *testing.T) {
	j := open(t)
	ctx := t.Context()
	run := begin(t, j)
	if run.State != New || run.Versions["imago"] != "1.0" || run.Plan != "version: 1\n" || run.PlanSHA256 != "abc" {
		t.Errorf("begun as %+v", run)
	}
	if _, err := j.Begin(ctx, "wiki", "", "", nil); !errors.Is(err, ErrRunLives) {
		t.Errorf("a second run of the name: %v", err)
	}
	if err := j.Transition(ctx, run.ID, Switched, ""); !errors.Is(err, ErrTransition) {
		t.Errorf("new to switched: %v", err)
	}
	if err := j.Transition(ctx, 99, Checked, ""); !errors.Is(err, ErrNoRun) {
		t.Errorf("a run that is not there: %v", err)
	}
	for _, s := range []State{Checked, Cloning, Failed, Aborting, Aborted} {
		if err := j.Transition(ctx, run.ID, s, "because "+s.String()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Current(ctx, "wiki"); !errors.Is(err, ErrNoRun) {
		t.Errorf("an aborted run is current: %v", err)
	}
	second := begin(t, j)
	latest, err := j.Latest(ctx, "wiki")
	if err != nil || latest.ID != second.ID {
		t.Errorf("latest is %d, %v; want %d", latest.ID, err, second.ID)
	}
	runs, err := j.Runs(ctx)
	if err != nil || len(runs) != 2 || runs[0].State != Aborted || runs[0].Reason != "because aborted" {
		t.Errorf("runs %+v, %v", runs, err)
	}
	events, err := j.Tail(ctx, run.ID, 2)
	if err != nil || len(events) != 2 || string(events[1].Body) != `{"from":"aborting","reason":"because aborted","to":"aborted"}` {
		t.Errorf("events %v, %v", events, err)
	}
}

func TestPhases(t *testing.T) {
	j := open(t)
	ctx := t.Context()
	run := begin(t, j)
	phase, err := j.StartPhase(ctx, run.ID, "convert")
	if err != nil {
		t.Fatal(err)
	}
	step, err := j.StartStep(ctx, run.ID, phase.ID, "dump")
	if err != nil {
		t.Fatal(err)
	}
	if err := step.End(ctx, FailedPhase, "exit status 2"); err != nil {
		t.Fatal(err)
	}
	if err := step.End(ctx, Done, ""); !errors.Is(err, ErrPhaseOver) {
		t.Errorf("a second end: %v", err)
	}
	if n, err := j.CutShort(ctx, run.ID); n != 1 || err != nil {
		t.Errorf("cut short %d, %v", n, err)
	}
	all, err := j.Phases(ctx, run.ID)
	if err != nil || len(all) != 2 {
		t.Fatalf("phases %v, %v", all, err)
	}
	if all[0].Outcome != CutShort || !all[0].Ended.IsZero() || all[0].Parent != 0 {
		t.Errorf("phase is %+v", all[0])
	}
	if all[1].Outcome != FailedPhase || all[1].Seconds <= 0 || all[1].Parent != phase.ID || all[1].Detail != "exit status 2" || all[1].Seq <= all[0].Seq {
		t.Errorf("step is %+v", all[1])
	}
	if _, err := j.StartPhase(ctx, 99, "x"); err == nil {
		t.Error("a phase of a run that is not there was recorded")
	}
}

func TestResources(t *testing.T) {
	j := open(t)
	ctx := t.Context()
	run := begin(t, j)
	var ids []int64
	for i := range 4 {
		id, err := j.Intend(ctx, run.ID, Resource{Kind: KindDomain, Name: fmt.Sprint("vm", i), Attrs: map[string]string{"uuid": fmt.Sprint(i)}})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, err := range []error{j.Made(ctx, ids[0]), j.Made(ctx, ids[1]), j.Gone(ctx, ids[1]), j.Gone(ctx, ids[1]), j.Gone(ctx, ids[2]), j.Amend(ctx, ids[3], map[string]string{"pid": "7"})} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := j.Made(ctx, ids[1]); !errors.Is(err, ErrNoResource) {
		t.Errorf("a gone resource was made: %v", err)
	}
	standing, err := j.Standing(ctx, run.ID)
	if err != nil || len(standing) != 2 || standing[0].Name != "vm3" || standing[1].Name != "vm0" {
		t.Fatalf("standing %+v, %v; want vm3 before vm0", standing, err)
	}
	if standing[0].Status != Intended || standing[1].Status != Made || standing[0].Attrs["pid"] != "7" || standing[0].Attrs["uuid"] != "3" {
		t.Errorf("standing %+v", standing)
	}
	if all, err := j.Resources(ctx, run.ID); err != nil || len(all) != 4 || all[1].Status != Gone {
		t.Errorf("all %+v, %v", all, err)
	}
}

func TestEvidence(t *testing.T) {
	j := open(t)
	ctx := t.Context()
	run := begin(t, j)
	type proof struct{ Sum string }
	for _, sum := range []string{"first", "second"} {
		if err := j.Put(ctx, run.ID, "isolation", proof{sum}); err != nil {
			t.Fatal(err)
		}
	}
	var got proof
	if err := j.Get(ctx, run.ID, "isolation", &got); err != nil || got.Sum != "second" {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := j.Get(ctx, run.ID, "other", &got); !errors.Is(err, ErrNoEvidence) {
		t.Errorf("missing evidence: %v", err)
	}
	if keys, err := j.EvidenceKeys(ctx, run.ID); err != nil || !slices.Equal(keys, []string{"isolation"}) {
		t.Errorf("keys %v, %v", keys, err)
	}
}

func TestEventsFollow(t *testing.T) {
	j := open(t)
	ctx := t.Context()
	run := begin(t, j)
	for i := range 5 {
		if err := j.Append(ctx, run.ID, "progress", i); err != nil {
			t.Fatal(err)
		}
	}
	first, err := j.Events(ctx, run.ID, 0, 2)
	if err != nil || len(first) != 2 {
		t.Fatal(first, err)
	}
	rest, err := j.Events(ctx, run.ID, first[1].Seq, 100)
	if err != nil || len(rest) != 3 || string(rest[0].Body) != "2" {
		t.Errorf("rest %v, %v", rest, err)
	}
}
