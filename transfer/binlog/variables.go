package binlog

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// variables are a server's global settings, by name in lower case.
type variables map[string]string

func readVariables(conn *client.Conn) (variables, error) {
	v := make(variables)
	err := rows.Query(conn, "SHOW GLOBAL VARIABLES", func(row [][]byte) error {
		if len(row) != 2 {
			return errors.New("SHOW GLOBAL VARIABLES has an unknown form")
		}
		v[strings.ToLower(string(row[0]))] = string(row[1])
		return nil
	})
	return v, err
}

// on tells whether a switch is on, however the server spells it.
func (v variables) on(name string) bool {
	switch strings.ToUpper(v[name]) {
	case "ON", "1", "YES", "TRUE":
		return true
	}
	return false
}

func readStatus(conn *client.Conn, name string) (string, error) {
	var value string
	err := rows.Query(conn, "SHOW GLOBAL STATUS LIKE "+rows.Literal(name), func(row [][]byte) error {
		value = string(row[len(row)-1])
		return nil
	})
	if err == nil && value == "" {
		err = errors.New("the server has no status " + name)
	}
	return value, err
}

// interrupt lets a context end what waits on a connection, which is of no use
// afterwards.
func interrupt(ctx context.Context, conn *client.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}
