package rows

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

// SessionSQL are the statements that every connection begins with, whether it
// reads or writes. They make the server send and take bytes as they are stored,
// times in UTC, and refuse whatever it would otherwise cut off or round.
func SessionSQL() []string {
	return []string{
		"SET NAMES binary",
		"SET time_zone='+00:00'",
		// Zero dates and days that no month has pass; nothing is truncated; 0 in
		// an AUTO_INCREMENT column is 0.
		"SET sql_mode='STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'",
		"SET foreign_key_checks=0",
		"SET unique_checks=1",
		// A reader that is slowed down, and a production that limits its
		// statements, must not end a copy half-way.
		"SET net_write_timeout=600, net_read_timeout=600 /*M!, max_statement_time=0 */",
	}
}

// Begin runs SessionSQL on a connection.
func Begin(conn *client.Conn) error {
	for _, statement := range SessionSQL() {
		if _, err := conn.Execute(statement); err != nil {
			return fmt.Errorf("prepare a connection with %q: %w", statement, err)
		}
	}
	return nil
}

// Query runs a SELECT and hands over each row as it arrives: the bytes of the text
// protocol, nil for NULL. They are valid until each returns. When each fails,
// rows are left unread and the connection must be closed.
func Query(conn *client.Conn, query string, each func(values [][]byte) error) error {
	var values [][]byte
	raw := func(r *mysql.Result) error {
		// The library turns numbers into Go's types and loses "0000" and the
		// digits of a DOUBLE on the way; a field it takes for a string stays as it is.
		for _, f := range r.Fields {
			f.Type = mysql.MYSQL_TYPE_VAR_STRING
		}
		return nil
	}
	row := func(row []mysql.FieldValue) error {
		values = values[:0]
		for i := range row {
			if row[i].Type == mysql.FieldValueTypeNull {
				values = append(values, nil)
				continue
			}
			v := row[i].AsString()
			if v == nil {
				v = []byte{}
			}
			values = append(values, v)
		}
		return each(values)
	}
	return conn.ExecuteSelectStreaming(query, &mysql.Result{}, row, raw)
}
