package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// Event is something that happened, for status and for people.
type Event struct {
	// Seq orders events and is the place to go on from in [Journal.Events].
	Seq  int64           `json:"seq"`
	Run  int64           `json:"run"`
	At   time.Time       `json:"at"`
	Kind string          `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Append adds an event; body is stored as JSON.
func (j *Journal) Append(ctx context.Context, run int64, kind string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("append event %q: encode: %w", kind, err)
	}
	return j.write(ctx, fmt.Sprintf("append event %q", kind), func(tx *sql.Tx, seq int64) error {
		return insertEvent(ctx, tx, seq, run, kind, text)
	})
}

func insertEvent(ctx context.Context, tx *sql.Tx, seq, run int64, kind string, body []byte) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO events (seq, run, at, kind, body) VALUES (?, ?, ?, ?, ?)", seq, run, now(), kind, string(body))
	return err
}

const eventColumns = "SELECT seq, run, at, kind, body FROM events WHERE run = ? "

// Events gives at most limit events of a run after the number after, oldest first: the way to follow a run.
func (j *Journal) Events(ctx context.Context, run, after int64, limit int) ([]Event, error) {
	return list(ctx, j.db, fmt.Sprintf("list events of run %d", run), scanEvent, eventColumns+"AND seq > ? ORDER BY seq LIMIT ?", run, after, limit)
}

// Tail gives the last n events of a run, oldest first.
func (j *Journal) Tail(ctx context.Context, run int64, n int) ([]Event, error) {
	return list(ctx, j.db, fmt.Sprintf("list last events of run %d", run), scanEvent,
		"SELECT * FROM ("+eventColumns+"ORDER BY seq DESC LIMIT ?) ORDER BY seq", run, n)
}

func scanEvent(row row) (Event, error) {
	var e Event
	var when int64
	var body string
	if err := row.Scan(&e.Seq, &e.Run, &when, &e.Kind, &body); err != nil {
		return Event{}, err
	}
	e.At, e.Body = at(when), json.RawMessage(body)
	return e, nil
}
