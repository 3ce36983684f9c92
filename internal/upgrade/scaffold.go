package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/transfer/rows"
	"imago.dev/imago/transfer/scaffold"
)

// Scaffold compares production's tables with the new version's and writes the
// plan's part about conversions: what needs none, and a beginning for what does.
// The new version's empty tables must be there, so the plan's steps for it must
// have run.
func (e *Engine) Scaffold(ctx context.Context, w io.Writer) (err error) {
	if len(e.plan.Data) == 0 {
		return refuse(fmt.Errorf("plan %s has no data sets: add data: with source, clone and target first; conversions may be missing", e.plan.Name))
	}
	if e.run.State < journal.Cloned {
		return &outcome{ErrOrder, errors.New("there is no universe to compare with yet: 'imago clone' and the steps that make the new version's empty tables come first")}
	}
	u, err := e.findUniverse(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Close()) }()
	s := e.sessions(u)
	defer s.close()
	for _, set := range e.plan.Data {
		if err := e.scaffoldSet(ctx, s, set, w); err != nil {
			return fmt.Errorf("data set %s: %w", set.Name, err)
		}
	}
	return nil
}

func (e *Engine) scaffoldSet(ctx context.Context, s *sessions, set plan.DataSet, w io.Writer) error {
	login, err := e.sourceLogin(set)
	if err != nil {
		return err
	}
	source, err := productionSchema(ctx, login)
	if err != nil {
		return err
	}
	conn, err := e.connectTarget(ctx, s, set)
	if err != nil {
		return err
	}
	defer conn.Close()
	target, err := rows.ReadSchema(ctx, conn, set.Target.Database)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "# data set %s: %s on %s compared with %s on %s\n", set.Name, set.Source.Database, set.Source.Domain, set.Target.Database, set.Target.VM); err != nil {
		return err
	}
	return scaffold.Compare(source, target, set.Skip).WriteYAML(w)
}

// connectTarget logs in to the new version's server of a data set, over SSH.
func (e *Engine) connectTarget(ctx context.Context, s *sessions, set plan.DataSet) (*client.Conn, error) {
	session, err := s.to(ctx, set.Target.VM)
	if err != nil {
		return nil, err
	}
	conn, err := client.ConnectWithDialer(ctx, "unix", set.Target.Socket, set.Target.User, set.Target.Password, "", session.DialUnix)
	if err != nil {
		return nil, fmt.Errorf("log in to the database in %s as %s: %w", set.Target.VM, set.Target.User, err)
	}
	return conn, nil
}
