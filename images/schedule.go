package images

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
)

// buildAll builds the plan, no more at a time than there are cores. Of the
// recipes that are ready, the one goes first on which the longest chain of
// others still waits.
func (b *Builder) buildAll(ctx context.Context, p *plan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		name string
		err  error
	}
	results := make(chan result)
	q := newQueue(b, p)
	left := newEstimate(b, p)
	running := 0
	var failed error
	for {
		for failed == nil && running < runtime.NumCPU() {
			name, ok := q.next()
			if !ok {
				break
			}
			running++
			go func() { results <- result{name, b.buildOne(ctx, name, p.use[name], left)} }()
		}
		if running == 0 {
			return failed
		}
		r := <-results
		running--
		switch {
		case r.err == nil:
			q.done(r.name)
		case failed == nil:
			failed = fmt.Errorf("build image %s: %w", r.name, r.err)
			cancel() // the others' errors are only that they were stopped
		case !errors.Is(r.err, context.Canceled):
			failed = errors.Join(failed, fmt.Errorf("build image %s: %w", r.name, r.err))
		}
	}
}

// queue knows what of a plan can be built next.
type queue struct {
	waiting []string            // longest chain first
	missing map[string][]string // recipe -> what it needs and is not built yet
}

func newQueue(b *Builder, p *plan) *queue {
	q := &queue{missing: map[string][]string{}}
	chain := map[string]float64{} // seconds until the last build that waits for this one is done
	for _, name := range slices.Backward(p.build) {
		chain[name] += b.expected(name)
		for _, need := range b.Catalogue.recipes[name].needs() {
			if slices.Contains(p.build, need) {
				q.missing[name] = append(q.missing[name], need)
				chain[need] = max(chain[need], chain[name])
			}
		}
	}
	q.waiting = slices.Clone(p.build)
	slices.SortStableFunc(q.waiting, func(a, b string) int {
		switch {
		case chain[a] > chain[b]:
			return -1
		case chain[a] < chain[b]:
			return 1
		}
		return 0
	})
	return q
}

// next takes a recipe that can be built now.
func (q *queue) next() (string, bool) {
	for i, name := range q.waiting {
		if len(q.missing[name]) == 0 {
			q.waiting = slices.Delete(q.waiting, i, i+1)
			return name, true
		}
	}
	return "", false
}

// done frees what waited for a recipe.
func (q *queue) done(built string) {
	for name, needs := range q.missing {
		q.missing[name] = slices.DeleteFunc(needs, func(n string) bool { return n == built })
	}
}
