package guestagent

import (
	"context"
	"fmt"
	"net"
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
	return conn, nil
}
