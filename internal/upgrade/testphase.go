package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
)

// TestEvidence is the result of one of the plan's checks.
type TestEvidence struct {
	Name    string  `json:"name"`
	Passed  bool    `json:"passed"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
}

// Test runs the plan's own checks on the new version, inside the universe, and
// compares the data. All checks run, whatever fails.
func (e *Engine) Test(ctx context.Context) error {
	return e.inUniverse(ctx, phaseTest, func(ctx context.Context, u *netswitch.Universe, s *sessions) error {
		if e.flows() {
			return e.testOnBranch(ctx, u, s)
		}
		// The data first: a check of the plan may write.
		verifyErr := e.verify(ctx, s, evidenceTestData, false)
		if err := e.awaitServing(ctx, u); err != nil {
			return errors.Join(verifyErr, err)
		}
		testErr := e.runTests(ctx, u, s)
		if len(e.plan.Test) == 0 {
			e.see.warning("the plan has no tests of its own: only the data was compared")
		}
		return errors.Join(verifyErr, testErr, e.recordAttempts(ctx, u))
	})
}

// testOnBranch runs the checks where what they write is undone afterwards. The
// data was compared while it was carried, and is again before the switch.
func (e *Engine) testOnBranch(ctx context.Context, u *netswitch.Universe, s *sessions) error {
	if len(e.plan.Test) == 0 {
		e.see.warning("the plan has no tests of its own: only the data was compared")
		return e.recordAttempts(ctx, u)
	}
	err := e.onBranch(ctx, s, func(ctx context.Context) error {
		if err := e.awaitServing(ctx, u); err != nil {
			return err
		}
		return e.runTests(ctx, u, s)
	})
	return errors.Join(err, e.recordAttempts(ctx, u))
}

func (e *Engine) runTests(ctx context.Context, u *netswitch.Universe, s *sessions) error {
	var results []TestEvidence
	var faults []error
	for _, c := range e.plan.Test {
		began := time.Now()
		err := e.runCheck(ctx, u, s, c)
		r := TestEvidence{Name: c.Name, Passed: err == nil, Seconds: time.Since(began).Seconds()}
		if err != nil {
			r.Error = err.Error()
			faults = append(faults, fmt.Errorf("test %q: %w", c.Name, err))
			e.see.warning(fmt.Sprintf("failed: %s: %v", c.Name, err))
		} else {
			e.see.step("passed: " + c.Name)
		}
		results = append(results, r)
	}
	if err := e.j.Put(ctx, e.run.ID, evidenceTests, results); err != nil {
		return err
	}
	if len(faults) > 0 {
		return &outcome{ErrStep, errors.Join(faults...)}
	}
	return nil
}

func (e *Engine) runCheck(ctx context.Context, u *netswitch.Universe, s *sessions, c plan.Check) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout.Duration, fmt.Errorf("took longer than %s", c.Timeout))
	defer cancel()
	if c.HTTP != nil {
		return checkHTTP(ctx, e.httpClient(u), c.HTTP)
	}
	to, err := s.to(ctx, c.On)
	if err != nil {
		return err
	}
	_, err = to.Run(ctx, guestagent.Step{Name: c.Name, Script: c.Run, Timeout: c.Timeout.Duration}, nil)
	return err
}
