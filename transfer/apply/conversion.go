package apply

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/rows"
)

// What a conversion goes through.
const (
	convWaiting  = iota // the first pass is to come or under way; changed objects are noted
	convDraining        // it is over; the noted objects are made anew
	convLive            // each transaction makes the objects anew that it changed
)

// conversion is one of the data set. What is written by more than one goroutine is
// guarded by Engine.sched.
type conversion struct {
	n    int
	cfg  convert.Conversion
	p    *convert.Prepared
	from []*table
	cols []*rows.Column // of an object's key

	phase       int
	convertedTo []rows.Cell // end of what the first pass made
	comparedTo  []rows.Cell
	verified    bool
	objects     uint64 // made in the first pass
	compared    uint64
	dirty       map[string]struct{} // noted, as in the state
	rejected    map[string]struct{}
}

func (c *conversion) name() string {
	if c.cfg.Name != "" {
		return c.cfg.Name
	}
	return c.cfg.Into
}

// dirtyObjects are objects that a group touched.
type dirtyObjects struct {
	c    *conversion
	ids  []string
	keys [][]rows.Cell
	// What became of them, once the group is committed.
	noted              []string // new in the state's list
	rejected, accepted []string
	compared           uint64
}

func (d *dirtyObjects) add(seen map[string]bool, keys [][]rows.Cell) {
	for _, k := range keys {
		id := objectID(k)
		if !seen[id] {
			seen[id] = true
			d.ids, d.keys = append(d.ids, id), append(d.keys, k)
		}
	}
}

func objectID(key []rows.Cell) string { return string(shortened(appendKey(nil, key))) }

func (e *Engine) addConversion(n int, cfg convert.Conversion, p *convert.Prepared) {
	c := &conversion{n: n, cfg: cfg, p: p, dirty: map[string]struct{}{}, rejected: map[string]struct{}{}}
	key := p.KeyColumns()
	for i := range key {
		c.cols = append(c.cols, &key[i])
	}
	for _, f := range cfg.From {
		t := e.byName[rows.Name{Database: e.cfg.From, Table: f.Table}]
		if !slices.Contains(c.from, t) {
			c.from = append(c.from, t)
			t.convs = append(t.convs, c)
		}
	}
	e.convs = append(e.convs, c)
}

func (e *Engine) closeConversions() {
	for _, c := range e.convs {
		if err := c.p.Close(); err != nil {
			e.log.Warn("end a conversion's program", "conversion", c.name(), "error", err)
		}
	}
}

// readConversions reads how far the conversions are.
func (e *Engine) readConversions(target *conn, where string) error {
	pick := func(v []byte) (*conversion, error) {
		n, err := strconv.Atoi(string(v))
		if err != nil || n >= len(e.convs) {
			return nil, fmt.Errorf("the state's conversion %q is unknown", v)
		}
		return e.convs[n], nil
	}
	_, err := target.query("SELECT conv, phase, converted_to, compared_to, verified, objects, compared FROM imago.conversions"+where, func(v [][]byte) error {
		c, err := pick(v[0])
		if err != nil {
			return err
		}
		if c.phase, err = strconv.Atoi(string(v[1])); err != nil {
			return err
		}
		if c.convertedTo, err = decodeBound(slices.Clone(v[2])); err != nil {
			return err
		}
		if c.comparedTo, err = decodeBound(slices.Clone(v[3])); err != nil {
			return err
		}
		c.verified = string(v[4]) == "1"
		if err := numbers(v[5:], &c.objects, &c.compared); err != nil {
			return err
		}
		e.count.converted.Add(c.objects)
		e.count.converify.Add(c.compared)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the conversions' state: %w", err)
	}
	for table, set := range map[string]func(*conversion) map[string]struct{}{
		"dirty": func(c *conversion) map[string]struct{} { return c.dirty }, "rejected": func(c *conversion) map[string]struct{} { return c.rejected },
	} {
		_, err := target.query("SELECT conv, k FROM imago."+table+where, func(v [][]byte) error {
			c, err := pick(v[0])
			if err == nil {
				set(c)[string(v[1])] = struct{}{}
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("read the %s objects: %w", table, err)
		}
	}
	return nil
}

// draining tells whether the applier has to look after a conversion soon.
func (e *Engine) draining() bool {
	e.sched.mu.Lock()
	defer e.sched.mu.Unlock()
	return slices.ContainsFunc(e.convs, func(c *conversion) bool { return c.phase != convLive })
}

// convertGroup makes the objects anew that a group touched, or notes them if their
// first pass is not over. The rows are written by then.
func (a *applier) convertGroup(w *writer) error {
	g := w.g
	if err := w.sc.finish(); err != nil {
		return err
	}
	g.objects = nil
	for _, c := range a.e.convs {
		d := &dirtyObjects{c: c}
		seen := map[string]bool{}
		var via []*rows.Change
		for _, ch := range g.c.converted {
			d.add(seen, c.p.Dirty(ch))
			if c.p.HasVia(ch.Table) {
				via = append(via, ch)
			}
		}
		if len(via) > 0 {
			keys, err := c.p.DirtyVia(a.ctx, a.target.c, via)
			if err != nil {
				return err
			}
			d.add(seen, keys)
		}
		if len(d.keys) == 0 {
			continue
		}
		g.objects = append(g.objects, d)
		var err error
		if a.e.phase(c) == convLive {
			err = a.makeObjects(w.sc, d)
			if err == nil && d.compared > 0 {
				err = w.sc.sql(check{want: 1, wrong: stateWrong}, fmt.Sprintf("UPDATE imago.conversions SET compared=compared+%d WHERE id=%d AND conv=%d", d.compared, a.e.id, c.n))
			}
		} else {
			err = a.noteObjects(w.sc, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) phase(c *conversion) int {
	e.sched.mu.Lock()
	defer e.sched.mu.Unlock()
	return c.phase
}

func has(e *Engine, set map[string]struct{}, id string) bool {
	e.sched.mu.Lock()
	defer e.sched.mu.Unlock()
	_, ok := set[id]
	return ok
}

// noteObjects puts objects on the state's list.
func (a *applier) noteObjects(sc *script, d *dirtyObjects) error {
	for i, id := range d.ids {
		if has(a.e, d.c.dirty, id) {
			continue
		}
		d.noted = append(d.noted, id)
		if err := sc.sql(check{want: 1, wrong: stateWrong}, a.e.objectRow("dirty", "", d.c, id, d.keys[i], "")); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) objectRow(table, columns string, c *conversion, id string, key []rows.Cell, values string) string {
	return fmt.Sprintf("INSERT INTO imago.%s (id, conv, k, object%s) VALUES (%d,%d,%s,%s%s)", table, columns, e.id, c.n,
		blob([]byte(id)), blob(appendKey([]byte{}, key)), values)
}

// makeObjects converts objects and compares them.
func (a *applier) makeObjects(sc *script, d *dirtyObjects) error {
	c := d.c
	res, err := c.p.Convert(a.ctx, a.target.c, d.keys)
	if err != nil {
		return err
	}
	if err := a.noteRejected(sc, d, res); err != nil {
		return err
	}
	return a.compareMade(d)
}

// noteRejected writes down which objects failed and which fail no more.
func (a *applier) noteRejected(sc *script, d *dirtyObjects, res convert.Result) error {
	bad := map[string]string{}
	keys := map[string][]rows.Cell{}
	for _, r := range res.Rejected {
		bad[objectID(r.Key)], keys[objectID(r.Key)] = r.Reason, r.Key
	}
	for _, id := range d.ids {
		if _, is := bad[id]; !is && has(a.e, d.c.rejected, id) {
			d.accepted = append(d.accepted, id)
			if err := sc.sql(check{want: 1, wrong: stateWrong}, a.e.unreject(d.c, id)); err != nil {
				return err
			}
		}
	}
	for id, reason := range bad {
		d.rejected = append(d.rejected, id)
		if has(a.e, d.c.rejected, id) {
			if err := sc.sql(check{want: 1, wrong: stateWrong}, a.e.unreject(d.c, id)); err != nil {
				return err
			}
		}
		if err := sc.sql(check{want: 1, wrong: stateWrong}, a.e.objectRow("rejected", ", reason", d.c, id, keys[id], ","+blob([]byte(reason)))); err != nil {
			return err
		}
	}
	return sc.finish()
}

func (e *Engine) unreject(c *conversion, id string) string {
	return fmt.Sprintf("DELETE FROM imago.rejected WHERE id=%d AND conv=%d AND k=%s", e.id, c.n, blob([]byte(id)))
}

// compareMade compares objects that were just made, but for rejected ones.
func (a *applier) compareMade(d *dirtyObjects) error {
	var keys [][]rows.Cell
	for i, id := range d.ids {
		if !slices.Contains(d.rejected, id) {
			keys = append(keys, d.keys[i])
		}
	}
	if len(keys) == 0 {
		return nil
	}
	different, err := d.c.p.CompareObjects(a.ctx, a.target.c, keys)
	if err != nil {
		return err
	}
	if len(different) > 0 {
		return d.c.differ(different)
	}
	d.compared = uint64(len(keys))
	return nil
}

func (c *conversion) differ(keys [][]rows.Cell) error {
	var list []string
	for _, k := range keys {
		list = append(list, "the object with "+keyText(c.cols, k)+" differs")
	}
	return differences("conversion "+c.name(), list)
}

// objectsCommitted notes what became of a group's objects. sched.mu is held.
func (e *Engine) objectsCommitted(g *gathered) {
	for _, d := range g.objects {
		for _, id := range d.noted {
			d.c.dirty[id] = struct{}{}
		}
		e.judged(d)
	}
}

// judged notes which objects are rejected and which were compared. sched.mu is held.
func (e *Engine) judged(d *dirtyObjects) {
	for _, id := range d.accepted {
		delete(d.c.rejected, id)
	}
	for _, id := range d.rejected {
		d.c.rejected[id] = struct{}{}
	}
	d.c.compared += d.compared
	e.count.converify.Add(d.compared)
}

// drain makes some of the noted objects anew, and puts a conversion into its last
// phase when there are none. It tells whether there is more to do at once.
func (a *applier) drain() (more bool, err error) {
	for _, c := range a.e.convs {
		if a.e.phase(c) != convDraining {
			continue
		}
		for try := range 20 {
			if err = a.drainSome(c); !passing(err) {
				break
			}
			time.Sleep(time.Duration(try*try) * time.Millisecond)
		}
		if err != nil {
			return false, fmt.Errorf("conversion %q: %w", c.name(), err)
		}
		more = more || a.e.phase(c) == convDraining
	}
	return more, nil
}

func (a *applier) drainSome(c *conversion) (err error) {
	const most = 500
	e, sc := a.e, a.script
	sc.reset()
	defer func() {
		if err != nil {
			sc.reset()
			_, _ = a.target.exec("ROLLBACK")
		}
	}()
	if err := e.fence(sc); err != nil {
		return err
	}
	if err := sc.finish(); err != nil {
		return err
	}
	d := &dirtyObjects{c: c}
	_, err = a.target.query(fmt.Sprintf("SELECT k, object FROM imago.dirty WHERE id=%d AND conv=%d LIMIT %d", e.id, c.n, most), func(v [][]byte) error {
		key, err := decodeKey(slices.Clone(v[1]))
		d.ids, d.keys = append(d.ids, string(v[0])), append(d.keys, key)
		return err
	})
	if err != nil {
		return err
	}
	if len(d.keys) > 0 {
		if err := a.makeObjects(sc, d); err != nil {
			return err
		}
		var ids []string
		for _, id := range d.ids {
			ids = append(ids, blob([]byte(id)))
		}
		err := sc.sql(check{want: int64(len(ids)), wrong: stateWrong}, fmt.Sprintf("DELETE FROM imago.dirty WHERE id=%d AND conv=%d AND k IN (%s)", e.id, c.n, strings.Join(ids, ",")))
		if err != nil {
			return err
		}
	}
	phase := convDraining
	if len(d.keys) < most {
		phase = convLive
	}
	err = sc.sql(check{want: 1, wrong: stateWrong}, fmt.Sprintf("UPDATE imago.conversions SET phase=%d, compared=compared+%d WHERE id=%d AND conv=%d", phase, d.compared, e.id, c.n))
	if err != nil {
		return err
	}
	if err := sc.finish(); err != nil {
		return err
	}
	if _, err := a.target.exec("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	e.count.converted.Add(uint64(len(d.keys)))
	s := &e.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range d.ids {
		delete(c.dirty, id)
	}
	e.judged(d)
	c.phase = phase
	if phase == convLive {
		e.log.Info("conversion follows the changes", "conversion", c.name())
	}
	s.news()
	return nil
}

// convertAll makes the first pass of each conversion whose tables are copied, and
// compares it once the conversion follows the changes.
func (e *Engine) convertAll(ctx context.Context) error {
	target, err := dial(ctx, e.cfg.Target, writing(e.cfg.To)...)
	if err != nil {
		return err
	}
	defer target.close()
	for {
		s := &e.sched
		s.mu.Lock()
		changed, stopped := s.changed, s.stopped
		var pass, compare *conversion
		left := false
		for _, c := range e.convs {
			copied := !slices.ContainsFunc(c.from, func(t *table) bool { return !t.copy.copied })
			left = left || !c.verified
			switch {
			case c.phase == convWaiting && copied && pass == nil:
				pass = c
			case c.phase == convLive && !c.verified && compare == nil:
				compare = c
			}
		}
		s.mu.Unlock()
		if stopped || !left {
			return nil
		}
		if pass != nil || compare != nil {
			if err := e.rate.wait(ctx); err != nil {
				return err
			}
		}
		switch {
		case pass != nil:
			if err := e.firstPass(ctx, target, pass); err != nil {
				return fmt.Errorf("conversion %q: %w", pass.name(), err)
			}
		case compare != nil:
			if err := e.comparePass(ctx, target, compare); err != nil {
				return fmt.Errorf("conversion %q: %w", compare.name(), err)
			}
		default:
			select {
			case <-changed:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// firstPass makes the next range of objects.
func (e *Engine) firstPass(ctx context.Context, target *conn, c *conversion) error {
	var res convert.Result
	var upto []rows.Cell
	var objects int
	var err error
	for try := range 20 {
		if upto, objects, res, err = e.passRange(ctx, target, c); !passing(err) {
			break
		}
		time.Sleep(time.Duration(try*try) * time.Millisecond)
	}
	if err != nil {
		return err
	}
	e.rate.take(uint64(res.Rows), 0)
	e.count.converted.Add(uint64(res.Objects))
	s := &e.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	if objects == 0 {
		c.phase = convDraining
		s.news()
		return nil
	}
	c.convertedTo = upto
	for _, r := range res.Rejected {
		c.rejected[objectID(r.Key)] = struct{}{}
	}
	return nil
}

func (e *Engine) passRange(ctx context.Context, target *conn, c *conversion) (upto []rows.Cell, objects int, res convert.Result, err error) {
	sc := newScript(target, e.packet, e.mostPacket)
	defer func() {
		if err != nil {
			_, _ = target.exec("ROLLBACK")
		}
	}()
	if err = e.fence(sc); err != nil {
		return nil, 0, res, err
	}
	if err = sc.finish(); err != nil {
		return nil, 0, res, err
	}
	if upto, objects, err = c.p.Next(ctx, target.c, c.convertedTo, e.rate.piece(e.cfg.ChunkRows, 0)); err != nil {
		return nil, 0, res, err
	}
	set := fmt.Sprintf("phase=%d", convDraining)
	if objects > 0 {
		if res, err = c.p.ConvertRange(ctx, target.c, c.convertedTo, upto); err != nil {
			return nil, 0, res, err
		}
		set = fmt.Sprintf("converted_to=%s, objects=objects+%d", blob(encodeBound(upto)), res.Objects)
		for _, r := range res.Rejected {
			id := objectID(r.Key)
			if err = sc.sql(check{want: 1, wrong: stateWrong}, e.objectRow("rejected", ", reason", c, id, r.Key, ","+blob([]byte(r.Reason)))); err != nil {
				return nil, 0, res, err
			}
		}
	}
	if err = sc.sql(check{want: 1, wrong: stateWrong}, fmt.Sprintf("UPDATE imago.conversions SET %s WHERE id=%d AND conv=%d", set, e.id, c.n)); err != nil {
		return nil, 0, res, err
	}
	if err = sc.finish(); err != nil {
		return nil, 0, res, err
	}
	if _, err = target.exec("COMMIT"); err != nil {
		return nil, 0, res, fmt.Errorf("commit: %w", err)
	}
	return upto, objects, res, nil
}

// comparePass compares the next range of objects with their conversion. What seems
// to differ may be changing, so the applier looks at it again when nothing does.
func (e *Engine) comparePass(ctx context.Context, target *conn, c *conversion) error {
	upto, objects, err := c.p.Next(ctx, target.c, c.comparedTo, e.rate.piece(e.cfg.ChunkRows, 0))
	if err != nil {
		return err
	}
	var compared int
	if objects > 0 {
		var suspects [][]rows.Cell
		compared, suspects, err = c.p.CompareRange(ctx, target.c, c.comparedTo, upto)
		if err != nil {
			return err
		}
		if len(suspects) > 0 {
			if err := e.inApplier(ctx, func(a *applier) error { return a.compareAgain(c, suspects) }); err != nil {
				return err
			}
		}
		e.rate.take(uint64(compared), 0)
	}
	set := "verified=1"
	if objects > 0 {
		set = fmt.Sprintf("compared_to=%s, compared=compared+%d", blob(encodeBound(upto)), compared)
	}
	sc := newScript(target, e.packet, e.mostPacket)
	err = e.fence(sc)
	if err == nil {
		err = sc.sql(check{want: 1, wrong: stateWrong}, fmt.Sprintf("UPDATE imago.conversions SET %s WHERE id=%d AND conv=%d", set, e.id, c.n))
	}
	if err == nil {
		err = sc.sql(check{want: anyNumber}, "COMMIT")
	}
	if err == nil {
		err = sc.finish()
	}
	if err != nil {
		_, _ = target.exec("ROLLBACK")
		if passing(err) {
			return nil // the same range again
		}
		return fmt.Errorf("note what is compared: %w", err)
	}
	e.count.converify.Add(uint64(compared))
	s := &e.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	c.compared += uint64(compared)
	if objects > 0 {
		c.comparedTo = upto
	} else {
		c.verified = true
		e.log.Info("conversion verified", "conversion", c.name(), "objects", c.compared)
	}
	s.news()
	return nil
}

// compareAgain compares objects while nothing changes them. Rejected ones differ
// and are counted elsewhere; noted ones will be made and compared.
func (a *applier) compareAgain(c *conversion, keys [][]rows.Cell) error {
	keys = slices.DeleteFunc(slices.Clone(keys), func(k []rows.Cell) bool {
		id := objectID(k)
		return has(a.e, c.dirty, id) || has(a.e, c.rejected, id)
	})
	if len(keys) == 0 {
		return nil
	}
	different, err := c.p.CompareObjects(a.ctx, a.target.c, keys)
	if err != nil {
		return err
	}
	different = slices.DeleteFunc(different, func(k []rows.Cell) bool { return has(a.e, c.rejected, objectID(k)) })
	if len(different) > 0 {
		return c.differ(different)
	}
	return nil
}

// inApplier runs something between two groups.
func (e *Engine) inApplier(ctx context.Context, do func(*applier) error) error {
	r := request{do: do, done: make(chan error, 1)}
	select {
	case e.requests <- r:
	case <-e.sched.ended:
		return e.ended()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-r.done:
		return err
	case <-e.sched.ended:
		return e.ended()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
