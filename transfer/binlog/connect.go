package binlog

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"imago.dev/imago/transfer/rows"
)

// connect makes a connection with the session of package rows.
func connect(ctx context.Context, cfg *Config) (*client.Conn, error) {
	var raw net.Conn
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := cfg.Dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		raw = c
		if deadline, ok := ctx.Deadline(); ok {
			err = c.SetDeadline(deadline)
		}
		return c, err
	}
	conn, err := client.ConnectWithDialer(ctx, "", cfg.Address, cfg.User, cfg.Password, "", dial)
	if err != nil {
		if raw != nil {
			_ = raw.Close()
		}
		return nil, err
	}
	if err := rows.Begin(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// isServerError tells whether the server itself answered with the error, so that
// the connection can be used further.
func isServerError(err error) bool {
	var answer *mysql.MyError
	return errors.As(err, &answer)
}

// serverError is the number of the server's error, 0 if it is none.
func serverError(err error) uint16 {
	var answer *mysql.MyError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return 0
}

// selectOne is the one value of a query; NULL and no row are "".
func selectOne(conn *client.Conn, query string) (string, error) {
	var value string
	err := rows.Query(conn, query, func(v [][]byte) error {
		if len(v) != 1 {
			return fmt.Errorf("%d columns", len(v))
		}
		value = string(v[0])
		return nil
	})
	return value, err
}
