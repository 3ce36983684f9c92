package guestagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// Limits that hold where a Target does not say otherwise.
const (
	defaultStall   = 8500 * time.Millisecond
	defaultLease   = 30 * time.Second
	defaultConnect = 60 * time.Second
)

// Target says how to reach one guest.
type Target struct {
	// Name is the guest's name in messages.
	Name string
	// Addr is "ip:port" as seen by Dial.
	Addr string
	User string
	// Signer proves who we are; there are no passwords.
	Signer ssh.Signer
	// HostKeys are the only keys the guest may have, and only their algorithms
	// are offered to it. With none, Connect fails with a HostKeyError that
	// names the key the guest showed.
	HostKeys []ssh.PublicKey
	// Dial opens the connection, for instance from inside a network namespace.
	// Nil means a plain dial from this process.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Stall is how long the guest may send nothing at all, not even an answer
	// to our probes, before the connection is given up. Zero means 8.5 s.
	// Detection may take a tenth longer.
	Stall time.Duration
	// Lease is how long a step runs on in the guest when it hears nothing from
	// us any more. Zero means 30 s.
	Lease time.Duration
	// ConnectLimit bounds dial and handshake. Zero means 60 s; slow emulation
	// needs several seconds for the key exchange alone.
	ConnectLimit time.Duration
}

func (t Target) withDefaults() (Target, error) {
	if t.Signer == nil {
		return t, fmt.Errorf("connect to guest %q: no key to log in with", t.Name)
	}
	if t.User == "" || t.Addr == "" {
		return t, fmt.Errorf("connect to guest %q: address and user must be given", t.Name)
	}
	if t.Dial == nil {
		t.Dial = (&net.Dialer{}).DialContext
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&t.Stall, defaultStall}, {&t.Lease, defaultLease}, {&t.ConnectLimit, defaultConnect}} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	return t, nil
}

// Errors a caller may want to tell apart.
var (
	// ErrConnectionLost ends every pending and later call of a Session whose
	// connection broke or went silent.
	ErrConnectionLost = errors.New("connection to the guest lost")
	// ErrClosed ends every call of a Session after Close.
	ErrClosed = errors.New("session closed")
	// ErrNoAgent is returned by calls that need the agent before Deploy.
	ErrNoAgent = errors.New("the agent is not deployed in this guest")
	// ErrLogin is wrapped when the guest refuses the user or the key.
	ErrLogin = errors.New("the guest refused the login")
)
