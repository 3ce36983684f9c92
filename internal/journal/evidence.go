package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrNoEvidence says that nothing was put under the key.
var ErrNoEvidence = errors.New("no such evidence")

// Put stores a value as JSON under a key of the run; a later value replaces an earlier one.
func (j *Journal) Put(ctx context.Context, run int64, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("put evidence %q: encode: %w", key, err)
	}
	return j.write(ctx, fmt.Sprintf("put evidence %q", key), func(tx *sql.Tx, seq int64) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO evidence (run, key, seq, value) VALUES (?, ?, ?, ?)
			ON CONFLICT (run, key) DO UPDATE SET seq = excluded.seq, value = excluded.value`, run, key, seq, string(text))
		return err
	})
}

// Get decodes what was put under a key into value. With nothing there it is [ErrNoEvidence].
func (j *Journal) Get(ctx context.Context, run int64, key string, value any) error {
	var text string
	err := j.db.QueryRowContext(ctx, "SELECT value FROM evidence WHERE run = ? AND key = ?", run, key).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoEvidence
	}
	if err != nil {
		return fmt.Errorf("get evidence %q: %w", key, err)
	}
	if err := json.Unmarshal([]byte(text), value); err != nil {
		return fmt.Errorf("decode evidence %q: %w", key, err)
	}
	return nil
}

// EvidenceKeys gives the keys that a run has evidence for, in alphabetic order.
func (j *Journal) EvidenceKeys(ctx context.Context, run int64) ([]string, error) {
	scan := func(row row) (key string, err error) { return key, row.Scan(&key) }
	return list(ctx, j.db, fmt.Sprintf("list evidence of run %d", run), scan, "SELECT key FROM evidence WHERE run = ? ORDER BY key", run)
}
