package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Outcome says how a phase or step ended.
type Outcome string

// The outcomes. A phase that a crash cut short stays Running until [Journal.CutShort] says so.
const (
	Running     Outcome = "running"
	Done        Outcome = "done"
	FailedPhase Outcome = "failed"
	CutShort    Outcome = "cut-short"
)

// Phase is a phase of a run, or a step in one (Parent is not 0).
type Phase struct {
	ID     int64 `json:"id"`
	Run    int64 `json:"run"`
	Parent int64 `json:"parent,omitempty"`
	// Seq orders phases, steps, resources and events of all runs.
	Seq     int64     `json:"seq"`
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
	// Ended is zero while the phase runs. Seconds is by the monotonic clock of the process that ran it.
	Ended   time.Time `json:"ended,omitzero"`
	Seconds float64   `json:"seconds"`
	Outcome Outcome   `json:"outcome"`
	Detail  string    `json:"detail,omitempty"`
}

// ErrPhaseOver says that a phase has ended already, or never began.
var ErrPhaseOver = errors.New("no such running phase")

// Span is a phase or step under way.
type Span struct {
	ID      int64
	journal *Journal
	started time.Time
}

// StartPhase records that a phase began.
func (j *Journal) StartPhase(ctx context.Context, run int64, name string) (*Span, error) {
	return j.start(ctx, run, 0, name)
}

// StartStep records that a step of a phase began.
func (j *Journal) StartStep(ctx context.Context, run, phase int64, name string) (*Span, error) {
	return j.start(ctx, run, phase, name)
}

func (j *Journal) start(ctx context.Context, run, parent int64, name string) (*Span, error) {
	span := &Span{journal: j, started: time.Now()}
	err := j.write(ctx, fmt.Sprintf("start %q", name), func(tx *sql.Tx, seq int64) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO phases (run, parent, seq, name, started, outcome, detail)
			VALUES (?, NULLIF(?, 0), ?, ?, ?, ?, '')`, run, parent, seq, name, span.started.UnixNano(), Running)
		if err != nil {
			return err
		}
		span.ID, err = result.LastInsertId()
		return err
	})
	if err != nil {
		return nil, err
	}
	return span, nil
}

// End records how the phase ended, with detail in words. Seconds come from the monotonic clock.
func (s *Span) End(ctx context.Context, outcome Outcome, detail string) error {
	seconds := time.Since(s.started).Seconds()
	return s.journal.write(ctx, fmt.Sprintf("end phase %d", s.ID), func(tx *sql.Tx, _ int64) error {
		result, err := tx.ExecContext(ctx, `UPDATE phases SET ended = ?, seconds = ?, outcome = ?, detail = ? WHERE id = ? AND outcome = ?`,
			now(), seconds, outcome, detail, s.ID, Running)
		return oneRow(result, err, ErrPhaseOver)
	})
}

// CutShort ends the phases that a crash left running, and gives how many there were. Their length is not known.
func (j *Journal) CutShort(ctx context.Context, run int64) (int, error) {
	var n int64
	err := j.write(ctx, fmt.Sprintf("cut short phases of run %d", run), func(tx *sql.Tx, _ int64) error {
		result, err := tx.ExecContext(ctx, "UPDATE phases SET outcome = ?, ended = NULL WHERE run = ? AND outcome = ?", CutShort, run, Running)
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	return int(n), err
}

// Phases gives the phases and steps of a run in the order in which they began.
func (j *Journal) Phases(ctx context.Context, run int64) ([]Phase, error) {
	return list(ctx, j.db, fmt.Sprintf("list phases of run %d", run), scanPhase, `SELECT id, run, IFNULL(parent, 0), seq, name, started,
		IFNULL(ended, 0), IFNULL(seconds, 0), outcome, detail FROM phases WHERE run = ? ORDER BY seq`, run)
}

func scanPhase(row row) (Phase, error) {
	var p Phase
	var started, ended int64
	if err := row.Scan(&p.ID, &p.Run, &p.Parent, &p.Seq, &p.Name, &started, &ended, &p.Seconds, &p.Outcome, &p.Detail); err != nil {
		return Phase{}, err
	}
	p.Started = at(started)
	if ended != 0 {
		p.Ended = at(ended)
	}
	return p, nil
}

// oneRow turns an update that met no row into an error.
func oneRow(result sql.Result, err, none error) error {
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if n != 1 {
		return none
	}
	return nil
}
