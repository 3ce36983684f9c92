package apply

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"imago.dev/imago/transfer/rows"
)

// conn is a connection to a server. It speaks the query part of the protocol by
// itself, so that statements of megabytes are sent from the buffer they were
// written in and rows are read where they arrived; c serves those who want the
// library's. Only one of both may be in the middle of something.
type conn struct {
	c      *client.Conn
	raw    net.Conn
	buf    []byte // what arrived; [from:to] is unread
	from   int
	to     int
	seq    byte
	values [][]byte
	stop   func() bool
}

// errProtocol means that the server said what it must not.
var errProtocol = errors.New("the server's answer cannot be understood")

// dial connects and prepares the session. The connection ends with ctx.
func dial(ctx context.Context, s Server, more ...string) (*conn, error) {
	dialer := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: 10 * time.Second}
		return d.DialContext(ctx, s.Network, s.Address)
	}
	capabilities := func(c *client.Conn) error {
		// An UPDATE tells how many rows it found, not how many it had to change.
		c.SetCapability(mysql.CLIENT_MULTI_STATEMENTS | mysql.CLIENT_FOUND_ROWS)
		c.UnsetCapability(mysql.CLIENT_QUERY_ATTRIBUTES)
		return nil
	}
	c, err := client.ConnectWithDialer(ctx, s.Network, s.Address, s.User, s.Password, "", dialer, capabilities)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("connect to the database server at %s: %w", s.Address, err)
	}
	cn := &conn{c: c, raw: c.Conn.Conn, buf: make([]byte, 64<<10)}
	cn.stop = context.AfterFunc(ctx, func() { _ = cn.raw.Close() })
	for _, statement := range append(rows.SessionSQL(), more...) {
		if _, err := cn.exec(statement); err != nil {
			cn.close()
			return nil, fmt.Errorf("prepare a connection with %q: %w", statement, err)
		}
	}
	return cn, nil
}

func (c *conn) close() {
	c.stop()
	_ = c.raw.Close()
}

// writing are the statements that a connection which changes the target begins
// with; database is the one that conversions find themselves in.
func writing(database string) []string {
	return []string{
		"USE " + rows.QuoteName(database),
		// No gaps are locked, so the copy and the stream meet only in rows.
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
		"SET SESSION innodb_lock_wait_timeout=20",
		"SET autocommit=1",
		// A long list of keys stays a range of the index.
		"SET SESSION /*M! in_predicate_conversion_threshold=0, */ eq_range_index_dive_limit=10",
	}
}

// header is the room in front of a packet's statement.
const header = 5

// packet begins a statement in dst, whose memory is used again.
func packet(dst []byte) []byte { return append(dst[:0], 0, 0, 0, 0, mysql.COM_QUERY) }

// send sends a packet. Its results must be read one by one with result.
func (c *conn) send(p []byte) error {
	const most = mysql.MaxPayloadLen
	c.seq = 0
	rest := p[4:]
	for {
		n := min(len(rest), most)
		if n < len(rest) || n == most {
			// A long statement goes in pieces, each with a header of its own.
			head := [4]byte{byte(n), byte(n >> 8), byte(n >> 16), c.seq}
			if _, err := c.raw.Write(head[:]); err != nil {
				return fmt.Errorf("send a statement: %w", err)
			}
			if _, err := c.raw.Write(rest[:n]); err != nil {
				return fmt.Errorf("send a statement: %w", err)
			}
			c.seq++
			rest = rest[n:]
			continue
		}
		var err error
		if c.seq == 0 {
			p[0], p[1], p[2], p[3] = byte(n), byte(n>>8), byte(n>>16), 0
			_, err = c.raw.Write(p)
		} else {
			head := [4]byte{byte(n), byte(n >> 8), byte(n >> 16), c.seq}
			_, err = c.raw.Write(append(head[:], rest...))
		}
		c.seq++
		if err != nil {
			return fmt.Errorf("send a statement: %w", err)
		}
		return nil
	}
}

// read returns the next packet's payload, valid until the next call.
func (c *conn) read() ([]byte, error) {
	n, err := c.head()
	if err != nil {
		return nil, err
	}
	if n < mysql.MaxPayloadLen {
		if err := c.fill(n); err != nil {
			return nil, err
		}
		p := c.buf[c.from : c.from+n]
		c.from += n
		return p, nil
	}
	var long []byte
	for {
		if err := c.fill(n); err != nil {
			return nil, err
		}
		long = append(long, c.buf[c.from:c.from+n]...)
		c.from += n
		if n < mysql.MaxPayloadLen {
			return long, nil
		}
		if n, err = c.head(); err != nil {
			return nil, err
		}
	}
}

func (c *conn) head() (int, error) {
	if err := c.fill(4); err != nil {
		return 0, err
	}
	h := c.buf[c.from:]
	n := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
	c.from += 4
	return n, nil
}

// fill makes n bytes available at from.
func (c *conn) fill(n int) error {
	if c.to-c.from >= n {
		return nil
	}
	if c.from > 0 {
		c.to = copy(c.buf, c.buf[c.from:c.to])
		c.from = 0
	}
	if n > len(c.buf) {
		c.buf = append(c.buf, make([]byte, max(n, 2*len(c.buf))-len(c.buf))...)
	}
	for c.to < n {
		m, err := c.raw.Read(c.buf[c.to:])
		c.to += m
		if err != nil && c.to < n {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read the server's answer: %w", err)
		}
	}
	return nil
}

// result reads one statement's answer. each gets the rows, if there are any; the
// values are valid until it returns, nil is NULL. An error of each is returned
// after the rest was read.
func (c *conn) result(each func(values [][]byte) error) (affected uint64, more bool, err error) {
	p, err := c.read()
	if err != nil {
		return 0, false, err
	}
	switch {
	case len(p) == 0:
		return 0, false, errProtocol
	case p[0] == mysql.OK_HEADER:
		affected, n, ok := lenenc(p[1:])
		if !ok {
			return 0, false, errProtocol
		}
		p = p[1+n:]
		_, n, ok = lenenc(p)
		if !ok || len(p) < n+2 {
			return 0, false, errProtocol
		}
		status := binary.LittleEndian.Uint16(p[n:])
		return affected, status&mysql.SERVER_MORE_RESULTS_EXISTS != 0, nil
	case p[0] == mysql.ERR_HEADER:
		return 0, false, serverError(p)
	case p[0] == mysql.LocalInFile_HEADER:
		return 0, false, errProtocol
	}
	return c.rows(p, each)
}

// rows reads a result set that begins with p.
func (c *conn) rows(p []byte, each func([][]byte) error) (found uint64, more bool, err error) {
	columns, _, ok := lenenc(p)
	if !ok || columns == 0 || columns > 1<<16 {
		return 0, false, errProtocol
	}
	for range columns + 1 { // the columns' descriptions and the mark behind them
		if _, err := c.read(); err != nil {
			return 0, false, err
		}
	}
	var failed error
	for {
		p, err := c.read()
		if err != nil {
			return 0, false, err
		}
		switch {
		case len(p) == 0:
			return 0, false, errProtocol
		case p[0] == mysql.EOF_HEADER && len(p) < 9:
			if len(p) < 5 {
				return 0, false, errProtocol
			}
			return found, binary.LittleEndian.Uint16(p[3:])&mysql.SERVER_MORE_RESULTS_EXISTS != 0, failed
		case p[0] == mysql.ERR_HEADER:
			return 0, false, serverError(p)
		}
		found++
		if failed != nil || each == nil {
			continue
		}
		c.values = c.values[:0]
		for range columns {
			if len(p) > 0 && p[0] == 0xfb {
				c.values, p = append(c.values, nil), p[1:]
				continue
			}
			n, size, ok := lenenc(p)
			if !ok || n > uint64(len(p)-size) {
				return 0, false, errProtocol
			}
			c.values = append(c.values, p[size:size+int(n):size+int(n)])
			p = p[size+int(n):]
		}
		failed = each(c.values)
	}
}

// lenenc reads a length-encoded number.
func lenenc(p []byte) (v uint64, size int, ok bool) {
	if len(p) == 0 {
		return 0, 0, false
	}
	switch p[0] {
	case 0xfc:
		size = 3
	case 0xfd:
		size = 4
	case 0xfe:
		size = 9
	case 0xfb, 0xff:
		return 0, 0, false
	default:
		return uint64(p[0]), 1, true
	}
	if len(p) < size {
		return 0, 0, false
	}
	for i := size - 1; i > 0; i-- {
		v = v<<8 | uint64(p[i])
	}
	return v, size, true
}

func serverError(p []byte) error {
	e := &mysql.MyError{State: "HY000"}
	if len(p) < 3 {
		return errProtocol
	}
	e.Code = binary.LittleEndian.Uint16(p[1:])
	p = p[3:]
	if len(p) >= 6 && p[0] == '#' {
		e.State, p = string(p[1:6]), p[6:]
	}
	e.Message = strings.ToValidUTF8(string(p), "?")
	return e
}

// exec runs one statement and returns the number of rows that it affected.
func (c *conn) exec(sql string) (uint64, error) { return c.query(sql, nil) }

// query runs one statement and hands over its rows.
func (c *conn) query(sql string, each func(values [][]byte) error) (uint64, error) {
	if err := c.send(append(packet(nil), sql...)); err != nil {
		return 0, err
	}
	n, more, err := c.result(each)
	if err == nil && more {
		err = errProtocol
	}
	return n, err
}

// code is a server's error number, 0 if err is none.
func code(err error) uint16 {
	if e := (*mysql.MyError)(nil); errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// passing tells errors after which the same transaction may succeed: a deadlock
// or a lock that was not to be had.
func passing(err error) bool {
	switch code(err) {
	case mysql.ER_LOCK_DEADLOCK, mysql.ER_LOCK_WAIT_TIMEOUT:
		return true
	}
	return false
}
