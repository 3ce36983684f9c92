package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// Resource is something outside of the journal that imago makes: a domain, a
// network, a file, a kernel table.
type Resource struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Made is false as long as it is only intended: it may or may not be there.
	Made bool `json:"made"`
}

const (
	resourceIntended = "intended"
	resourceMade     = "made"
	resourceGone     = "gone"
)

// Intend writes a resource down before it is made. When it returns, the entry
// is on disk. A resource that is gone may be intended again.
func (j *Journal) Intend(ctx context.Context, run string, r Resource) (int64, error) {
	var id int64
	err := j.write(ctx, func(tx *sql.Tx) error {
		// The row is made anew, so that its id tells the order of making.
		if _, err := tx.ExecContext(ctx, "DELETE FROM resources WHERE run = ? AND kind = ? AND name = ? AND state = ?", run, r.Kind, r.Name, resourceGone); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `INSERT INTO resources (run, kind, name, state) VALUES (?, ?, ?, ?)
			ON CONFLICT (run, kind, name) DO UPDATE SET state = state RETURNING id`, run, r.Kind, r.Name, resourceIntended).Scan(&id)
	})
	if err != nil {
		return 0, fmt.Errorf("write down %s %s: %w", r.Kind, r.Name, err)
	}
	return id, nil
}

// Made says that the resource is there now.
func (j *Journal) Made(ctx context.Context, id int64) error {
	if err := j.exec(ctx, "UPDATE resources SET state = ? WHERE id = ?", resourceMade, id); err != nil {
		return fmt.Errorf("write down that a resource was made: %w", err)
	}
	return nil
}

// GoneByName says that the resource was removed, or was seen not to be there.
func (j *Journal) GoneByName(ctx context.Context, run, kind, name string) error {
	if err := j.exec(ctx, "UPDATE resources SET state = ? WHERE run = ? AND kind = ? AND name = ?", resourceGone, run, kind, name); err != nil {
		return fmt.Errorf("write down that %s %s is gone: %w", kind, name, err)
	}
	return nil
}

// Resources lists what is or may be there, the latest first: the order in
// which to remove it.
func (j *Journal) Resources(ctx context.Context, run string) ([]Resource, error) {
	rows, err := j.db.QueryContext(ctx, "SELECT kind, name, state FROM resources WHERE run = ? AND state <> ? ORDER BY id DESC", run, resourceGone)
	if err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	defer rows.Close()
	var out []Resource
	for rows.Next() {
		var r Resource
		var state string
		if err := rows.Scan(&r.Kind, &r.Name, &state); err != nil {
			return nil, fmt.Errorf("read resources: %w", err)
		}
		r.Made = state == resourceMade
		out = append(out, r)
	}
	return out, rows.Err()
}

// Put stores a piece of evidence, replacing an earlier one of the same key.
func (j *Journal) Put(ctx context.Context, run, key string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode evidence %q: %w", key, err)
	}
	if err := j.exec(ctx, `INSERT INTO evidence (run, key, value) VALUES (?, ?, ?)
		ON CONFLICT (run, key) DO UPDATE SET value = excluded.value`, run, key, string(raw)); err != nil {
		return fmt.Errorf("store evidence %q: %w", key, err)
	}
	return nil
}

// Get reads a piece of evidence into value, or returns ErrNoEvidence.
func (j *Journal) Get(ctx context.Context, run, key string, value any) error {
	var raw string
	err := j.db.QueryRowContext(ctx, "SELECT value FROM evidence WHERE run = ? AND key = ?", run, key).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%q: %w", key, ErrNoEvidence)
	}
	if err != nil {
		return fmt.Errorf("read evidence %q: %w", key, err)
	}
	if err := json.Unmarshal([]byte(raw), value); err != nil {
		return fmt.Errorf("read evidence %q: %w", key, err)
	}
	return nil
}
