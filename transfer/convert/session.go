package convert

import (
	"context"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"imago.dev/imago/transfer/rows"
)

// session runs statements on a connection for as long as a context lasts. When
// it ends, the connection is cut: there is no other way to stop a statement from
// this side of it.
type session struct {
	ctx  context.Context
	conn *client.Conn
	stop func() bool
}

// begin prepares a connection for the plan's own SQL: its literals are text in
// utf8mb4, not bytes, and no text is cut by GROUP_CONCAT.
func begin(ctx context.Context, conn *client.Conn, database string) (*session, error) {
	s := &session{ctx: ctx, conn: conn}
	s.stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	// The server resolves some names of derived tables only where there is a
	// database in use; which one does not matter.
	if err := conn.UseDB(database); err != nil {
		s.end()
		return nil, cause(ctx, blame(err))
	}
	if _, err := s.exec("SET character_set_connection=utf8mb4, group_concat_max_len=1073741824"); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (s *session) end() { s.stop() }

func (s *session) exec(sql string) (*mysql.Result, error) {
	r, err := s.conn.Execute(sql)
	if err != nil {
		return nil, cause(s.ctx, blame(err))
	}
	return r, nil
}

// query hands over rows in the text protocol; nil is NULL. They are valid until
// each returns.
func (s *session) query(sql string, each func([][]byte) error) error {
	return cause(s.ctx, blame(rows.Query(s.conn, sql, each)))
}

// number is the single number that a query gives.
func (s *session) number(sql string) (int, error) {
	n := 0
	err := s.query(sql, func(v [][]byte) error {
		_, err := fmt.Sscan(string(v[0]), &n)
		return err
	})
	return n, err
}
