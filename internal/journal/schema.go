package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// migrations lead from one schema version to the next; migrations[0] makes version 1. Old entries never change.
var migrations = []string{
	`CREATE TABLE sequence (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL) STRICT;
	INSERT INTO sequence VALUES (1, 0);

	CREATE TABLE runs (
		id INTEGER PRIMARY KEY, seq INTEGER NOT NULL UNIQUE, name TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
		plan TEXT NOT NULL, plan_sha256 TEXT NOT NULL, versions TEXT NOT NULL, began INTEGER NOT NULL, changed INTEGER NOT NULL
	) STRICT;
	CREATE UNIQUE INDEX one_live_run ON runs (name) WHERE state NOT IN ('finalized', 'aborted');

	CREATE TABLE phases (
		id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, parent INTEGER REFERENCES phases, seq INTEGER NOT NULL UNIQUE,
		name TEXT NOT NULL, started INTEGER NOT NULL, ended INTEGER, seconds REAL, outcome TEXT NOT NULL, detail TEXT NOT NULL
	) STRICT;
	CREATE INDEX phases_of_run ON phases (run, seq);

	CREATE TABLE resources (
		id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, seq INTEGER NOT NULL UNIQUE, kind TEXT NOT NULL,
		name TEXT NOT NULL, attrs TEXT NOT NULL, status TEXT NOT NULL, changed INTEGER NOT NULL
	) STRICT;
	CREATE INDEX resources_of_run ON resources (run, seq);

	CREATE TABLE evidence (
		run INTEGER NOT NULL REFERENCES runs, key TEXT NOT NULL, seq INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)
	) STRICT;

	CREATE TABLE events (
		seq INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, at INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL
	) STRICT;
	CREATE INDEX events_of_run ON events (run, seq);`,
}

// schemaVersion is what this program writes.
var schemaVersion = len(migrations)

// ErrNewer says that a newer imago wrote the journal.
var ErrNewer = errors.New("the journal was written by a newer imago")

func versionOf(ctx context.Context, db *sql.DB) (int, error) {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	if version > schemaVersion {
		return version, fmt.Errorf("schema version %d, this program knows %d: %w", version, schemaVersion, ErrNewer)
	}
	return version, nil
}

// migrate brings the schema up to date, each step in one transaction with its version number.
func migrate(ctx context.Context, db *sql.DB, steps []string) error {
	for {
		done, err := migrateOne(ctx, db, steps)
		if done || err != nil {
			return err
		}
	}
}

// migrateOne reads the version inside the transaction, so that two programs that open at once do not both migrate.
func migrateOne(ctx context.Context, db *sql.DB, steps []string) (done bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, fmt.Errorf("begin migration: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return false, fmt.Errorf("read schema version: %w", err)
	}
	if version >= len(steps) {
		return true, nil
	}
	if _, err := tx.ExecContext(ctx, steps[version]); err != nil {
		return false, fmt.Errorf("migrate journal to version %d: %w", version+1, err)
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version+1)); err != nil {
		return false, fmt.Errorf("set schema version %d: %w", version+1, err)
	}
	if err := tx.Commit(); err != nil {
		return false, fmt.Errorf("commit migration to version %d: %w", version+1, err)
	}
	return false, nil
}
