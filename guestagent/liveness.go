package guestagent

import (
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// heardConn notes that something arrived.
type heardConn struct {
	net.Conn
	heard atomic.Bool
}

func (c *heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(true)
	}
	return n, err
}

// ticksPerStall is how often a silent connection is looked at before it is
// given up.
const ticksPerStall = 10

// watchSilence probes a quiet connection and calls lost after stall without a
// single byte from the guest. It counts ticks, not the clock: a host that was
// itself suspended has not been unanswered. It returns when done is closed.
func watchSilence(conn *heardConn, client ssh.Conn, stall time.Duration, done <-chan struct{}, lost func()) {
	tick := time.NewTicker(stall / ticksPerStall)
	defer tick.Stop()
	probe := make(chan struct{}, 1)
	defer close(probe)
	go func() {
		for range probe {
			// The answer's content does not matter: its arrival is heard. The
			// call ends when the connection does.
			_, _, _ = client.SendRequest("keepalive@openssh.com", true, nil)
		}
	}()
	for silent := 0; ; {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		if conn.heard.Swap(false) {
			silent = 0
			continue
		}
		if silent++; silent >= ticksPerStall {
			lost()
			return
		}
		if silent >= 2 {
			select {
			case probe <- struct{}{}:
			default: // the last one is still unanswered
			}
		}
	}
}
