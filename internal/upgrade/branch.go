package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/plan"
)

// branchName is the snapshot that a test's branch of the universe goes back to.
const branchName = "imago-branch"

// onBranch runs act on a branch of the universe: whatever it changes in the VMs
// of the new version, in memory or on disk, is undone afterwards. Rows and files
// that flow from production must never meet what a test wrote.
func (e *Engine) onBranch(ctx context.Context, s *sessions, act func(context.Context) error) error {
	domains, err := e.servingDomains()
	if err != nil {
		return err
	}
	// What an earlier process left of a test is undone, not branched from.
	if err := e.rewind(ctx, s, domains); err != nil {
		return err
	}
	began := time.Now()
	err = together(ctx, domains, func(ctx context.Context, d *hypervisor.Domain) error { return d.Snapshot(ctx, branchName) })
	if err != nil {
		undo, cancel := cleanup(ctx)
		defer cancel()
		return errors.Join(fmt.Errorf("branch the universe for tests: %w", err), e.rewind(undo, s, domains))
	}
	e.see.step(fmt.Sprintf("the tests run on a branch of the universe (branched in %.1f s)", time.Since(began).Seconds()))
	actErr := act(ctx)
	undo, cancel := cleanup(ctx)
	defer cancel()
	return errors.Join(actErr, e.rewind(undo, s, domains))
}

// rewind brings the VMs back to where a branch left, if there is one.
func (e *Engine) rewind(ctx context.Context, s *sessions, domains map[string]*hypervisor.Domain) error {
	began, rewound := time.Now(), false
	for vm, dom := range domains {
		has, err := dom.HasSnapshot(ctx, branchName)
		if err != nil {
			return fmt.Errorf("look for a branch of %s: %w", vm, err)
		}
		if !has {
			continue
		}
		rewound = true
		s.forget(vm) // the connection is one of the branch
		if err := dom.Revert(ctx, branchName); err != nil {
			return fmt.Errorf("undo the tests in %s: %w; 'imago abort' gives the universe up", vm, err)
		}
	}
	if !rewound {
		return nil
	}
	// All first, then the removal: a crash between must find the way back of each.
	for vm, dom := range domains {
		if err := dom.DeleteSnapshot(ctx, branchName); err != nil {
			return fmt.Errorf("remove the branch of %s: %w", vm, err)
		}
		if err := e.setClock(ctx, s, vm); err != nil {
			return err
		}
	}
	e.see.step(fmt.Sprintf("the branch is gone, the universe is as before the tests (%.1f s)", time.Since(began).Seconds()))
	return nil
}

// setClock sets the clock of a VM that was rewound: it is behind by as long as
// the branch lived, and what clients write must not seem older than it is.
func (e *Engine) setClock(ctx context.Context, s *sessions, vm string) error {
	if len(e.vm(vm).HostKeys) == 0 {
		e.see.warning(fmt.Sprintf("%s was rewound and its clock is late: imago cannot log in there to set it (no host_keys)", vm))
		return nil
	}
	session, err := s.to(ctx, vm)
	if err != nil {
		return fmt.Errorf("log in to %s after the tests: %w", vm, err)
	}
	now := time.Now()
	_, err = session.Run(ctx, guestagent.Step{Name: "set the clock", Script: fmt.Sprintf("date -u -s @%d.%09d >/dev/null", now.Unix(), now.Nanosecond()), Timeout: 30 * time.Second}, nil)
	return err
}

// servingDomains are the VMs of the new version.
func (e *Engine) servingDomains() (map[string]*hypervisor.Domain, error) {
	out := map[string]*hypervisor.Domain{}
	for _, vm := range e.plan.Universe.VMs {
		if vm.Role == plan.RoleSource {
			continue
		}
		dom, err := e.conn.LookupDomain(e.n.domain(vm.Name))
		if err != nil {
			return nil, err
		}
		out[vm.Name] = dom
	}
	return out, nil
}

func together(ctx context.Context, domains map[string]*hypervisor.Domain, act func(context.Context, *hypervisor.Domain) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for name, dom := range domains {
		g.Go(func() error {
			if err := act(ctx, dom); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}
