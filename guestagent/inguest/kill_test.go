package inguest

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestStatOf(t *testing.T) {
	for line, want := range map[string]struct {
		state byte
		ppid  int
	}{
		"12 (sh) S 7 12 12 0":            {'S', 7},
		"12 (a) Z 1 (evil) R 9 12":       {'R', 9},
		"12 (:-)) D 3":                   {'D', 3},
		"12 (no parenthesis":             {'X', 0},
		"12 (sh) S":                      {'X', 0},
		"12 (sh) S seven":                {'X', 0},
		"":                               {'X', 0},
		"12 (two\nlines) Z 4294967295 1": {'Z', 4294967295},
	} {
		if state, ppid := statOf([]byte(line)); state != want.state || ppid != want.ppid {
			t.Errorf("%q: %c %d", line, state, ppid)
		}
	}
}

func FuzzStatOf(f *testing.F) {
	f.Add([]byte("12 (sh) S 7 12"))
	f.Fuzz(func(t *testing.T, line []byte) {
		state, ppid := statOf(line)
		if !bytes.Contains(line, []byte(")")) && (state != 'X' || ppid != 0) {
			t.Fatalf("%q: %c %d", line, state, ppid)
		}
		if i := bytes.LastIndexByte(line, ')'); i >= 0 {
			// What stands before the last parenthesis is only a name.
			if s, p := statOf(line[i:]); s != state || p != ppid {
				t.Fatalf("%q: %c %d, without the name %c %d", line, state, ppid, s, p)
			}
		}
	})
}

func TestKillAllLeavesNothing(t *testing.T) {
	if err := adoptOrphans(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "(setsid sleep 600 &); setsid sh -c 'sleep 600 & sleep 600' & wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	for until := time.Now().Add(10 * time.Second); len(descendants()) < 5; {
		if time.Now().After(until) {
			t.Fatalf("only %d descendants of %d", len(descendants()), os.Getpid())
		}
		time.Sleep(5 * time.Millisecond)
	}
	killAll(10 * time.Second)
	<-done
	if left := descendants(); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}
