package upgrade

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/transfer"
	"imago.dev/imago/transfer/binlog"
	"imago.dev/imago/transfer/rows"
)

func evidenceTargetAt(set string) string { return "target-at-switch/" + set }

// targetLog is the new version's own row log of a data set: it tells what clients
// wrote after the switch.
type targetLog struct {
	set    plan.DataSet
	source *binlog.Source
}

// openTargetLog opens the log; nil is returned, and a warning given, when the new
// server keeps none.
func (e *Engine) openTargetLog(ctx context.Context, s *sessions, set plan.DataSet) (*targetLog, error) {
	session, err := s.to(ctx, set.Target.VM)
	if err != nil {
		return nil, err
	}
	source, err := binlog.Open(ctx, binlog.Config{
		Dial: session.DialUnix, Address: set.Target.Socket, User: set.Target.User, Password: set.Target.Password,
		Database: set.Target.Database, Log: e.log,
	})
	if err != nil {
		return nil, fmt.Errorf("open the row log of %s: %w", set.Target.VM, err)
	}
	return &targetLog{set, source}, nil
}

// openTargetLogs opens the logs of all data sets. One that cannot be opened is
// told: the switch does not depend on it, the rollback's knowledge does.
func (e *Engine) openTargetLogs(ctx context.Context, s *sessions) (logs []*targetLog, closeAll func() error) {
	for _, set := range e.plan.Data {
		l, err := e.openTargetLog(ctx, s, set)
		if err != nil {
			e.see.warning(fmt.Sprintf("data set %s: a rollback after the switch will not know which rows it loses (%v); give the new server a row log (log_bin, binlog_format=ROW)", set.Name, err))
			continue
		}
		logs = append(logs, l)
	}
	return logs, func() error {
		var errs []error
		for _, l := range logs {
			errs = append(errs, l.source.Close())
		}
		return errors.Join(errs...)
	}
}

// noteTargets writes down where the new version's logs stand.
func (e *Engine) noteTargets(ctx context.Context, logs []*targetLog) error {
	for _, l := range logs {
		at, err := l.source.Position(ctx)
		if err != nil {
			return fmt.Errorf("data set %s: ask the new server for its log's position: %w", l.set.Name, err)
		}
		if err := e.j.Put(ctx, e.run.ID, evidenceTargetAt(l.set.Name), at); err != nil {
			return err
		}
	}
	return nil
}

// lostSamples is how many keys of each table a loss names.
const lostSamples = 20

// lostRows counts what clients wrote to the new version since the switch.
func (e *Engine) lostRows(ctx context.Context, s *sessions) ([]LostData, error) {
	var out []LostData
	for _, set := range e.plan.Data {
		lost, err := e.lostRowsOf(ctx, s, set)
		if err != nil {
			return nil, fmt.Errorf("data set %s: %w", set.Name, err)
		}
		out = append(out, lost...)
	}
	return out, nil
}

var errEnough = errors.New("read to the end")

func (e *Engine) lostRowsOf(ctx context.Context, s *sessions, set plan.DataSet) ([]LostData, error) {
	var from rows.Position
	had, err := e.get(ctx, evidenceTargetAt(set.Name), &from)
	if err != nil {
		return nil, err
	}
	if !had {
		return nil, errors.New("where the new server's log stood at the switch is not known")
	}
	log, err := e.openTargetLog(ctx, s, set)
	if err != nil {
		return nil, err
	}
	defer log.source.Close()
	until, err := log.source.Position(ctx)
	if err != nil {
		return nil, err
	}
	if there, err := binlog.Reached(from, until); there || err != nil {
		return nil, err
	}
	conn, err := e.connectTarget(ctx, s, set)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	schema, err := rows.ReadSchema(ctx, conn, set.Target.Database)
	if err != nil {
		return nil, err
	}
	count := lostCount{schema: schema, tables: map[rows.Name]*transfer.Diff{}}
	err = log.source.Stream(ctx, from, schema, func(t *rows.Txn) error {
		for i := range t.Changes {
			count.add(&t.Changes[i])
		}
		if there, err := binlog.Reached(t.Position, until); err != nil || there {
			return errors.Join(err, errEnough)
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("read the new server's log: %w", err)
	}
	return count.list(set.Name), nil
}

// lostCount counts changes by table.
type lostCount struct {
	schema *rows.Schema
	tables map[rows.Name]*transfer.Diff
	order  []rows.Name
}

func (c *lostCount) add(ch *rows.Change) {
	d := c.tables[ch.Table]
	if d == nil {
		d = new(transfer.Diff)
		c.tables[ch.Table] = d
		c.order = append(c.order, ch.Table)
	}
	f, row := &d.Changed, ch.After
	switch ch.Op {
	case rows.Insert:
		f = &d.Added
	case rows.Delete:
		f, row = &d.Removed, ch.Before
	}
	f.Count++
	if len(f.Sample) < lostSamples {
		f.Sample = append(f.Sample, c.key(ch.Table, row))
	}
}

// key names a row for a person.
func (c *lostCount) key(name rows.Name, row rows.Row) string {
	t := c.schema.Table(name)
	if t == nil {
		return "?"
	}
	var parts []string
	for _, cell := range t.KeyOf(row) {
		parts = append(parts, guestagent.Clean(string(cell)))
	}
	return strings.Join(parts, ",")
}

func (c *lostCount) list(set string) []LostData {
	var out []LostData
	for _, name := range c.order {
		out = append(out, LostData{Name: set + ": rows of " + name.Table, Diff: *c.tables[name]})
	}
	return out
}

// lostFiles lists what was changed in the new version's folders since the switch,
// by the time that the file system notes at each change; a folder is listed when
// something in it was made or removed.
func (e *Engine) lostFiles(ctx context.Context, s *sessions, since time.Time) ([]LostData, error) {
	var out []LostData
	for _, f := range e.plan.Files {
		session, err := s.to(ctx, f.To.VM)
		if err != nil {
			return nil, err
		}
		lost := LostData{Name: "files " + f.Name}
		script := fmt.Sprintf("find %s -newerct @%d.%09d -printf '%%P\\n'", quoteShell(f.To.Path), since.Unix(), since.Nanosecond())
		_, err = session.Lines(ctx, guestagent.Step{Name: "list changed files", Script: script, Timeout: 10 * time.Minute}, func(line []byte) error {
			lost.Changed.Count++
			if len(lost.Changed.Sample) < lostSamples {
				lost.Changed.Sample = append(lost.Changed.Sample, guestagent.Clean(string(line)))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("files %s: %w", f.Name, err)
		}
		if lost.Changed.Count > 0 {
			out = append(out, lost)
		}
	}
	return out, nil
}

func quoteShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
