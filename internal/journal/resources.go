package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Kind is the sort of an outside resource.
type Kind string

// Kinds of resources: what a run may leave outside of its process.
const (
	KindDomain    Kind = "domain"
	KindNetwork   Kind = "network"
	KindNetNS     Kind = "netns"
	KindLink      Kind = "link"
	KindNFTTable  Kind = "nft-table"
	KindVIPMap    Kind = "vip-map"
	KindHold      Kind = "hold"
	KindDirectory Kind = "directory"
	KindFile      Kind = "file"
	KindBackupJob Kind = "backup-job"
	KindFreeze    Kind = "freeze"
	KindProcess   Kind = "process"
)

// Status is how far a resource is.
type Status string

// Statuses. Intended may or may not exist: a crash may have come between the record and the act, so look before acting.
const (
	Intended Status = "intended"
	Made     Status = "made"
	Gone     Status = "gone"
)

// Resource is something outside of the process that must be removed, or be known to be gone.
type Resource struct {
	ID   int64 `json:"id"`
	Run  int64 `json:"run"`
	Seq  int64 `json:"seq"`
	Kind Kind  `json:"kind"`
	// Name identifies it among its kind; Attrs is what else its remover needs.
	Name    string            `json:"name"`
	Attrs   map[string]string `json:"attrs,omitempty"`
	Status  Status            `json:"status"`
	Changed time.Time         `json:"changed"`
}

// ErrNoResource says that there is no such resource, or not in a status from which it can go on.
var ErrNoResource = errors.New("no such resource in a fitting status")

// Intend records a resource before it is made and gives its id. When it returns without error, the record is on disk.
func (j *Journal) Intend(ctx context.Context, run int64, r Resource) (int64, error) {
	what := fmt.Sprintf("intend %s %q", r.Kind, r.Name)
	if r.Attrs == nil {
		r.Attrs = map[string]string{}
	}
	attrs, err := json.Marshal(r.Attrs)
	if err != nil {
		return 0, fmt.Errorf("%s: encode attributes: %w", what, err)
	}
	var id int64
	err = j.write(ctx, what, func(tx *sql.Tx, seq int64) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO resources (run, seq, kind, name, attrs, status, changed) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			run, seq, r.Kind, r.Name, string(attrs), Intended, now())
		if err != nil {
			return err
		}
		id, err = result.LastInsertId()
		return err
	})
	return id, err
}

// Made records that an intended resource exists.
func (j *Journal) Made(ctx context.Context, id int64) error {
	return j.become(ctx, id, Made, Intended)
}

// Gone records that a resource does not exist, whether it was removed or never made. A second time changes nothing.
func (j *Journal) Gone(ctx context.Context, id int64) error {
	return j.become(ctx, id, Gone, Intended, Made, Gone)
}

// Amend sets attributes of a resource that became known after it was made, such as a process id.
func (j *Journal) Amend(ctx context.Context, id int64, attrs map[string]string) error {
	patch, err := json.Marshal(attrs)
	if err != nil {
		return fmt.Errorf("amend resource %d: encode attributes: %w", id, err)
	}
	return j.write(ctx, fmt.Sprintf("amend resource %d", id), func(tx *sql.Tx, _ int64) error {
		result, err := tx.ExecContext(ctx, "UPDATE resources SET attrs = json_patch(attrs, ?), changed = ? WHERE id = ?", string(patch), now(), id)
		return oneRow(result, err, ErrNoResource)
	})
}

func (j *Journal) become(ctx context.Context, id int64, to Status, from ...Status) error {
	return j.write(ctx, fmt.Sprintf("resource %d is %s", id, to), func(tx *sql.Tx, _ int64) error {
		may, err := json.Marshal(from)
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `UPDATE resources SET status = ?, changed = ?
			WHERE id = ? AND status IN (SELECT value FROM json_each(?))`, to, now(), id, string(may))
		return oneRow(result, err, ErrNoResource)
	})
}

const resourceColumns = "SELECT id, run, seq, kind, name, attrs, status, changed FROM resources WHERE run = ? "

// Standing gives the resources of a run that are not known to be gone, the last one first: the order of removal.
func (j *Journal) Standing(ctx context.Context, run int64) ([]Resource, error) {
	return list(ctx, j.db, fmt.Sprintf("list standing resources of run %d", run), scanResource, resourceColumns+"AND status <> 'gone' ORDER BY seq DESC", run)
}

// Resources gives all resources that a run ever had, the first one first.
func (j *Journal) Resources(ctx context.Context, run int64) ([]Resource, error) {
	return list(ctx, j.db, fmt.Sprintf("list resources of run %d", run), scanResource, resourceColumns+"ORDER BY seq", run)
}

func scanResource(row row) (Resource, error) {
	var r Resource
	var attrs string
	var changed int64
	if err := row.Scan(&r.ID, &r.Run, &r.Seq, &r.Kind, &r.Name, &attrs, &r.Status, &changed); err != nil {
		return Resource{}, err
	}
	if err := json.Unmarshal([]byte(attrs), &r.Attrs); err != nil {
		return Resource{}, fmt.Errorf("decode attributes of %s %q: %w", r.Kind, r.Name, err)
	}
	r.Changed = at(changed)
	return r, nil
}
