package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"imago.dev/imago/transfer/gtid"
	"imago.dev/imago/transfer/rows"
)

// Settle returns once everything up to exactly at is applied, converted and
// verified, nothing is rejected, and the AUTO_INCREMENT counters are at least
// counters (by table of the source). When objects are rejected and nothing else is
// left, it returns ErrRejected. When ctx ends first, the error says what was left.
func (e *Engine) Settle(ctx context.Context, at rows.Position, counters map[string]uint64) (Verified, error) {
	for {
		left, changed, err := e.left(at)
		if err != nil {
			return Verified{}, fmt.Errorf("settle data set %q: %w", e.cfg.Set, err)
		}
		if left == "" {
			break
		}
		select {
		case <-changed:
		case <-e.sched.ended:
			return Verified{}, fmt.Errorf("settle data set %q: %w", e.cfg.Set, e.ended())
		case <-ctx.Done():
			return Verified{}, fmt.Errorf("settle data set %q: %w; %s", e.cfg.Set, context.Cause(ctx), left)
		}
	}
	var v Verified
	err := e.inApplier(ctx, func(a *applier) error {
		left, _, err := e.left(at)
		if err != nil {
			return err
		}
		if left != "" {
			return fmt.Errorf("more changes arrived behind %q: %s", at.GTID, left)
		}
		if v, err = a.proof(); err != nil {
			return err
		}
		v.Counters, err = a.setCounters(counters)
		return err
	})
	if err != nil {
		return Verified{}, fmt.Errorf("settle data set %q: %w", e.cfg.Set, err)
	}
	return v, nil
}

// ended is why nothing works any more.
func (e *Engine) ended() error {
	if err := e.failed.Load(); err != nil {
		return *err
	}
	return errClosed
}

// left says what is to be done until everything at a position is proven, and when
// to look again.
func (e *Engine) left(at rows.Position) (string, <-chan struct{}, error) {
	pos, _ := e.pos.get()
	reached := pos.GTID == at.GTID
	if !reached {
		var err error
		if reached, err = gtid.Reached(pos, at); err != nil {
			return "", nil, fmt.Errorf("compare positions: %w", err)
		}
	}
	s := &e.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []string
	if !reached {
		left = append(left, fmt.Sprintf("changes up to %q are not applied: only up to %q", at.GTID, pos.GTID))
	}
	for _, t := range e.tables {
		switch {
		case !t.copy.copied:
			left = append(left, fmt.Sprintf("table %q is not copied", t.src.Table))
		case !t.copy.verified:
			left = append(left, fmt.Sprintf("table %q is not compared", t.src.Table))
		}
	}
	rejected := 0
	for _, c := range e.convs {
		switch {
		case c.phase != convLive:
			left = append(left, fmt.Sprintf("conversion %q is not done", c.name()))
		case !c.verified:
			left = append(left, fmt.Sprintf("conversion %q is not compared", c.name()))
		}
		rejected += len(c.rejected)
	}
	const most = 4
	if len(left) > most {
		left = append(left[:most], fmt.Sprintf("and %d more", len(left)-most))
	}
	if len(left) == 0 && rejected > 0 {
		return "", nil, &RejectedError{Count: rejected}
	}
	return strings.Join(left, "; "), s.changed, nil
}

// RejectedError is ErrRejected with a count.
type RejectedError struct{ Count int }

func (r *RejectedError) Error() string { return fmt.Sprintf("%s: %d", ErrRejected, r.Count) }

// Unwrap makes errors.Is(err, ErrRejected) true.
func (r *RejectedError) Unwrap() error { return ErrRejected }

// proof counts what was compared. Rows of which none was is no proof.
func (a *applier) proof() (Verified, error) {
	e := a.e
	v := Verified{Rows: e.count.rowsVerified.Load(), Changes: e.count.changesVerified.Load(), Tables: len(e.tables)}
	v.Position, _ = e.pos.get()
	for _, t := range e.tables {
		if t.identity == nil || e.wasCompared(t) {
			continue
		}
		if err := a.mustHaveNone(t.identity.sql); err != nil {
			return v, err
		}
	}
	for _, c := range e.convs {
		e.sched.mu.Lock()
		compared := c.compared
		e.sched.mu.Unlock()
		v.Objects += compared
		if compared == 0 && !c.cfg.Add {
			if err := a.mustHaveNone(e.targetTable(c.cfg.Into).SQL()); err != nil {
				return v, err
			}
		}
	}
	return v, nil
}

func (a *applier) mustHaveNone(table string) error {
	n, err := a.target.exec("SELECT 1 FROM " + table + " LIMIT 1")
	if err == nil && n > 0 {
		err = ErrNothingCompared
	}
	if err != nil {
		return fmt.Errorf("table %s: %w", table, err)
	}
	return nil
}

// setCounters raises AUTO_INCREMENT where production's is higher.
func (a *applier) setCounters(counters map[string]uint64) (int, error) {
	if len(counters) == 0 {
		return 0, nil
	}
	type raise struct {
		table string
		to    uint64
	}
	var raises []raise
	set := 0
	_, err := a.target.query("SELECT TABLE_NAME, AUTO_INCREMENT FROM information_schema.TABLES WHERE AUTO_INCREMENT IS NOT NULL AND TABLE_SCHEMA="+rows.Literal(a.e.cfg.To), func(v [][]byte) error {
		want, ok := counters[string(v[0])]
		if !ok || slices.Contains(a.e.cfg.Skip, string(v[0])) {
			return nil
		}
		now, err := strconv.ParseUint(string(v[1]), 10, 64)
		if err != nil {
			return errProtocol
		}
		set++
		if now < want {
			raises = append(raises, raise{string(v[0]), want})
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read the AUTO_INCREMENT counters: %w", err)
	}
	for _, r := range raises {
		name := rows.Name{Database: a.e.cfg.To, Table: r.table}
		if _, err := a.target.exec(fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT=%d", name.SQL(), r.to)); err != nil {
			return 0, fmt.Errorf("raise the AUTO_INCREMENT counter of %s: %w", name, err)
		}
	}
	return set, nil
}

// Rejected are the objects that were set aside, the first ten thousand of them.
func (e *Engine) Rejected(ctx context.Context) ([]Rejected, error) {
	target, err := dial(ctx, e.cfg.Target)
	if err != nil {
		return nil, err
	}
	defer target.close()
	var out []Rejected
	_, err = target.query(fmt.Sprintf("SELECT conv, object, reason FROM imago.rejected WHERE id=%d ORDER BY conv, k LIMIT 10000", e.id), func(v [][]byte) error {
		n, err := strconv.Atoi(string(v[0]))
		if err != nil || n >= len(e.convs) {
			return errProtocol
		}
		key, err := decodeKey(slices.Clone(v[1]))
		if err != nil {
			return err
		}
		c := e.convs[n]
		out = append(out, Rejected{Conversion: c.name(), Key: keyText(c.cols, key), Reason: string(v[2])})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the rejected objects: %w", err)
	}
	return out, nil
}

// Retry converts the rejected objects again and returns when that is done. Run must
// be working.
func (e *Engine) Retry(ctx context.Context) error {
	for _, c := range e.convs {
		if err := e.inApplier(ctx, func(a *applier) error { return a.retry(c) }); err != nil {
			return fmt.Errorf("convert rejected objects of %q again: %w", c.name(), err)
		}
	}
	for {
		s := &e.sched
		s.mu.Lock()
		changed := s.changed
		busy := slices.ContainsFunc(e.convs, func(c *conversion) bool { return c.phase == convDraining })
		s.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-changed:
		case <-e.sched.ended:
			return e.ended()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// retry puts the rejected objects of a conversion on the list of those to be made.
func (a *applier) retry(c *conversion) (err error) {
	e, sc := a.e, a.script
	e.sched.mu.Lock()
	n, phase := len(c.rejected), c.phase
	e.sched.mu.Unlock()
	if n == 0 || phase == convWaiting {
		return nil
	}
	sc.reset()
	defer func() {
		if err != nil {
			sc.reset()
			_, undo := a.target.exec("ROLLBACK")
			err = errors.Join(err, undo)
		}
	}()
	if err := e.fence(sc); err != nil {
		return err
	}
	where := fmt.Sprintf("id=%d AND conv=%d", e.id, c.n)
	for _, s := range []string{
		"INSERT INTO imago.dirty (id, conv, k, object) SELECT r.id, r.conv, r.k, r.object FROM imago.rejected r" +
			" WHERE r.id=" + strconv.Itoa(e.id) + " AND r.conv=" + strconv.Itoa(c.n) +
			" AND NOT EXISTS (SELECT 1 FROM imago.dirty d WHERE d.id=r.id AND d.conv=r.conv AND d.k=r.k)",
		fmt.Sprintf("UPDATE imago.conversions SET phase=%d WHERE %s", convDraining, where),
	} {
		if err := sc.sql(check{want: anyNumber}, s); err != nil {
			return err
		}
	}
	if err := sc.finish(); err != nil {
		return err
	}
	if _, err := a.target.exec("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	e.sched.mu.Lock()
	defer e.sched.mu.Unlock()
	for id := range c.rejected {
		c.dirty[id] = struct{}{}
	}
	c.phase = convDraining
	e.sched.news()
	return nil
}
