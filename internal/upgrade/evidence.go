package upgrade

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/netswitch"
)

// Keys of the evidence in the journal.
const (
	evidenceBefore   = "fingerprint-before"
	evidenceAfter    = "fingerprint-after"
	evidenceClone    = "clone"
	evidenceConvert  = "convert"
	evidenceTests    = "tests"
	evidenceTestData = "verify-test"
	evidenceData     = "verify-switch"
	evidenceAttempts = "attempts"
	evidenceSwitch   = "switch"
	evidenceReview   = "switch-steps"
	evidenceRollback = "rollback"
	evidenceResult   = "result"
	evidenceTransfer = "transfer"
	evidenceFiles    = "files"
	// evidenceDiverged: clients wrote to the new version, and were led back.
	evidenceDiverged = "diverged"
)

// fingerprint stores what each production domain looks like.
func (e *Engine) fingerprint(ctx context.Context, key string, domains map[string]*hypervisor.Domain) error {
	prints := map[string]hypervisor.Fingerprint{}
	for name, dom := range domains {
		fp, err := dom.Fingerprint(ctx)
		if err != nil {
			return fmt.Errorf("fingerprint of %s: %w", name, err)
		}
		prints[name] = fp
	}
	return e.j.Put(ctx, e.run.ID, key, prints)
}

// ErrProductionChanged says that a production domain is not as it was before.
var ErrProductionChanged = errors.New("production is not as it was before")

// proveIsolation compares the production domains with how they were before the
// clone. A difference is an error: somebody or something changed production.
func (e *Engine) proveIsolation(ctx context.Context, domains map[string]*hypervisor.Domain) error {
	if err := e.fingerprint(ctx, evidenceAfter, domains); err != nil {
		return err
	}
	var before, after map[string]hypervisor.Fingerprint
	if err := errors.Join(e.j.Get(ctx, e.run.ID, evidenceBefore, &before), e.j.Get(ctx, e.run.ID, evidenceAfter, &after)); err != nil {
		return err
	}
	var diffs []string
	for name := range before {
		for _, d := range hypervisor.Diff(before[name], after[name]) {
			diffs = append(diffs, name+": "+d)
		}
	}
	if len(diffs) > 0 {
		return fmt.Errorf("%w: %s", ErrProductionChanged, strings.Join(diffs, "; "))
	}
	e.see.step("production's domain XML and disk chains are as they were before")
	return nil
}

// proveUntouched is proveIsolation where the clone may not even have begun.
func (e *Engine) proveUntouched(ctx context.Context) error {
	var before map[string]hypervisor.Fingerprint
	if had, err := e.get(ctx, evidenceBefore, &before); err != nil || !had {
		return err
	}
	domains, err := e.productionDomains(ctx)
	if err != nil {
		e.see.warning(err.Error())
		return nil // gone or renamed by somebody else: nothing of ours to prove
	}
	return e.proveIsolation(ctx, domains)
}

// AttemptsEvidence is what tried to leave the universe before the switch.
type AttemptsEvidence struct {
	Attempts []netswitch.Attempt `json:"attempts"`
	Total    uint64              `json:"total"`
	Left     uint64              `json:"left"`
}

// recordAttempts stores what tried to leave, before the seal is opened or gone.
func (e *Engine) recordAttempts(ctx context.Context, u *netswitch.Universe) error {
	attempts, total, err := u.Tried(ctx)
	if err != nil {
		return err
	}
	left, err := u.PacketsLeft(ctx)
	if err != nil {
		return err
	}
	if left > 0 {
		e.see.warning(fmt.Sprintf("%d packets of the universe got out", left))
	}
	return e.j.Put(ctx, e.run.ID, evidenceAttempts, AttemptsEvidence{Attempts: attempts, Total: total, Left: left})
}

// get reads evidence that may not be there yet.
func (e *Engine) get(ctx context.Context, key string, value any) (bool, error) {
	err := e.j.Get(ctx, e.run.ID, key, value)
	if errors.Is(err, journal.ErrNoEvidence) {
		return false, nil
	}
	return err == nil, err
}
