package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// writeUntilKilled is the child of the crash test: for ever it intends a file, makes it, says so, and removes some. It
// says "ready" once so that the parent kills a process that is at work.
func writeUntilKilled(dir, world string) {
	ctx := context.Background()
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	j, err := Open(ctx, dir)
	die(err)
	_, err = j.Lock(ctx)
	die(err)
	run, err := j.Current(ctx, "crash")
	if errors.Is(err, ErrNoRun) {
		run, err = j.Begin(ctx, "crash", "", "", nil)
	}
	die(err)
	fmt.Println("ready")
	for i := 0; ; i++ {
		name := filepath.Join(world, fmt.Sprintf("%d-%d", os.Getpid(), i))
		id, err := j.Intend(ctx, run.ID, Resource{Kind: KindFile, Name: name})
		die(err)
		die(os.WriteFile(name, nil, 0o600))
		die(j.Made(ctx, id))
		if i%3 == 0 {
			die(os.Remove(name))
			die(j.Gone(ctx, id))
		}
	}
}

// TestKill9 kills a writer at random moments. Afterwards everything that is in the world must be in the journal, and
// everything that the journal calls gone must not be in the world.
func TestKill9(t *testing.T) {
	dir, world := filepath.Join(t.TempDir(), "state"), t.TempDir()
	for range 8 {
		killWriter(t, dir, world)
		compareWithWorld(t, dir, world)
	}
}

func killWriter(t *testing.T, dir, world string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), "IMAGO_TEST_JOURNAL_WRITER="+dir, "IMAGO_TEST_JOURNAL_WORLD="+world)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Errorf("child said %q, %v", line, err)
	}
	holder, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var locked *LockedError
	if _, err := holder.Lock(t.Context()); !errors.Is(err, ErrLocked) || !errors.As(err, &locked) || locked.PID != child.Process.Pid {
		t.Errorf("lock beside process %d: %v", child.Process.Pid, err)
	}
	if err := holder.Close(); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond) // the random moment is the point of this test
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed: its error says nothing new
}

func compareWithWorld(t *testing.T, dir, world string) {
	t.Helper()
	j, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	lock, err := j.Lock(t.Context())
	if err != nil {
		t.Fatalf("the lock outlived its holder: %v", err)
	}
	defer lock.Unlock()
	run, err := j.Current(t.Context(), "crash")
	if err != nil {
		t.Fatal(err)
	}
	resources, err := j.Resources(t.Context(), run.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(resources) == 0 {
		t.Error("the writer wrote nothing; the test shows nothing")
	}
	status := map[string]Status{}
	for _, r := range resources {
		status[r.Name] = r.Status
	}
	files, err := filepath.Glob(filepath.Join(world, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if s, known := status[f]; !known || s == Gone {
			t.Errorf("%s is in the world, in the journal it is %q", f, s)
		}
		delete(status, f)
	}
	for f, s := range status {
		if s == Made && !removedByUnfinishedStep(f) {
			t.Errorf("%s is made by the journal, and not in the world", f)
		}
	}
	var ok string
	if err := j.db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&ok); err != nil || ok != "ok" {
		t.Errorf("integrity: %s, %v", ok, err)
	}
}

// removedByUnfinishedStep knows the one legal gap: the file was removed and the process killed before it said so.
func removedByUnfinishedStep(name string) bool {
	var pid, i int
	if _, err := fmt.Sscanf(filepath.Base(name), "%d-%d", &pid, &i); err != nil {
		return false
	}
	return i%3 == 0
}
