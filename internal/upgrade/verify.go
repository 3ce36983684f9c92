package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/transfer"
)

// VerifyEvidence is the result of one comparison of the plan.
type VerifyEvidence struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	transfer.Comparison
}

// comparisonsAtOnce bounds how many comparisons run side by side: each is mostly
// waiting for its two guests.
const comparisonsAtOnce = 3

// verify makes all comparisons of the plan. With keep, it also lists the new
// side's objects in a file: what a rollback would compare with.
func (e *Engine) verify(ctx context.Context, s *sessions, evidence string, keep bool) error {
	results := make([]VerifyEvidence, len(e.plan.Verify))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(comparisonsAtOnce)
	for i, v := range e.plan.Verify {
		sides, err := e.sides(ctx, s, v) // logs in, which is not for concurrent use
		if err != nil {
			return errors.Join(&outcome{ErrVerify, fmt.Errorf("compare %s: %w", v.Name, err)}, g.Wait())
		}
		g.Go(func() error {
			began := time.Now()
			c, err := e.compare(gctx, sides, v, keep)
			if err != nil {
				return &outcome{ErrVerify, fmt.Errorf("compare %s: %w", v.Name, err)}
			}
			results[i] = VerifyEvidence{Name: v.Name, Seconds: time.Since(began).Seconds(), Comparison: c}
			e.see.step(fmt.Sprintf("compared %s: %s", v.Name, c))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := e.j.Put(ctx, e.run.ID, evidence, results); err != nil {
		return err
	}
	if len(e.plan.Verify) == 0 {
		e.see.warning("the plan compares nothing: nobody knows whether all data arrived")
	}
	var faults []error
	for _, r := range results {
		if !r.OK() {
			faults = append(faults, fmt.Errorf("%s: %s%s", r.Name, r.Comparison, samples(r.Comparison)))
		}
	}
	if len(faults) > 0 {
		return &outcome{ErrVerify, fmt.Errorf("old and new data differ: %w", errors.Join(faults...))}
	}
	return nil
}

// sides are the two sides of a comparison, ready to be read.
type sides struct{ old, fresh transfer.ObjectSource }

func (e *Engine) sides(ctx context.Context, s *sessions, v plan.Comparison) (sides, error) {
	old, err := e.objects(ctx, s, v.Old)
	if err != nil {
		return sides{}, err
	}
	fresh, err := e.objects(ctx, s, v.New)
	return sides{old, fresh}, err
}

// samples names the first objects that differ.
func samples(c transfer.Comparison) string {
	var b bytes.Buffer
	for _, f := range []struct {
		what string
		transfer.Finding
	}{{"missing", c.Missing}, {"extra", c.Extra}, {"different", c.Different}, {"doubled in the new data", c.NewDoubled}, {"doubled in the old data", c.OldDoubled}} {
		if f.Count > 0 {
			fmt.Fprintf(&b, "; %s: %s", f.what, guestagent.Clean(fmt.Sprintf("%q", f.Sample)))
		}
	}
	return b.String()
}

func (e *Engine) compare(ctx context.Context, s sides, v plan.Comparison, keep bool) (transfer.Comparison, error) {
	opts := transfer.Options{AllowEmpty: v.AllowEmpty, TempDir: e.n.dir(), Progress: func(o, n int64) {
		e.see.progress("comparing "+v.Name, "objects", uint64(min(o, n)), uint64(max(o, n)))
	}}
	if !keep {
		return transfer.Compare(ctx, s.old, s.fresh, opts)
	}
	return e.compareAndKeep(ctx, s.old, s.fresh, e.n.manifest(v.Name), opts)
}

// compareAndKeep reads the new side once, for the comparison and for the list.
func (e *Engine) compareAndKeep(ctx context.Context, old, fresh transfer.ObjectSource, path string, opts transfer.Options) (transfer.Comparison, error) {
	if err := makeDir(e.n.reportDir()); err != nil {
		return transfer.Comparison{}, err
	}
	type object struct {
		key    string
		digest []byte
	}
	pipe := make(chan object, 256)
	var c transfer.Comparison
	g, ctx := errgroup.WithContext(ctx)
	ended := make(chan error, 1)
	g.Go(func() (err error) {
		defer func() { ended <- err; close(pipe) }()
		c, err = transfer.Compare(ctx, old, func(ctx context.Context, yield func(string, []byte) error) error {
			return fresh(ctx, func(key string, digest []byte) error {
				select {
				case pipe <- object{key, bytes.Clone(digest)}:
					return yield(key, digest)
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
		}, opts)
		return err
	})
	g.Go(func() error {
		_, err := transfer.WriteManifest(ctx, path, func(_ context.Context, yield func(string, []byte) error) error {
			for o := range pipe {
				if err := yield(o.key, o.digest); err != nil {
					return err
				}
			}
			return <-ended
		}, opts)
		return err
	})
	return c, g.Wait()
}

// objects is one side of a comparison: what a command prints, or a folder.
func (e *Engine) objects(ctx context.Context, s *sessions, d plan.DataView) (transfer.ObjectSource, error) {
	session, err := s.to(ctx, d.On)
	if err != nil {
		return nil, err
	}
	if d.Tree != "" {
		return treeObjects(session, d.Tree), nil
	}
	return lineObjects(session, d.Run), nil
}

// lineObjects reads lines of key, tab and digest. What stands after the tab is
// hashed here if it is no short digest itself, so that any text may stand there.
func lineObjects(s *guestagent.Session, script string) transfer.ObjectSource {
	return func(ctx context.Context, yield func(string, []byte) error) error {
		_, err := s.Lines(ctx, guestagent.Step{Name: "list objects", Script: script}, func(line []byte) error {
			key, value, ok := bytes.Cut(line, []byte{'\t'})
			if !ok || len(key) == 0 {
				return fmt.Errorf("guest %q printed the line %q: want a key, a tab and a digest", s.Name(), excerpt(string(line)))
			}
			return yield(string(key), digestOf(value))
		})
		return err
	}
}

// treeObjects names each file and link of a folder, with its content's hash.
func treeObjects(s *guestagent.Session, root string) transfer.ObjectSource {
	return func(ctx context.Context, yield func(string, []byte) error) error {
		return s.Tree(ctx, root, func(en guestagent.Entry) error {
			switch en.Kind {
			case guestagent.KindFile:
				return yield(en.Path, en.SHA256)
			case guestagent.KindSymlink:
				return yield(en.Path, digestOf([]byte("link to "+en.Link)))
			}
			return nil
		})
	}
}
