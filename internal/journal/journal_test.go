package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("IMAGO_TEST_JOURNAL_WRITER"); dir != "" {
		writeUntilKilled(dir, os.Getenv("IMAGO_TEST_JOURNAL_WORLD"))
	}
	goleak.VerifyTestMain(m)
}

// open gives a locked journal in a directory of its own.
func open(t *testing.T) *Journal {
	t.Helper()
	j, err := Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := j.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	return j
}

func begin(t *testing.T, j *Journal) Run {
	t.Helper()
	run, err := j.Begin(t.Context(), "wiki", "version: 1\n", "abc", map[string]string{"imago": "1.0"})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestModes(t *testing.T) {
	j := open(t)
	begin(t, j)
	for name, want := range map[string]os.FileMode{".": 0o700, fileName: 0o600, fileName + "-wal": 0o600, fileName + "-shm": 0o600, "lock": 0o600} {
		info, err := os.Stat(filepath.Join(j.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), want)
		}
	}
}

func TestExposedDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir); !errors.Is(err, ErrExposed) {
		t.Errorf("got %v", err)
	}
}

func TestDurabilityIsOn(t *testing.T) {
	j := open(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000"} {
		var got string
		if err := j.db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", pragma, got, err, want)
		}
	}
}

func TestWritesNeedTheLock(t *testing.T) {
	j := open(t)
	run := begin(t, j)
	if err := j.lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(t.Context(), run.ID, "note", 1); !errors.Is(err, ErrNotLocked) {
		t.Errorf("got %v", err)
	}
}

func TestNewerJournalIsRefused(t *testing.T) {
	j := open(t)
	if _, err := j.db.ExecContext(t.Context(), fmt.Sprintf("PRAGMA user_version = %d", schemaVersion+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), j.dir); !errors.Is(err, ErrNewer) {
		t.Errorf("Open: %v", err)
	}
	if _, err := OpenReadOnly(t.Context(), j.dir); !errors.Is(err, ErrNewer) {
		t.Errorf("OpenReadOnly: %v", err)
	}
}

// TestMigration takes an older journal through a later step, and holds that a step that fails leaves it as it was.
func TestMigration(t *testing.T) {
	j := open(t)
	run := begin(t, j)
	ctx := t.Context()
	broken := append(append([]string{}, migrations...), "ALTER TABLE runs ADD COLUMN extra TEXT; SELECT nonsense;")
	if err := migrate(ctx, j.db, broken); err == nil {
		t.Fatal("a broken step passed")
	}
	if _, err := j.db.ExecContext(ctx, "SELECT extra FROM runs"); err == nil {
		t.Fatal("a broken step left half of itself")
	}
	good := append(append([]string{}, migrations...), "ALTER TABLE runs ADD COLUMN extra TEXT NOT NULL DEFAULT 'x'")
	for range 2 { // a second time has nothing to do
		if err := migrate(ctx, j.db, good); err != nil {
			t.Fatal(err)
		}
	}
	var version int
	var extra string
	if err := j.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil || version != len(good) {
		t.Errorf("version %d, %v", version, err)
	}
	if err := j.db.QueryRowContext(ctx, "SELECT extra FROM runs WHERE id = ?", run.ID).Scan(&extra); err != nil || extra != "x" {
		t.Errorf("extra %q, %v", extra, err)
	}
}

func TestForeignFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o700), os.WriteFile(filepath.Join(dir, fileName), []byte("this is no database, but it is long enough to be taken for one, page after page"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if j, err := Open(t.Context(), dir); err == nil {
		t.Errorf("opened, %v", j.Close())
	}
}

func TestReadOnly(t *testing.T) {
	if _, err := OpenReadOnly(t.Context(), t.TempDir()); !errors.Is(err, ErrNone) {
		t.Errorf("without a journal: %v", err)
	}
	j := open(t)
	run := begin(t, j)
	r, err := OpenReadOnly(t.Context(), j.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := j.Transition(t.Context(), run.ID, Checked, "all is well"); err != nil {
		t.Fatal(err)
	}
	got, err := r.Current(t.Context(), "wiki")
	if err != nil || got.State != Checked || got.Reason != "all is well" {
		t.Errorf("reader sees %+v, %v", got, err)
	}
	if _, err := r.Lock(t.Context()); err == nil {
		t.Error("a reader got the writer lock")
	}
	if _, err := r.db.ExecContext(t.Context(), "DELETE FROM events"); err == nil {
		t.Error("a reader wrote")
	}
}

// TestConcurrentUse is for the race detector, and holds that no number of the sequence is given twice.
func TestConcurrentUse(t *testing.T) {
	j := open(t)
	run := begin(t, j)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 10 {
				if err := work(t.Context(), j, run.ID, fmt.Sprintf("%d-%d", worker, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	resources, err := j.Resources(t.Context(), run.ID)
	if err != nil {
		t.Fatal(err)
	}
	events, err := j.Events(t.Context(), run.ID, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{run.ID: false}
	for _, r := range resources {
		seen[r.Seq] = true
	}
	for _, e := range events {
		if seen[e.Seq] {
			t.Errorf("number %d given twice", e.Seq)
		}
	}
	if len(resources) != 80 || len(events) != 80 {
		t.Errorf("%d resources, %d events", len(resources), len(events))
	}
}

func work(ctx context.Context, j *Journal, run int64, name string) error {
	id, err := j.Intend(ctx, run, Resource{Kind: KindFile, Name: name})
	if err != nil {
		return err
	}
	if _, err := j.Standing(ctx, run); err != nil {
		return err
	}
	return errors.Join(j.Append(ctx, run, "made", name), j.Put(ctx, run, "k"+name, id), j.Made(ctx, id))
}
