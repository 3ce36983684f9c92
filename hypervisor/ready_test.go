package hypervisor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWaitReadyInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		tries := 0
		conds := []Condition{
			{What: "boots", Check: func(context.Context) error {
				order = append(order, "boots")
				if tries++; tries < 4 {
					return errors.New("dark")
				}
				return nil
			}},
			{What: "answers", Check: func(context.Context) error { order = append(order, "answers"); return nil }},
		}
		var done []string
		err := WaitReady(t.Context(), "web", conds, func(p Progress) {
			if p.Done {
				done = append(done, p.What)
			}
		})
		if err != nil || strings.Join(done, ",") != "boots,answers" || order[len(order)-1] != "answers" || len(order) != 5 {
			t.Errorf("%v: %v %v", err, order, done)
		}
	})
}

func TestWaitReadyGivesUp(t *testing.T) {
	refused, fatal, crashed := errors.New("connection refused"), errors.New("wrong host key"), errors.New("domain has crashed")
	for _, c := range []struct {
		name string
		cond Condition
		want error
		wait time.Duration
	}{
		{"time is up", Condition{Timeout: 10 * time.Second, Check: func(context.Context) error { return refused }}, refused, 10 * time.Second},
		{"check hangs", Condition{Timeout: 10 * time.Second, Check: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}, context.DeadlineExceeded, 10 * time.Second},
		{"fatal", Condition{Check: func(context.Context) error { return fatal }, Fatal: func(err error) bool { return errors.Is(err, fatal) }}, fatal, 0},
		{"crash", Condition{Check: func(context.Context) error { return refused }, Liveness: func(context.Context) error { return crashed }}, crashed, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.cond.What, c.cond.Hint = "SSH answers", "is sshd enabled?"
				start := time.Now()
				err := WaitReady(t.Context(), "web", []Condition{c.cond}, nil)
				var not *NotReadyError
				if !errors.As(err, &not) || !errors.Is(err, c.want) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
				if took := time.Since(start); took != c.wait {
					t.Errorf("took %s, want %s", took, c.wait)
				}
				for _, part := range []string{"web", "SSH answers", "is sshd enabled?"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not say %q", err, part)
					}
				}
			})
		})
	}
}

func TestWaitReadyIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("operator pressed Ctrl-C")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(stop) })
		err := WaitReady(ctx, "web", []Condition{{What: "x", Check: func(context.Context) error { return errors.New("no") }}}, nil)
		if !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
	})
}
