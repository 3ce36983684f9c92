package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
)

// ErrNothingCompared is returned by Compare when both sides are empty: a check
// that looked at nothing has proved nothing.
var ErrNothingCompared = errors.New("nothing was compared: neither side has an object")

// Options of Compare and of what else sorts objects. The zero value is fine.
type Options struct {
	// AllowEmpty makes an empty comparison no error.
	AllowEmpty bool
	// Samples is how many keys of each finding are kept. Zero means ten.
	Samples int
	// Memory is the sort buffer of each side in bytes. Zero means 64 MiB.
	Memory int
	// TempDir is where what exceeds Memory is spilled. Empty is the system's.
	TempDir string
	// Progress, when set, is called now and then with the number of objects
	// read from each side so far. Calls do not overlap.
	Progress func(old, new int64)
}

const defaultSamples = 10

func (o Options) samples() int {
	if o.Samples > 0 {
		return o.Samples
	}
	return defaultSamples
}

// Finding counts objects and names the first of them in key order.
type Finding struct {
	Count  int64    `json:"count"`
	Sample []string `json:"sample,omitempty"`
}

func (f *Finding) add(key string, samples int) {
	f.Count++
	if len(f.Sample) < samples {
		f.Sample = append(f.Sample, key)
	}
}

// Comparison is how the new side stands to the old one. Every key counts once
// in exactly one of Verified, Missing, Extra and Different; a key that one side
// yields more than once counts in a Doubled finding besides.
type Comparison struct {
	Objects    int64 `json:"objects"`     // keys of the old side
	NewObjects int64 `json:"new_objects"` // keys of the new side
	Verified   int64 `json:"verified"`    // keys with the same digest on both
	// Missing: only the old side has it. Extra: only the new side has it.
	// Different: both have it, with other digests.
	Missing   Finding `json:"missing"`
	Extra     Finding `json:"extra"`
	Different Finding `json:"different"`
	// Keys that one side yielded more than once.
	OldDoubled Finding `json:"old_doubled"`
	NewDoubled Finding `json:"new_doubled"`
}

// OK says whether the two sides are equal and no key was doubled.
func (c Comparison) OK() bool {
	return c.Missing.Count+c.Extra.Count+c.Different.Count+c.OldDoubled.Count+c.NewDoubled.Count == 0
}

func (c Comparison) String() string {
	return fmt.Sprintf("%d objects, %d verified, %d missing, %d extra, %d different, %d doubled",
		c.Objects, c.Verified, c.Missing.Count, c.Extra.Count, c.Different.Count, c.OldDoubled.Count+c.NewDoubled.Count)
}

// Compare reads both sides, at the same time, and says where they differ. What
// differs is no error; a source that fails is, and so is an empty comparison
// (see Options.AllowEmpty). A key that comes more than once is equal on both
// sides when it comes with the same digests equally often.
func Compare(ctx context.Context, old, new ObjectSource, opts Options) (c Comparison, err error) {
	var count progress
	count.report = opts.Progress
	var sides [2]*sorter
	g, gctx := errgroup.WithContext(ctx)
	for i, side := range []struct {
		name   string
		source ObjectSource
	}{{"old", old}, {"new", new}} {
		g.Go(func() (err error) {
			if sides[i], err = collect(gctx, count.watch(i, side.source), opts); err != nil {
				return fmt.Errorf("read the %s side: %w", side.name, err)
			}
			return nil
		})
	}
	defer func() {
		for _, s := range sides {
			if s != nil {
				err = errors.Join(err, s.close())
			}
		}
	}()
	if err := g.Wait(); err != nil {
		return c, err
	}
	count.flush()
	a, err := sides[0].sorted()
	if err != nil {
		return c, err
	}
	b, err := sides[1].sorted()
	if err != nil {
		return c, err
	}
	if err := c.merge(ctx, a, b, opts.samples()); err != nil {
		return c, err
	}
	if c.Objects == 0 && c.NewObjects == 0 && !opts.AllowEmpty {
		return c, ErrNothingCompared
	}
	return c, nil
}

func (c *Comparison) merge(ctx context.Context, old, new stream, samples int) error {
	join := joined{a: grouped{in: old}, b: grouped{in: new}}
	return join.each(ctx, func(key string, a, b group) {
		if a.count > 0 {
			c.Objects++
		}
		if b.count > 0 {
			c.NewObjects++
		}
		if a.count > 1 {
			c.OldDoubled.add(key, samples)
		}
		if b.count > 1 {
			c.NewDoubled.add(key, samples)
		}
		switch {
		case b.count == 0:
			c.Missing.add(key, samples)
		case a.count == 0:
			c.Extra.add(key, samples)
		case a != b:
			c.Different.add(key, samples)
		default:
			c.Verified++
		}
	})
}

// checkEvery is how many keys are merged between two looks at the context.
const checkEvery = 4096

// joined walks two sorted streams key by key.
type joined struct{ a, b grouped }

// each calls f for every key of either side; a side without it has count 0.
func (j *joined) each(ctx context.Context, f func(key string, a, b group)) error {
	if err := errors.Join(j.a.advance(), j.b.advance()); err != nil {
		return err
	}
	for n := 0; j.a.more || j.b.more; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		takeA := j.a.more && (!j.b.more || j.a.key <= j.b.key)
		takeB := j.b.more && (!j.a.more || j.b.key <= j.a.key)
		var key string
		var a, b group
		if takeA {
			key, a = j.a.key, j.a.group
		}
		if takeB {
			key, b = j.b.key, j.b.group
		}
		f(key, a, b)
		var errA, errB error
		if takeA {
			errA = j.a.advance()
		}
		if takeB {
			errB = j.b.advance()
		}
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
	}
	return nil
}

// grouped reads all objects of one key at a time.
type grouped struct {
	in    stream
	ahead object
	begun bool
	ended bool

	more  bool
	key   string
	group group
}

func (g *grouped) advance() error {
	if !g.begun {
		g.begun = true
		if err := g.read(); err != nil {
			return err
		}
	}
	g.more, g.key, g.group = !g.ended, g.ahead.key, group{}
	for !g.ended && g.ahead.key == g.key {
		g.group.add(g.ahead.digest)
		if err := g.read(); err != nil {
			return err
		}
	}
	return nil
}

func (g *grouped) read() error {
	o, err := g.in.next()
	if err == io.EOF {
		g.ended = true
		return nil
	}
	g.ahead = o
	return err
}
