package guestagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

func TestSteps(t *testing.T) {
	s := newSessionForTest(t)
	dir := t.TempDir()
	t.Run("output, environment, directory, input", func(t *testing.T) {
		var got []string
		res, err := s.Run(context.Background(), Step{
			Name: "all", Dir: dir, Env: map[string]string{"WHO": "a b'c\"$x"}, Stdin: strings.NewReader("fed\n"),
			Script: "echo \"$WHO\"; pwd; cat; echo err >&2; command -v mount >/dev/null; printf '\\033[31mred\\033[0m\\r\\nend'",
		}, func(o Output) { got = append(got, fmt.Sprint(o.Stream, o.Text)) })
		if err != nil || res.ExitCode != 0 || res.Duration <= 0 {
			t.Fatalf("%+v, %v", res, err)
		}
		for _, want := range []string{"1a b'c\"$x", "1" + dir, "1fed", "2err", "1red", "1end"} {
			if !strings.Contains(strings.Join(got, "\n")+"\n", want+"\n") {
				t.Errorf("no %q in %q", want, got)
			}
		}
	})
	t.Run("a failing step shows its last lines", func(t *testing.T) {
		_, err := s.Run(context.Background(), Step{Name: "update.php", Script: "seq 100; printf '\\033]0;evil\\007No such table\\n' >&2; exit 3; echo not reached"}, nil)
		var step *StepError
		if !errors.As(err, &step) || step.Exit != 3 || step.VM != "guest-a" || len(step.Tail) != tailLines {
			t.Fatalf("got %#v", err)
		}
		if !strings.Contains(err.Error(), "No such table") || strings.ContainsAny(err.Error(), "\x1b\a") || strings.Contains(err.Error(), "evil") {
			t.Fatalf("message %q", err)
		}
	})
	t.Run("sh -e", func(t *testing.T) {
		_, err := s.Run(context.Background(), Step{Name: "e", Script: "false\necho went on"}, nil)
		var step *StepError
		if !errors.As(err, &step) || step.Exit != 1 || len(step.Tail) != 0 {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a signal", func(t *testing.T) {
		_, err := s.Run(context.Background(), Step{Name: "sig", Script: "kill -SEGV $$"}, nil)
		var step *StepError
		if !errors.As(err, &step) || step.Signal == "" || step.Exit != 128+11 {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("no such program", func(t *testing.T) {
		var agent *AgentError
		if _, err := s.Run(context.Background(), Step{Name: "n", Argv: []string{"/no/such"}}, nil); !errors.As(err, &agent) || !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a bad step is refused", func(t *testing.T) {
		for _, st := range []Step{{}, {Script: "a", Argv: []string{"b"}}, {Script: "a", Env: map[string]string{"A=B": "c"}}} {
			if _, err := s.Run(context.Background(), st, nil); err == nil {
				t.Errorf("%+v was run", st)
			}
		}
	})
	t.Run("a service keeps running and does not hold the step", func(t *testing.T) {
		mark := "imago-service-1"
		begin := time.Now()
		if _, err := s.Run(context.Background(), Step{Name: "svc", Script: "sh -c 'sleep 600; true " + mark + "' & echo started"}, nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Fatalf("took %s", took)
		}
		if processes(t, mark) != 1 {
			t.Fatal("the service was ended")
		}
		if _, err := s.Run(context.Background(), Step{Name: "stop", Script: "pkill -f imago-servic[e]-1"}, nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("nothing is left in the temp directory", func(t *testing.T) {
		if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "imago-step-*")); len(left) > 0 {
			t.Fatalf("left %v", left)
		}
	})
	t.Run("the script's descriptor is not inherited", func(t *testing.T) {
		if _, err := s.Run(context.Background(), Step{Name: "fd", Script: "# a comment\nsh -c '! test -e /proc/self/fd/3'"}, nil); err != nil {
			t.Fatal(err)
		}
	})
}

const stubborn = `
trap '' TERM
(setsid sh -c 'trap "" TERM; sleep 600; : MARK' &)
setsid -f sh -c 'sleep 600; : MARK'
sh -c 'sleep 600; : MARK' &
echo up
sleep 600; : MARK
`

func TestTimeLimitEndsAllChildren(t *testing.T) {
	s := newSessionForTest(t)
	mark := "imago-mark-limit"
	_, err := s.Run(context.Background(), Step{
		Name: "slow", Script: strings.ReplaceAll(stubborn, "MARK", mark), Timeout: time.Second, Grace: 300 * time.Millisecond,
	}, nil)
	var step *StepError
	if !errors.As(err, &step) || !step.TimedOut || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "up") {
		t.Fatalf("got %v", err)
	}
	if n := processes(t, mark); n != 0 {
		t.Fatalf("%d processes live on", n)
	}
}

func TestCancelEndsAllChildren(t *testing.T) {
	s := newSessionForTest(t)
	mark := "imago-mark-cancel"
	ctx, cancel := context.WithCancelCause(context.Background())
	reason := errors.New("the operator changed her mind")
	_, err := s.Run(ctx, Step{Name: "slow", Script: strings.ReplaceAll(stubborn, "MARK", mark), Grace: 300 * time.Millisecond}, func(o Output) {
		if o.Text == "up" {
			cancel(reason)
		}
	})
	if !errors.Is(err, reason) {
		t.Fatalf("got %v", err)
	}
	if n := processes(t, mark); n != 0 {
		t.Fatalf("%d processes live on", n)
	}
}

func TestLines(t *testing.T) {
	s := newSessionForTest(t)
	t.Run("binary and large", func(t *testing.T) {
		var n, size int
		_, err := s.Lines(context.Background(), Step{Name: "big", Script: "printf 'a\\000\\033[1mb\\377\\n'; seq 1 200000; printf tail"}, func(line []byte) error {
			n++
			size += len(line)
			if n == 1 && !bytes.Equal(line, []byte("a\x00\x1b[1mb\xff")) {
				t.Errorf("first line %q", line)
			}
			return nil
		})
		if err != nil || n != 200002 || size != 8+1088895+4 {
			t.Fatalf("%d lines, %d bytes, %v", n, size, err)
		}
	})
	t.Run("a line of 1 MiB passes, one more byte does not", func(t *testing.T) {
		got := 0
		step := func(n int) Step { return Step{Name: "long", Script: fmt.Sprintf("head -c %d /dev/zero; echo", n)} }
		if _, err := s.Lines(context.Background(), step(MaxLine), func(l []byte) error { got = len(l); return nil }); err != nil || got != MaxLine {
			t.Fatalf("%d bytes, %v", got, err)
		}
		var long *LineTooLongError
		if _, err := s.Lines(context.Background(), step(MaxLine+1), func([]byte) error { return nil }); !errors.As(err, &long) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("an endless line ends in an error", func(t *testing.T) {
		var long *LineTooLongError
		if _, err := s.Lines(context.Background(), Step{Name: "zero", Script: "cat /dev/zero"}, func([]byte) error { return nil }); !errors.As(err, &long) || long.Number != 1 {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("an error of the receiver stops the step", func(t *testing.T) {
		mark := "imago-mark-lines"
		full := errors.New("full")
		_, err := s.Lines(context.Background(), Step{Name: "yes", Argv: []string{"sh", "-c", "yes; : " + mark}}, func([]byte) error { return full })
		if !errors.Is(err, full) || processes(t, mark) != 0 {
			t.Fatalf("got %v, %d processes", err, processes(t, mark))
		}
	})
	t.Run("a failing query is an error with its stderr", func(t *testing.T) {
		_, err := s.Lines(context.Background(), Step{Name: "q", Script: "echo row; echo 'ERROR 1146' >&2; exit 1"}, func([]byte) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "ERROR 1146") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a slow receiver slows the guest", func(t *testing.T) {
		dir := t.TempDir()
		count := filepath.Join(dir, "count")
		block := make(chan struct{})
		done := make(chan error, 1)
		go func() {
			_, err := s.Lines(context.Background(), Step{Name: "slow", Script: "i=0; while [ $i -lt 200 ]; do head -c 65535 /dev/zero | tr '\\0' x; echo; i=$((i+1)); echo $i >" + count + "; done"}, func([]byte) error {
				<-block
				return nil
			})
			done <- err
		}()
		var last string
		stable := 0
		eventually(t, 30*time.Second, "the guest stops writing", func() bool {
			b, _ := os.ReadFile(count)
			if now := string(b); now != "" && now == last {
				stable++
			} else {
				last, stable = now, 0
			}
			return stable > 50
		})
		if last == "200\n" {
			t.Fatal("13 MB were taken although nobody read")
		}
		close(block)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestInput(t *testing.T) {
	s := newSessionForTest(t)
	in := bytes.Repeat([]byte("0123456789abcde\n"), 1<<18)
	t.Run("4 MiB through cat", func(t *testing.T) {
		n := 0
		if _, err := s.Lines(context.Background(), Step{Name: "cat", Argv: []string{"cat"}, Stdin: bytes.NewReader(in)}, func(l []byte) error { n += len(l) + 1; return nil }); err != nil || n != len(in) {
			t.Fatalf("%d of %d bytes, %v", n, len(in), err)
		}
	})
	t.Run("not read by the step", func(t *testing.T) {
		if _, err := s.Run(context.Background(), Step{Name: "true", Argv: []string{"true"}, Stdin: bytes.NewReader(in)}, nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("broken off input is never taken for its end", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "loaded")
		torn := errors.New("torn")
		_, err := s.Run(context.Background(), Step{Name: "load", Script: "cat >/dev/null; touch " + file, Stdin: io.MultiReader(bytes.NewReader(in), iotest.ErrReader(torn))}, nil)
		if _, statErr := os.Stat(file); !errors.Is(err, torn) || statErr == nil {
			t.Fatalf("got %v; loaded: %v", err, statErr == nil)
		}
	})
}

func TestManyStepsAtOnce(t *testing.T) {
	s := newSessionForTest(t)
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			got := ""
			if _, err := s.Run(context.Background(), Step{Name: "n", Script: fmt.Sprintf("sleep 0.05; echo %d", i)}, func(o Output) { got = o.Text }); err != nil || got != fmt.Sprint(i) {
				t.Errorf("step %d: %q, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}
