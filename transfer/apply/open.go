package apply

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/gtid"
	"imago.dev/imago/transfer/rows"
)

// Open reads both schemas, names every reason why the data set cannot be
// transferred, and makes the state or goes on with it. The clone is asked only
// as long as something is left to copy or to compare with it.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Engine, error) {
	e := &Engine{cfg: cfg, log: log.With("set", cfg.Set)}
	e.defaults()
	e.sched.init()
	e.requests = make(chan request)
	e.byName = map[rows.Name]*table{}
	if err := e.open(ctx); err != nil {
		e.closeConversions()
		return nil, fmt.Errorf("open data set %q: %w", cfg.Set, err)
	}
	return e, nil
}

func (e *Engine) defaults() {
	e.cfg.Workers = cmp.Or(e.cfg.Workers, max(2, min(8, runtime.NumCPU())))
	e.cfg.ChunkRows = cmp.Or(e.cfg.ChunkRows, 5000)
	e.cfg.BatchRows = cmp.Or(e.cfg.BatchRows, 4000)
	e.shadow = "imago_old_" + e.cfg.To
	e.rate.set(-1, -1)
}

func (e *Engine) open(ctx context.Context) error {
	c := e.cfg
	if c.Set == "" || c.Run == "" || c.From == "" || c.To == "" {
		return fmt.Errorf("%w: a data set needs a name, a run and two databases", ErrRefused)
	}
	if len(e.shadow) > 64 {
		return fmt.Errorf("%w: the name of database %q is too long for that of its copy %q", ErrRefused, c.To, e.shadow)
	}
	target, err := dial(ctx, c.Target, writing(c.To)...)
	if err != nil {
		return err
	}
	defer target.close()
	for _, statement := range stateTables {
		if _, err := target.exec(statement); err != nil {
			return fmt.Errorf("make the state's tables: %w", err)
		}
	}
	if err := e.readLimits(target); err != nil {
		return err
	}
	found, err := e.readSet(target)
	if err != nil {
		return err
	}
	if e.target, err = rows.ReadSchema(ctx, target.c, c.To); err != nil {
		return err
	}
	var clone *conn
	if !found {
		if clone, err = dial(ctx, c.Source); err != nil {
			return err
		}
		defer clone.close()
		if e.source, err = rows.ReadSchema(ctx, clone.c, c.From); err != nil {
			return err
		}
	}
	if err := e.planTables(target, !found); err != nil {
		return err
	}
	if !found {
		if err := e.writeSet(target); err != nil {
			return err
		}
	}
	if e.making {
		if clone == nil {
			if clone, err = dial(ctx, c.Source); err != nil {
				return err
			}
			defer clone.close()
		}
		if err := e.makeShadows(ctx, clone, target); err != nil {
			return err
		}
	}
	if err := e.takeOver(target); err != nil {
		return err
	}
	if err := e.prepareConversions(ctx, target); err != nil {
		if !found {
			// Nothing was copied yet, and all of this was made a moment ago.
			err = errors.Join(err, e.remove(target))
		}
		return err
	}
	return e.readState(ctx, target)
}

func (e *Engine) readLimits(target *conn) error {
	_, err := target.query("SELECT @@max_allowed_packet", func(v [][]byte) error {
		n, err := strconv.Atoi(string(v[0]))
		if err != nil {
			return errProtocol
		}
		// Some statements at once keep the server busy while the next are written.
		e.packet, e.mostPacket = max(16<<10, min(n/4, 1<<20)), n
		return nil
	})
	return err
}

// readSet looks for the state of this data set.
func (e *Engine) readSet(target *conn) (found bool, err error) {
	_, err = target.query("SELECT id, run, description, source_schema, phase, begun, overlap_until FROM imago.sets WHERE name="+blob([]byte(e.cfg.Set)),
		func(v [][]byte) error {
			found = true
			if string(v[1]) != e.cfg.Run {
				return fmt.Errorf("%w: it is of run %q, this is run %q; remove it if that run is given up", ErrOtherRun, v[1], e.cfg.Run)
			}
			if string(v[2]) != e.cfg.description() {
				return fmt.Errorf("%w: the data set %q is described differently now; it was %s", ErrOtherRun, e.cfg.Set, v[2])
			}
			e.id, err = strconv.Atoi(string(v[0]))
			if err != nil {
				return errProtocol
			}
			e.making = string(v[4]) == phaseMaking
			// Where the clone was is the state's to say; the caller may have a newer one.
			e.begun, e.cfg.OverlapUntil.GTID = string(v[5]), string(v[6])
			e.source = new(rows.Schema)
			if err := json.Unmarshal(v[3], e.source); err != nil {
				return fmt.Errorf("read the state's schema: %w", err)
			}
			return nil
		})
	return found, err
}

// writeSet writes the description and where everything begins.
func (e *Engine) writeSet(target *conn) error {
	schema, err := json.Marshal(e.source)
	if err != nil {
		return err
	}
	overlaps, err := e.overlaps()
	if err != nil {
		return err
	}
	statements := []string{
		"BEGIN",
		fmt.Sprintf("INSERT INTO imago.sets (name, run, description, source_schema, phase, begun, overlap_until) VALUES (%s,%s,%s,%s,'%s',%s,%s)",
			blob([]byte(e.cfg.Set)), blob([]byte(e.cfg.Run)), blob([]byte(e.cfg.description())), blob(schema), phaseMaking,
			blob([]byte(e.cfg.Start.GTID)), blob([]byte(e.cfg.OverlapUntil.GTID))),
		"SET @id=LAST_INSERT_ID()",
		"INSERT INTO imago.fences (id, epoch) VALUES (@id, 0)",
		fmt.Sprintf("INSERT INTO imago.positions (id, gtid, log_file, log_at, committed, overlap, transactions, changes, verified) VALUES (@id,%s,%s,%d,0,%d,0,0,0)",
			blob([]byte(e.cfg.Start.GTID)), blob([]byte(e.cfg.Start.File)), e.cfg.Start.At, bit(overlaps)),
	}
	for _, t := range e.tables {
		statements = append(statements, fmt.Sprintf("INSERT INTO imago.tables (id, tbl, name, verified, compared, delta) VALUES (@id,%d,%s,0,0,0)",
			t.id, blob([]byte(t.src.Table))))
	}
	for i := range e.cfg.Conversions {
		statements = append(statements, fmt.Sprintf("INSERT INTO imago.conversions (id, conv, phase, verified, objects, compared) VALUES (@id,%d,%d,0,0,0)", i, convWaiting))
	}
	statements = append(statements, "COMMIT")
	for _, s := range statements {
		if _, err := target.exec(s); err != nil {
			return fmt.Errorf("write the state: %w", err)
		}
	}
	e.making, e.begun = true, e.cfg.Start.GTID
	_, err = target.query("SELECT id FROM imago.sets WHERE name="+blob([]byte(e.cfg.Set)), func(v [][]byte) error {
		e.id, err = strconv.Atoi(string(v[0]))
		return err
	})
	return err
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// overlaps tells whether the clone may be ahead of where the stream begins.
func (e *Engine) overlaps() (bool, error) {
	u := e.cfg.OverlapUntil
	if u.GTID == "" || u.GTID == e.cfg.Start.GTID {
		return false, nil
	}
	reached, err := gtid.Reached(e.cfg.Start, u)
	if err != nil {
		return false, fmt.Errorf("compare where the stream begins with where the clone may be: %w", err)
	}
	return !reached, nil
}

// makeShadows makes the exact copies that conversions read.
func (e *Engine) makeShadows(ctx context.Context, clone, target *conn) error {
	if e.hasShadows() {
		if _, err := target.exec("CREATE DATABASE IF NOT EXISTS " + rows.QuoteName(e.shadow)); err != nil {
			return fmt.Errorf("make the database of copies: %w", err)
		}
	}
	for _, t := range e.tables {
		if !e.isShadow[t.src.Table] {
			continue
		}
		create, err := rows.ReadCreate(ctx, clone.c, t.src.Name)
		if err != nil {
			return err
		}
		name := rows.Name{Database: e.shadow, Table: t.src.Table}
		// Nothing is written before the phase is "ready", so a copy that exists is
		// a begun one, and empty.
		body, ok := strings.CutPrefix(stripCreate(create), "CREATE TABLE "+rows.QuoteName(t.src.Table))
		if !ok {
			return fmt.Errorf("the clone describes table %s in an unknown way: %.60q", t.src.Name, create)
		}
		if _, err := target.exec("CREATE TABLE IF NOT EXISTS " + name.SQL() + body); err != nil {
			return fmt.Errorf("make the copy of table %s: %w", t.src.Name, err)
		}
	}
	if _, err := target.exec(fmt.Sprintf("UPDATE imago.sets SET phase='%s' WHERE id=%d", phaseReady, e.id)); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	e.making = false
	return nil
}

func (e *Engine) hasShadows() bool { return len(e.isShadow) > 0 }

// takeOver fences off whoever wrote before: their transactions end before this
// returns, and none can begin after it.
func (e *Engine) takeOver(target *conn) error {
	var err error
	for range 6 {
		if _, err = target.exec(fmt.Sprintf("UPDATE imago.fences SET epoch=epoch+1 WHERE id=%d", e.id)); !passing(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("wait for the last transactions of an earlier process: %w", err)
	}
	_, err = target.query(fmt.Sprintf("SELECT epoch FROM imago.fences WHERE id=%d", e.id), func(v [][]byte) error {
		e.epoch = string(v[0])
		return nil
	})
	if err == nil && e.epoch == "" {
		err = errors.New("the state has no fence")
	}
	return err
}

// readState reads how far everything is.
func (e *Engine) readState(ctx context.Context, target *conn) error {
	where := fmt.Sprintf(" WHERE id=%d", e.id)
	var committed int64
	_, err := target.query("SELECT gtid, log_file, log_at, overlap, transactions, changes, verified, committed FROM imago.positions"+where, func(v [][]byte) error {
		e.pos.at.GTID, e.pos.at.File = string(v[0]), string(v[1])
		var overlap, transactions, changes, verified uint64
		if err := numbers(v[2:], &e.pos.at.At, &overlap, &transactions, &changes, &verified); err != nil {
			return err
		}
		committed, _ = strconv.ParseInt(string(v[7]), 10, 64)
		e.sched.overlap = overlap == 1
		e.count.transactions.Store(transactions)
		e.count.changes.Store(changes)
		e.count.changesVerified.Store(verified)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the position: %w", err)
	}
	if committed != 0 {
		e.pos.committed = time.Unix(0, committed)
	}
	_, err = target.query("SELECT tbl, name, verified, compared, delta FROM imago.tables"+where, func(v [][]byte) error {
		id, err := strconv.Atoi(string(v[0]))
		if err != nil || id >= len(e.tables) || e.tables[id].src.Table != string(v[1]) {
			return fmt.Errorf("the state's table %s %q is unknown", v[0], v[1])
		}
		s := &e.tables[id].copy
		s.verified, s.compared = string(v[2]) == "1", string(v[3]) == "1"
		if s.verified {
			s.touched = nil
		}
		s.delta, err = strconv.ParseInt(string(v[4]), 10, 64)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the tables' state: %w", err)
	}
	if err := e.readChunks(target, where); err != nil {
		return fmt.Errorf("read what is copied: %w", err)
	}
	_, err = target.query("SELECT t.tbl, t.k FROM imago.touched t JOIN imago.tables s ON s.id=t.id AND s.tbl=t.tbl WHERE s.verified=0 AND t.id="+strconv.Itoa(e.id), func(v [][]byte) error {
		id, err := strconv.Atoi(string(v[0]))
		if err != nil || id >= len(e.tables) {
			return errProtocol
		}
		e.tables[id].copy.touched[string(v[1])] = struct{}{}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the touched keys: %w", err)
	}
	if err := e.readGaps(ctx); err != nil {
		return err
	}
	e.summary()
	if !e.sched.allVerified && e.begun != e.cfg.Start.GTID {
		return fmt.Errorf("%w: the copy was begun from a clone at %q and is not verified; this clone is at %q. Remove the state and empty the new tables to begin anew",
			ErrOtherRun, e.begun, e.cfg.Start.GTID)
	}
	return e.readConversions(target, where)
}

func (e *Engine) readChunks(target *conn, where string) error {
	_, err := target.query("SELECT tbl, n, lo, hi, rows_copied, bytes_copied, verified, compared FROM imago.chunks"+where+" ORDER BY tbl, n", func(v [][]byte) error {
		id, err := strconv.Atoi(string(v[0]))
		if err != nil || id >= len(e.tables) {
			return errProtocol
		}
		ch := &chunk{t: e.tables[id]}
		if ch.n, err = strconv.ParseInt(string(v[1]), 10, 64); err != nil {
			return err
		}
		var bytes, verified, compared uint64
		if err := numbers([][]byte{v[4], v[5], v[6], v[7]}, &ch.rows, &bytes, &verified, &compared); err != nil {
			return err
		}
		if ch.span.lo, err = decodeBound(slices.Clone(v[2])); err != nil {
			return err
		}
		if ch.span.hi, err = decodeBound(slices.Clone(v[3])); err != nil {
			return err
		}
		s := &ch.t.copy
		s.next = max(s.next, ch.n+1)
		s.chunks++
		s.resumed = append(s.resumed, ch.span)
		e.count.rowsCopied.Add(ch.rows)
		e.count.bytesCopied.Add(bytes)
		e.count.rowsVerified.Add(compared)
		if verified == 0 {
			s.unverified = append(s.unverified, ch)
		}
		return nil
	})
	return err
}

// readGaps finds what is left to copy.
func (e *Engine) readGaps(ctx context.Context) error {
	var clone *conn
	defer func() {
		if clone != nil {
			clone.close()
		}
	}()
	ask := func() (_ *conn, err error) {
		if clone == nil {
			clone, err = dial(ctx, e.cfg.Source)
		}
		return clone, err
	}
	for _, t := range e.tables {
		s := &t.copy
		todo, err := gaps(s.resumed, func(a, b []rows.Cell) (int, error) {
			o, err := t.orders(ask, [][]rows.Cell{a}, [][]rows.Cell{b})
			if err != nil {
				return 0, err
			}
			return o[0][0], nil
		})
		if err != nil {
			return fmt.Errorf("find what is left to copy of %s: %w", t.src.Name, err)
		}
		for _, d := range s.resumed {
			s.add(d)
		}
		s.resumed = nil
		s.todo = todo
		s.copied = len(todo) == 0
	}
	return nil
}

// planTables decides what becomes of each table and names all that cannot be.
func (e *Engine) planTables(target *conn, fresh bool) error {
	p := planner{e: e, target: target, fresh: fresh}
	e.isShadow = map[string]bool{}
	p.run()
	if len(p.faults) > 0 {
		return fmt.Errorf("%w:\n%w", ErrRefused, errors.Join(p.faults...))
	}
	return nil
}

// prepareConversions holds the conversions against both schemas.
func (e *Engine) prepareConversions(ctx context.Context, target *conn) error {
	var faults []error
	for i, c := range e.cfg.Conversions {
		p, err := convert.Prepare(ctx, target.c, c, convert.Databases{Old: e.shadow, New: e.cfg.To}, e.source, e.target)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		e.addConversion(i, c, p)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w:\n%w", ErrRefused, errors.Join(faults...))
	}
	return nil
}
