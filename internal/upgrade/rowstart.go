package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
	"imago.dev/imago/transfer/binlog"
	"imago.dev/imago/transfer/rows"
)

// sourceLogin is how production's server of a data set is reached.
func (e *Engine) sourceLogin(set plan.DataSet) (binlog.Config, error) {
	password := set.Source.Password
	if set.Source.PasswordFile != "" {
		raw, err := os.ReadFile(set.Source.PasswordFile)
		if err != nil {
			return binlog.Config{}, fmt.Errorf("read the password of data set %s: %w", set.Name, err)
		}
		password = strings.TrimRight(string(raw), "\r\n")
	}
	return binlog.Config{
		Flavor: string(set.Source.Flavor), Dial: hostDial, Address: set.Source.Address.String(),
		User: set.Source.User, Password: password, Database: set.Source.Database, Skip: set.Skip, Log: e.log,
	}, nil
}

// checkData looks at production's database servers and their tables.
func (e *Engine) checkData(ctx context.Context, note func(string, error)) {
	for _, set := range e.plan.Data {
		note("data set "+set.Name, e.checkSet(ctx, set))
	}
}

func (e *Engine) checkSet(ctx context.Context, set plan.DataSet) error {
	login, err := e.sourceLogin(set)
	if err != nil {
		return err
	}
	report, err := binlog.Check(ctx, login)
	if err != nil {
		return err
	}
	if !report.Durable {
		e.see.warning(fmt.Sprintf("data set %s: the server may lose its last transactions at a crash (innodb_flush_log_at_trx_commit or sync_binlog is not 1), so a clone may, too; imago reads the log from before the clone and takes care", set.Name))
	}
	schema, err := productionSchema(ctx, login)
	if err != nil {
		return err
	}
	return checkTables(schema, set)
}

// checkTables looks whether the plan's data set fits the tables that there are.
func checkTables(schema *rows.Schema, set plan.DataSet) error {
	var errs []error
	for _, t := range schema.Tables {
		switch {
		case slices.Contains(set.Skip, t.Table):
		case t.Unfit != "":
			errs = append(errs, fmt.Errorf("table %s cannot be transferred (%s): change it, or name it under skip", t.Name, t.Unfit))
		case len(t.Key) == 0:
			errs = append(errs, fmt.Errorf("table %s has no primary or unique key without NULLs, so its rows cannot be told apart: give it one, or name it under skip", t.Name))
		}
	}
	find := func(table string) *rows.Table {
		return schema.Table(rows.Name{Database: set.Source.Database, Table: table})
	}
	for _, s := range set.Skip {
		if find(s) == nil {
			errs = append(errs, fmt.Errorf("skip names table %s, which %s does not have", s, set.Source.Database))
		}
	}
	for _, c := range set.Conversions {
		for _, f := range c.From {
			t := find(f.Table)
			if t == nil {
				errs = append(errs, fmt.Errorf("conversion %s reads table %s, which %s does not have", c.Name, f.Table, set.Source.Database))
				continue
			}
			for _, k := range f.Key {
				if t.Column(k) < 0 {
					errs = append(errs, fmt.Errorf("conversion %s names column %s, which table %s does not have", c.Name, k, t.Name))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func evidenceRowStart(set string) string  { return "rows-start/" + set }
func evidenceRowBefore(set string) string { return "rows-before/" + set }

// notedPosition is where production's log stood before the view.
type notedPosition struct {
	At      rows.Position `json:"at"`
	Durable bool          `json:"durable"` // each commit was on production's disk
}

// notePositions writes down where production's logs stand before a view is
// taken: a server that is not durable may have lost its last transactions in the
// clone, but none from before. Then the view must be later by as long as such a
// server keeps a transaction from its disk.
func (e *Engine) notePositions(ctx context.Context) error {
	var wait time.Duration
	for _, set := range e.plan.Data {
		noted, keeps, err := e.productionPosition(ctx, set)
		if err != nil {
			return fmt.Errorf("data set %s: %w", set.Name, err)
		}
		if !noted.Durable {
			wait = max(wait, keeps)
		}
		if err := e.j.Put(ctx, e.run.ID, evidenceRowBefore(set.Name), noted); err != nil {
			return err
		}
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *Engine) productionPosition(ctx context.Context, set plan.DataSet) (noted notedPosition, keeps time.Duration, err error) {
	login, err := e.sourceLogin(set)
	if err != nil {
		return noted, 0, err
	}
	conn, err := connectSource(ctx, login, hostDial)
	if err != nil {
		return noted, 0, err
	}
	defer conn.Close()
	noted.At, noted.Durable, keeps, err = binlog.LoggedPosition(ctx, conn)
	return noted, keeps, err
}

// connectSource logs in to production's server, or with a universe's dialer to
// its clone.
func connectSource(ctx context.Context, login binlog.Config, dial client.Dialer) (*client.Conn, error) {
	conn, err := client.ConnectWithDialer(ctx, "tcp", login.Address, login.User, login.Password, "", dial)
	if err != nil {
		return nil, fmt.Errorf("log in to the database at %s as %s: %w", login.Address, login.User, err)
	}
	return conn, nil
}

// productionSchema reads what production's tables are like now.
func productionSchema(ctx context.Context, login binlog.Config) (*rows.Schema, error) {
	conn, err := connectSource(ctx, login, hostDial)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return rows.ReadSchema(ctx, conn, login.Database)
}

// RowStart says from where the log of a data set is read.
type RowStart struct {
	Start        rows.Position `json:"start"`
	OverlapUntil rows.Position `json:"overlap_until"` // up to here the clone may have the changes already
	Durable      bool          `json:"durable"`
}

// rowStart finds out once for each run, from the clone's own crash recovery,
// what the clone's rows are the state of.
func (e *Engine) rowStart(ctx context.Context, u *netswitch.Universe, set plan.DataSet, source *binlog.Source) (RowStart, error) {
	var st RowStart
	had, err := e.get(ctx, evidenceRowStart(set.Name), &st)
	if had || err != nil {
		return st, err
	}
	st.Start, st.Durable, err = e.clonePosition(ctx, u, set)
	if err != nil {
		return st, err
	}
	st.OverlapUntil = st.Start
	var noted notedPosition
	if err := e.j.Get(ctx, e.run.ID, evidenceRowBefore(set.Name), &noted); err != nil {
		return st, err
	}
	// Production may run with other settings than its clone, which has those of the
	// files.
	if st.Durable = st.Durable && noted.Durable; !st.Durable {
		st.Start = noted.At
		if st.OverlapUntil, err = source.Position(ctx); err != nil {
			return st, err
		}
	}
	return st, e.j.Put(ctx, e.run.ID, evidenceRowStart(set.Name), st)
}

// clonePosition asks the clone of a data set's server what it recovered.
func (e *Engine) clonePosition(ctx context.Context, u *netswitch.Universe, set plan.DataSet) (at rows.Position, durable bool, err error) {
	login, err := e.sourceLogin(set)
	if err != nil {
		return at, false, err
	}
	conn, err := connectSource(ctx, login, u.Dial)
	if err != nil {
		return at, false, fmt.Errorf("ask the clone %s for its position: %w", set.Clone, err)
	}
	defer conn.Close()
	at, durable, err = binlog.RecoveredPosition(ctx, conn)
	if err != nil {
		return at, false, fmt.Errorf("ask the clone %s for its position: %w", set.Clone, err)
	}
	return at, durable, nil
}
