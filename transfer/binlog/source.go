package binlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// Source is one production server. Its methods may be called at the same time;
// Stream has a connection of its own.
type Source struct {
	cfg    Config
	flavor string

	mu     sync.Mutex // one question at a time
	conn   *client.Conn
	closed bool
}

// Open connects to the server. It does not check whether the log can be used; Check does.
func Open(ctx context.Context, cfg Config) (*Source, error) {
	cfg.setDefaults()
	s := &Source{cfg: cfg, flavor: cfg.Flavor}
	if err := s.ask(ctx, func(conn *client.Conn) error {
		if s.flavor == "" {
			s.flavor = rows.Flavor(conn.GetServerVersion())
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return s, nil
}

// Flavor is "mariadb" or "mysql".
func (s *Source) Flavor() string { return s.flavor }

// Close ends the connection. A Stream is ended by its context.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

func (s *Source) connect(ctx context.Context) (*client.Conn, error) {
	// The library has no context once it is connected, so a dead server would
	// hold the handshake for ever.
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Silence)
	defer cancel()
	conn, err := connect(ctx, &s.cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to production's database at %s as %q: %w", s.cfg.Address, s.cfg.User, err)
	}
	return conn, nil
}

// ask runs questions on the connection for such, and once more on a new one when
// that was broken.
func (s *Source) ask(ctx context.Context, questions func(*client.Conn) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for again := false; ; again = true {
		if s.closed {
			return errors.New("the source is closed")
		}
		fresh := s.conn == nil
		if fresh {
			conn, err := s.connect(ctx)
			if err != nil {
				return err
			}
			s.conn = conn
		}
		err := limited(ctx, s.conn, s.cfg.Silence, func() error { return questions(s.conn) })
		if err == nil || isServerError(err) {
			return err
		}
		_ = s.conn.Close()
		s.conn = nil
		if again || fresh || ctx.Err() != nil {
			return err
		}
	}
}

// limited runs questions within the time and the context.
func limited(ctx context.Context, conn *client.Conn, limit time.Duration, questions func() error) error {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := questions()
	if !stop() {
		return errors.Join(context.Cause(ctx), err)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	return err
}

// Position is the place of production's last committed transaction.
func (s *Source) Position(ctx context.Context) (rows.Position, error) {
	var p rows.Position
	err := s.ask(ctx, func(conn *client.Conn) (err error) {
		p, err = loggedPosition(conn, s.flavor)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("ask production for its position: %w", err)
	}
	return p, nil
}

// loggedPosition is what a server has written to its log.
func loggedPosition(conn *client.Conn, flavor string) (rows.Position, error) {
	variable := "@@global.gtid_binlog_pos"
	if flavor == "mysql" {
		variable = "REPLACE(@@global.gtid_executed, '\\n', '')"
	}
	v, err := selectOne(conn, "SELECT "+variable)
	return rows.Position{GTID: v}, err
}

// Counters are the next AUTO_INCREMENT values of the tables that have one.
func (s *Source) Counters(ctx context.Context) (map[string]uint64, error) {
	counters := make(map[string]uint64)
	err := s.ask(ctx, func(conn *client.Conn) error {
		clear(counters)
		if s.flavor == "mysql" {
			// MySQL 8 answers from a cache of up to a day otherwise; 5.7 has none.
			_, _ = conn.Execute("SET information_schema_stats_expiry=0")
		}
		return rows.Query(conn, "SELECT TABLE_NAME, AUTO_INCREMENT FROM information_schema.TABLES"+
			" WHERE TABLE_SCHEMA="+rows.Literal(s.cfg.Database)+" AND AUTO_INCREMENT IS NOT NULL",
			func(v [][]byte) error {
				n, err := strconv.ParseUint(string(v[1]), 10, 64)
				if err != nil {
					return fmt.Errorf("counter of table %q: %w", v[0], err)
				}
				counters[string(v[0])] = n
				return nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("ask production for its AUTO_INCREMENT counters: %w", err)
	}
	return counters, nil
}

// OpenTransactions are the transactions that have changed rows and are not yet
// committed, in words. It needs the PROCESS privilege. The server answers from a
// cache that may be 100 ms old when it was asked less than that before.
func (s *Source) OpenTransactions(ctx context.Context) ([]string, error) {
	var open []string
	err := s.ask(ctx, func(conn *client.Conn) error {
		open = nil
		return rows.Query(conn, "SELECT t.trx_mysql_thread_id, IFNULL(p.USER, '?'), IFNULL(p.HOST, '?'), t.trx_started, t.trx_rows_modified"+
			" FROM information_schema.INNODB_TRX t LEFT JOIN information_schema.PROCESSLIST p ON p.ID=t.trx_mysql_thread_id"+
			" WHERE t.trx_rows_modified>0 ORDER BY t.trx_started",
			func(v [][]byte) error {
				open = append(open, fmt.Sprintf("connection %s of %s@%s: %s rows changed since %s", v[0], v[1], v[2], v[4], v[3]))
				return nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("ask production for open transactions: %w", err)
	}
	return open, nil
}
