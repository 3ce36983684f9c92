package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Run is one upgrade, as the journal has it.
type Run struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	State State  `json:"state"`
	// Reason says why the run is in its state, in words; may be empty.
	Reason string `json:"reason,omitempty"`
	// Plan is the text of the plan file, PlanSHA256 its hash in hex.
	Plan       string `json:"-"`
	PlanSHA256 string `json:"plan_sha256"`
	// Versions names the programs that took part: imago, libvirt, qemu, kernel.
	Versions map[string]string `json:"versions,omitempty"`
	Began    time.Time         `json:"began"`
	Changed  time.Time         `json:"changed"`
}

// Sentinels of runs.
var (
	// ErrNoRun says that there is no such run.
	ErrNoRun = errors.New("no such run")
	// ErrRunLives says that a run of the same name is not over yet.
	ErrRunLives = errors.New("a run of this name is not over")
)

// Begin records a new run. While one of the same name is not over, it is [ErrRunLives].
func (j *Journal) Begin(ctx context.Context, name, plan, planSHA256 string, versions map[string]string) (Run, error) {
	text, err := json.Marshal(versions)
	if err != nil {
		return Run{}, fmt.Errorf("begin run %q: encode versions: %w", name, err)
	}
	var id int64
	err = j.write(ctx, fmt.Sprintf("begin run %q", name), func(tx *sql.Tx, seq int64) error {
		if _, err := liveRun(ctx, tx, name); err == nil {
			return ErrRunLives
		} else if !errors.Is(err, ErrNoRun) {
			return err
		}
		t := now()
		result, err := tx.ExecContext(ctx, `INSERT INTO runs (seq, name, state, reason, plan, plan_sha256, versions, began, changed)
			VALUES (?, ?, ?, '', ?, ?, ?, ?, ?)`, seq, name, New.String(), plan, planSHA256, string(text), t, t)
		if err != nil {
			return err
		}
		id, err = result.LastInsertId()
		return err
	})
	if err != nil {
		return Run{}, err
	}
	return j.Run(ctx, id)
}

// Transition moves a run to a state, with the reason in words. What may not follow is [ErrTransition].
func (j *Journal) Transition(ctx context.Context, run int64, to State, reason string) error {
	what := fmt.Sprintf("move run %d to %s", run, to)
	return j.write(ctx, what, func(tx *sql.Tx, seq int64) error {
		var from State
		if err := tx.QueryRowContext(ctx, "SELECT state FROM runs WHERE id = ?", run).Scan(textOf(&from)); err != nil {
			return noRun(err)
		}
		if !from.CanBecome(to) {
			return fmt.Errorf("from %s: %w", from, ErrTransition)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE runs SET state = ?, reason = ?, changed = ? WHERE id = ?", to.String(), reason, now(), run); err != nil {
			return err
		}
		body, err := json.Marshal(map[string]string{"from": from.String(), "to": to.String(), "reason": reason})
		if err != nil {
			return err
		}
		return insertEvent(ctx, tx, seq, run, "state", body)
	})
}

const runColumns = "SELECT id, name, state, reason, plan, plan_sha256, versions, began, changed FROM runs "

// Current gives the run of that name that is not over. With none it is [ErrNoRun].
func (j *Journal) Current(ctx context.Context, name string) (Run, error) {
	run, err := liveRun(ctx, j.db, name)
	if err != nil {
		return Run{}, fmt.Errorf("find run %q: %w", name, err)
	}
	return run, nil
}

// Latest gives the newest run of that name, over or not. With none it is [ErrNoRun].
func (j *Journal) Latest(ctx context.Context, name string) (Run, error) {
	run, err := scanRun(j.db.QueryRowContext(ctx, runColumns+"WHERE name = ? ORDER BY seq DESC LIMIT 1", name))
	if err != nil {
		return Run{}, fmt.Errorf("find run %q: %w", name, err)
	}
	return run, nil
}

// Run gives a run by its id.
func (j *Journal) Run(ctx context.Context, id int64) (Run, error) {
	run, err := scanRun(j.db.QueryRowContext(ctx, runColumns+"WHERE id = ?", id))
	if err != nil {
		return Run{}, fmt.Errorf("read run %d: %w", id, err)
	}
	return run, nil
}

// Runs gives all runs, oldest first.
func (j *Journal) Runs(ctx context.Context) ([]Run, error) {
	return list(ctx, j.db, "list runs", scanRun, runColumns+"ORDER BY seq")
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func liveRun(ctx context.Context, q querier, name string) (Run, error) {
	return scanRun(q.QueryRowContext(ctx, runColumns+"WHERE name = ? AND state NOT IN ('finalized', 'aborted')", name))
}

func scanRun(row row) (Run, error) {
	var r Run
	var versions string
	var began, changed int64
	err := row.Scan(&r.ID, &r.Name, textOf(&r.State), &r.Reason, &r.Plan, &r.PlanSHA256, &versions, &began, &changed)
	if err != nil {
		return Run{}, noRun(err)
	}
	if err := json.Unmarshal([]byte(versions), &r.Versions); err != nil {
		return Run{}, fmt.Errorf("decode versions: %w", err)
	}
	r.Began, r.Changed = at(began), at(changed)
	return r, nil
}

func noRun(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNoRun
	}
	return err
}
