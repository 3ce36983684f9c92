package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Run is one upgrade, from its first check to its end.
type Run struct {
	ID         string            `json:"id"`
	Plan       string            `json:"plan"`
	PlanText   string            `json:"-"`
	PlanSHA256 string            `json:"plan_sha256"`
	Versions   map[string]string `json:"versions"`
	State      State             `json:"state"`
	Began      time.Time         `json:"began"`
}

// NewRun is what a run begins with.
type NewRun struct {
	ID, Plan, PlanText, PlanSHA256 string
	Versions                       map[string]string
}

// Begin starts a run. The plan must have no run under way.
func (j *Journal) Begin(ctx context.Context, n NewRun) (*Run, error) {
	if r, err := j.Current(ctx, n.Plan); !errors.Is(err, ErrNoRun) {
		if err == nil {
			err = fmt.Errorf("run %s of plan %q is under way (%s)", r.ID, n.Plan, r.State)
		}
		return nil, err
	}
	versions, err := json.Marshal(n.Versions)
	if err != nil {
		return nil, err
	}
	// The order of runs is the sequence, never the clock.
	err = j.exec(ctx, `INSERT INTO runs (id, plan, plan_text, plan_sha256, versions, state, began, seq)
		VALUES (?, ?, ?, ?, ?, ?, ?, (SELECT COALESCE(MAX(seq), 0) + 1 FROM runs))`,
		n.ID, n.Plan, n.PlanText, n.PlanSHA256, string(versions), StateNew.String(), now())
	if err != nil {
		return nil, fmt.Errorf("begin run %s: %w", n.ID, err)
	}
	return j.Last(ctx, n.Plan)
}

// Current is the plan's run that is under way, or ErrNoRun.
func (j *Journal) Current(ctx context.Context, plan string) (*Run, error) {
	r, err := j.Last(ctx, plan)
	if err == nil && r.State.Over() {
		return nil, fmt.Errorf("plan %q: %w: run %s is %s", plan, ErrNoRun, r.ID, r.State)
	}
	return r, err
}

// Last is the plan's latest run, also when it has ended, or ErrNoRun.
func (j *Journal) Last(ctx context.Context, plan string) (*Run, error) {
	var r Run
	var versions, state, began string
	err := j.db.QueryRowContext(ctx, `SELECT id, plan, plan_text, plan_sha256, versions, state, began
		FROM runs WHERE plan = ? ORDER BY seq DESC LIMIT 1`, plan).
		Scan(&r.ID, &r.Plan, &r.PlanText, &r.PlanSHA256, &versions, &state, &began)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("plan %q: %w", plan, ErrNoRun)
	}
	if err != nil {
		return nil, fmt.Errorf("read the latest run: %w", err)
	}
	if r.State, err = parseState(state); err != nil {
		return nil, err
	}
	if r.Began, err = time.Parse(time.RFC3339Nano, began); err != nil {
		return nil, fmt.Errorf("read the latest run: %w", err)
	}
	return &r, json.Unmarshal([]byte(versions), &r.Versions)
}

// Outcomes of a phase.
const (
	OutcomeRunning = "running" // or its process died
	OutcomeDone    = "done"
	OutcomeFailed  = "failed"
)

// PhaseRecord is one execution of a phase.
type PhaseRecord struct {
	Phase   Phase     `json:"name"`
	Began   time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Outcome string    `json:"outcome"`
	Error   string    `json:"error,omitempty"`

	id int64
}

// StartPhase writes down that a phase begins, if the run's state allows it;
// else it returns a *TransitionError.
func (j *Journal) StartPhase(ctx context.Context, r *Run, p Phase) (*PhaseRecord, error) {
	st, ok := steps[p]
	if !ok {
		return nil, fmt.Errorf("unknown phase %q", p)
	}
	if !slices.Contains(st.from, r.State) {
		return nil, &TransitionError{p, r.State, st.from}
	}
	rec := &PhaseRecord{Phase: p, Began: time.Now(), Outcome: OutcomeRunning}
	return rec, j.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "INSERT INTO phases (run, phase, began, outcome) VALUES (?, ?, ?, ?)",
			r.ID, string(p), rec.Began.UTC().Format(time.RFC3339Nano), OutcomeRunning)
		if err != nil {
			return fmt.Errorf("start phase %s: %w", p, err)
		}
		rec.id, err = res.LastInsertId()
		return err
	})
}

// EndPhase writes down how the phase ended. If it ended well the run's state
// moves on, in the same transaction.
func (j *Journal) EndPhase(ctx context.Context, r *Run, rec *PhaseRecord, phaseErr error) error {
	rec.Seconds = time.Since(rec.Began).Seconds() // monotonic
	rec.Outcome = OutcomeDone
	state := next(rec.Phase, r.State)
	if phaseErr != nil {
		rec.Outcome, rec.Error, state = OutcomeFailed, phaseErr.Error(), r.State
	}
	err := j.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE phases SET seconds = ?, outcome = ?, error = ? WHERE id = ?",
			rec.Seconds, rec.Outcome, rec.Error, rec.id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE runs SET state = ? WHERE id = ?", state.String(), r.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("end phase %s: %w", rec.Phase, err)
	}
	r.State = state
	return nil
}

// SetState writes the run's state, in the middle of a phase: the switch counts
// from the moment of the flip, whatever comes after it.
func (j *Journal) SetState(ctx context.Context, r *Run, s State) error {
	if err := j.exec(ctx, "UPDATE runs SET state = ? WHERE id = ?", s.String(), r.ID); err != nil {
		return fmt.Errorf("write the run's state: %w", err)
	}
	r.State = s
	return nil
}

// Phases lists the run's phases in the order in which they began.
func (j *Journal) Phases(ctx context.Context, run string) ([]PhaseRecord, error) {
	rows, err := j.db.QueryContext(ctx, "SELECT id, phase, began, COALESCE(seconds, 0), outcome, error FROM phases WHERE run = ? ORDER BY id", run)
	if err != nil {
		return nil, fmt.Errorf("read phases: %w", err)
	}
	defer rows.Close()
	var out []PhaseRecord
	for rows.Next() {
		var p PhaseRecord
		var began string
		if err := rows.Scan(&p.id, &p.Phase, &began, &p.Seconds, &p.Outcome, &p.Error); err != nil {
			return nil, fmt.Errorf("read phases: %w", err)
		}
		if p.Began, err = time.Parse(time.RFC3339Nano, began); err != nil {
			return nil, fmt.Errorf("read phases: %w", err)
		}
		out = append(out, p)
	}
	return out, rows.Err()
}
