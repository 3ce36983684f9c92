package catchup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// stream is one manifest at the walk's place in it; in is false where the
// manifest does not know the directory.
type stream struct {
	*reader
	in bool
}

func (c *run) window() time.Duration {
	switch {
	case c.opts.window > 0:
		return c.opts.window
	case c.opts.Frozen:
		return frozenWindow
	}
	return cutWindow
}

func (c *run) header() header {
	return header{label: c.opts.Label, target: c.opts.Target, uid: int64(c.opts.UID), gid: int64(c.opts.GID), window: c.window()}
}

// openManifests opens what earlier calls left. None of it needs to be there.
func (c *run) openManifests() error {
	if c.opts.Manifest == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.opts.Manifest), 0o700); err != nil {
		return fmt.Errorf("make the manifest's directory: %w", err)
	}
	found, next := parts(c.opts.Manifest)
	c.partsAt = found
	for _, path := range append(found, c.opts.Manifest) {
		if r, f := openManifest(path, c.header()); r != nil {
			c.old, c.files = append(c.old, r), append(c.files, f)
		}
	}
	if !c.opts.CheckOnly {
		c.out = newWriter(next, c.header())
	}
	return nil
}

// finished is the one old manifest, if nothing was interrupted since.
func (c *run) finished() *reader {
	if len(c.old) == 1 && c.old[0].ended && !c.stage.interrupted {
		return c.old[0]
	}
	return nil
}

// vouched asks whether an earlier call saw both sides as they are now.
func (c *run) vouched(recs []found, src, dst ident) bool {
	for _, f := range recs {
		if f.by.vouches(f.rec, src, dst) {
			return true
		}
		if f.rec.src == src && f.rec.dst == dst {
			c.reread = true
		}
	}
	return false
}

// found is what a manifest says of an entry.
type found struct {
	by  *reader
	rec record
}

func lookUp(streams []stream, name string) []found {
	var recs []found
	for _, s := range streams {
		if !s.in {
			continue
		}
		if rec, ok := s.find(name); ok {
			recs = append(recs, found{s.reader, rec})
		}
	}
	return recs
}

// foreign notes an entry that is not what an earlier call made it. After an
// interrupted call nobody knows what it made.
func (c *run) foreign(recs []found, path string, dst ident, exists bool) {
	if c.finished() == nil || len(recs) == 0 || exists && recs[0].rec.dst.like(dst) {
		return
	}
	named(&c.res.Foreigners, &c.res.Foreign, path)
}

// note writes a record, and notices whether it says something new.
func (c *run) note(r record, recs []found) error {
	if c.out == nil {
		return nil
	}
	if r.kind != recordDir && (len(recs) == 0 || recs[0].rec != r) {
		c.changed = true
	}
	c.out.newest = c.newest
	return c.out.put(r)
}

// remember puts the new manifest in the old one's place, unless that says the
// same already.
func (c *run) remember() error {
	if c.out == nil {
		return nil
	}
	f := footer{clock: c.newest, settled: before(c.newest, c.window())}
	if !c.opts.Taken.IsZero() {
		f.taken = c.opts.Taken.UnixNano()
	}
	old := c.finished()
	if old != nil {
		f.clock = max(f.clock, c.passed(old.foot, f.taken))
		f.settled = before(f.clock, c.window())
		same := !c.changed && old.foot.records == c.out.records && !((c.reread || c.opts.Full) && f.settled > old.foot.settled)
		if same {
			return c.out.drop()
		}
	}
	if err := c.out.finish(c.opts.Manifest, f); err != nil {
		return err
	}
	c.out = nil
	var errs []error
	for _, p := range c.partsAt {
		errs = append(errs, os.Remove(p))
	}
	return errors.Join(errs...)
}

// passed is the source's time by what went by on the host since the last view,
// less a hundredth: its clock may be slow.
func (c *run) passed(old footer, taken int64) int64 {
	if old.taken == 0 || taken < old.taken {
		return min(old.clock, c.clamp)
	}
	return min(old.clock+(taken-old.taken)/100*99, c.clamp)
}
