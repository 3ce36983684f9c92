package guestagent

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// DialUnix connects to a unix socket in the guest, through the SSH connection; at
// the other end it is the login that connects. It takes none of the channels that
// calls share: keep such connections few and short. network must be "unix"; it is
// there so that the method fits dialers of field libraries.
func (s *Session) DialUnix(ctx context.Context, network, path string) (net.Conn, error) {
	if network != "unix" {
		return nil, fmt.Errorf("dial %s %s in guest %q: only unix sockets are reached", network, path, s.target.Name)
	}
	var conn net.Conn
	err := s.await(ctx, nil, func() (err error) {
		conn, err = s.client.Dial("unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect to %s in guest %q: %w", path, s.target.Name, err)
	}
	return &channelConn{Conn: conn}, nil
}

// channelConn gives a channel of an SSH connection the deadlines that it lacks: a
// deadline that passes closes it, which ends reads and writes as well.
type channelConn struct {
	net.Conn
	mu    sync.Mutex
	timer *time.Timer
}

// SetDeadline closes the connection at t; the zero time takes that back.
func (c *channelConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if !t.IsZero() {
		c.timer = time.AfterFunc(time.Until(t), func() { _ = c.Conn.Close() })
	}
	return nil
}

// SetReadDeadline is SetDeadline: there is one for both directions.
func (c *channelConn) SetReadDeadline(t time.Time) error { return c.SetDeadline(t) }

// SetWriteDeadline is SetDeadline: there is one for both directions.
func (c *channelConn) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

// Close closes the connection and forgets the deadline.
func (c *channelConn) Close() error {
	_ = c.SetDeadline(time.Time{})
	return c.Conn.Close()
}
