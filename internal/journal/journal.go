package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
)

// schemaVersion is stored in the file; a newer file is refused.
const schemaVersion = 1

const schema = `
CREATE TABLE runs (
	id TEXT PRIMARY KEY, plan TEXT NOT NULL, plan_text TEXT NOT NULL, plan_sha256 TEXT NOT NULL,
	versions TEXT NOT NULL, state TEXT NOT NULL, began TEXT NOT NULL, seq INTEGER NOT NULL UNIQUE
) STRICT;
CREATE TABLE phases (
	id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES runs(id), phase TEXT NOT NULL,
	began TEXT NOT NULL, seconds REAL, outcome TEXT NOT NULL, error TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE resources (
	id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES runs(id), kind TEXT NOT NULL,
	name TEXT NOT NULL, state TEXT NOT NULL, UNIQUE (run, kind, name)
) STRICT;
CREATE TABLE evidence (
	run TEXT NOT NULL REFERENCES runs(id), key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)
) STRICT;
CREATE TABLE events (
	id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES runs(id), at TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
`

var (
	// ErrNoRun says that no run of the plan is under way.
	ErrNoRun = errors.New("no run is under way")
	// ErrLocked says that another process works on the state directory.
	ErrLocked = errors.New("another imago is at work")
	// ErrNewer says that the journal was written by a newer imago.
	ErrNewer = errors.New("the journal was written by a newer imago")
	// ErrNoEvidence says that nothing is stored under the key.
	ErrNoEvidence = errors.New("no such evidence")
)

// Journal is an open journal. Safe for concurrent use.
type Journal struct {
	dir string
	db  *sql.DB
}

// Open opens the journal in dir and makes it if there is none. The directory
// is closed to other users: the journal may hold parts of the plan.
func Open(ctx context.Context, dir string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	path := filepath.Join(dir, "journal.sqlite")
	// SQLite makes the file with the umask's mode; it must be closed from the start.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=10000&_foreign_keys=1&_txlock=immediate"
	db, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	j := &Journal{dir: dir, db: db}
	if err := j.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the journal %s: %w", path, err), db.Close())
	}
	return j, nil
}

// migrate makes the tables of a new file.
func (j *Journal) migrate(ctx context.Context) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		switch {
		case version == schemaVersion:
			return nil
		case version > schemaVersion:
			return fmt.Errorf("%w: its format is %d, this imago knows %d; use the newer one", ErrNewer, version, schemaVersion)
		}
		if _, err := tx.ExecContext(ctx, schema); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "PRAGMA user_version = "+strconv.Itoa(schemaVersion))
		return err
	})
}

// Close closes the file.
func (j *Journal) Close() error { return j.db.Close() }

// write runs f in one durable transaction.
func (j *Journal) write(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := j.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("write to the journal: %w", err)
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("write to the journal: %w", err)
	}
	return nil
}

// exec runs one statement in a durable transaction.
func (j *Journal) exec(ctx context.Context, query string, args ...any) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

// Lock makes this process the only one that changes things. The lock ends with
// the returned function or with the process.
func (j *Journal) Lock(ctx context.Context) (func() error, error) {
	path := filepath.Join(j.dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		return nil, errors.Join(fmt.Errorf("%w on %s (process %s): wait until it is done", ErrLocked, j.dir, strings.TrimSpace(string(holder))), f.Close())
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("write the lock: %w", err), f.Close())
		}
	}
	return f.Close, nil
}

func now() string { return time.Now().UTC().Format(time.RFC3339Nano) }
