package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "github.com/mattn/go-sqlite3" // the database driver
)

const fileName = "journal.db"

// Journal is an open journal. It is safe for use by several goroutines.
type Journal struct {
	db       *sql.DB
	dir      string
	readOnly bool

	mu   sync.Mutex
	lock *Lock // held by this process, or nil
}

// Sentinels of opening and writing.
var (
	// ErrNone says that there is no journal in the directory.
	ErrNone = errors.New("no journal")
	// ErrExposed says that others than the owner can reach the directory.
	ErrExposed = errors.New("directory is open to others")
	// ErrNotLocked says that a write was asked for without the writer lock.
	ErrNotLocked = errors.New("journal is not locked for writing")
)

// Open opens the journal in dir, making both (0700 and 0600) where they are missing and migrating an older one. It
// refuses one that a newer imago wrote ([ErrNewer]) and a directory that others can reach ([ErrExposed]).
func Open(ctx context.Context, dir string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make journal directory: %w", err)
	}
	if err := private(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fileName)
	// SQLite gives its side files the mode of the main one, which must therefore be right from the start.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make journal: %w", err)
	}
	if err := errors.Join(file.Chmod(0o600), file.Close()); err != nil {
		return nil, fmt.Errorf("make journal private: %w", err)
	}
	j, err := connect(path, "rw", false)
	if err != nil {
		return nil, err
	}
	if err := j.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %q: %w", path, err), j.Close())
	}
	return j, nil
}

// OpenReadOnly opens the journal in dir for reading while another process may write. With no journal it is [ErrNone].
func OpenReadOnly(ctx context.Context, dir string) (*Journal, error) {
	path := filepath.Join(dir, fileName)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w in %q", ErrNone, dir)
	} else if err != nil {
		return nil, fmt.Errorf("look for journal: %w", err)
	}
	j, err := connect(path, "ro", true)
	if err != nil {
		return nil, err
	}
	version, err := versionOf(ctx, j.db)
	if err == nil && version < schemaVersion {
		err = fmt.Errorf("schema version %d is older than %d; run a verb that writes first", version, schemaVersion)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %q: %w", path, err), j.Close())
	}
	return j, nil
}

func private(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at journal directory: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("journal directory %q has mode %04o, want 0700: %w", dir, info.Mode().Perm(), ErrExposed)
	}
	return nil
}

func connect(path, mode string, readOnly bool) (*Journal, error) {
	q := url.Values{"mode": {mode}, "_busy_timeout": {"10000"}, "_foreign_keys": {"on"}}
	if !readOnly {
		// FULL: an intent must survive a power cut, not only a crash of the process.
		q.Set("_journal_mode", "WAL")
		q.Set("_synchronous", "FULL")
		q.Set("_txlock", "immediate")
	}
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
	db, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return nil, fmt.Errorf("open journal %q: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	return &Journal{db: db, dir: filepath.Dir(path), readOnly: readOnly}, nil
}

// prepare checks the version before anything is written to a journal that may be newer.
func (j *Journal) prepare(ctx context.Context) error {
	if _, err := versionOf(ctx, j.db); err != nil {
		return err
	}
	return migrate(ctx, j.db, migrations)
}

// Close releases the writer lock, if held, and closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	lock := j.lock
	j.mu.Unlock()
	var err error
	if lock != nil {
		err = lock.Unlock()
	}
	return errors.Join(err, j.db.Close())
}

// write runs one transaction that takes the next number of the sequence.
func (j *Journal) write(ctx context.Context, what string, act func(tx *sql.Tx, seq int64) error) error {
	j.mu.Lock()
	locked := j.lock != nil
	j.mu.Unlock()
	if !locked {
		return fmt.Errorf("%s: %w", what, ErrNotLocked)
	}
	tx, err := j.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: begin: %w", what, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	var seq int64
	if err := tx.QueryRowContext(ctx, "UPDATE sequence SET value = value + 1 RETURNING value").Scan(&seq); err != nil {
		return fmt.Errorf("%s: number: %w", what, err)
	}
	if err := act(tx, seq); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: commit: %w", what, err)
	}
	return nil
}

func now() int64 { return time.Now().UnixNano() }

func at(nanos int64) time.Time { return time.Unix(0, nanos) }
