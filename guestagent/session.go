package guestagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/semaphore"
)

// maxChannels is how many channels a session uses at once; sshd's own default
// limit (MaxSessions) is 10.
const maxChannels = 9

// fileChannels is how many of them one call with files needs at most: SFTP,
// the agent that applies, the agent that hashes.
const fileChannels = 3

var lastSessionID atomic.Int64

// Session is one SSH connection to one guest. It is safe for concurrent use;
// its calls share the connection, nine channels at a time.
type Session struct {
	target Target
	log    *slog.Logger
	client *ssh.Client
	id     int64
	slots  *semaphore.Weighted

	wg   sync.WaitGroup
	done chan struct{}

	mu    sync.Mutex
	cause error  // why done is closed
	agent string // path of the deployed agent
}

// Connect dials the guest, checks its host key and logs in. ctx bounds only
// that; later calls have their own. Errors: *HostKeyError; ErrLogin; else what
// the network said. The caller must Close the session.
func Connect(ctx context.Context, target Target, log *slog.Logger) (*Session, error) {
	target, err := target.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, target.ConnectLimit)
	defer cancel()
	raw, err := target.Dial(ctx, "tcp", target.Addr)
	if err != nil {
		return nil, fmt.Errorf("connect to guest %q at %s: %w", target.Name, target.Addr, err)
	}
	conn := &heardConn{Conn: raw}
	client, err := handshake(ctx, conn, target)
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("connect to guest %q at %s: %w", target.Name, target.Addr, err)
	}
	return newSession(target, conn, client, log), nil
}

func handshake(ctx context.Context, conn *heardConn, target Target) (*ssh.Client, error) {
	p := &pin{target: target}
	algos, err := p.algorithms()
	if err != nil {
		return nil, err
	}
	// The handshake takes no context: closing the connection ends it.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	c, chans, reqs, err := ssh.NewClientConn(conn, target.Addr, &ssh.ClientConfig{
		User:              target.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(target.Signer)},
		HostKeyCallback:   p.check,
		HostKeyAlgorithms: algos,
		ClientVersion:     "SSH-2.0-imago",
	})
	if !stop() && ctx.Err() != nil {
		if err == nil {
			c.Close()
		}
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, p.explain(err)
	}
	return ssh.NewClient(c, chans, reqs), nil
}

func newSession(target Target, conn *heardConn, client *ssh.Client, log *slog.Logger) *Session {
	s := &Session{
		target: target, client: client, done: make(chan struct{}),
		log:   log.With("vm", target.Name),
		id:    lastSessionID.Add(1),
		slots: semaphore.NewWeighted(maxChannels),
	}
	s.wg.Go(func() {
		err := client.Wait()
		s.end(fmt.Errorf("guest %q: %w: %w", target.Name, ErrConnectionLost, err))
	})
	s.wg.Go(func() {
		watchSilence(conn, client, target.Stall, s.done, func() {
			s.end(fmt.Errorf("guest %q: %w: no sign of life for %s", target.Name, ErrConnectionLost, target.Stall.Round(time.Millisecond)))
		})
	})
	s.log.Debug("connected", "addr", target.Addr, "user", target.User)
	return s
}

// end closes the connection for the first reason given.
func (s *Session) end(cause error) {
	s.mu.Lock()
	first := s.cause == nil
	if first {
		s.cause = cause
		close(s.done)
	}
	s.mu.Unlock()
	if first {
		s.client.Close()
	}
}

// Close ends the connection and every pending call, and waits for what the
// session started.
func (s *Session) Close() error {
	s.end(fmt.Errorf("guest %q: %w", s.target.Name, ErrClosed))
	s.wg.Wait()
	return nil
}

// Name returns the guest's name.
func (s *Session) Name() string { return s.target.Name }

// Done is closed when the connection has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns nil while the connection stands, else an error wrapping
// ErrConnectionLost or ErrClosed.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// why gives the reason that counts for an error of a call: the caller's own
// cancellation, the lost connection, or else the error itself.
func (s *Session) why(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if brokenOff(err) {
		select {
		case <-s.done:
		case <-ctx.Done():
		case <-time.After(settle):
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if lost := s.Err(); lost != nil {
		return lost
	}
	return err
}

// settle gives a connection that has just broken the time to say so: its
// channels may notice first.
const settle = 500 * time.Millisecond

// brokenOff says whether err is how a channel notices a broken connection.
func brokenOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// spawn starts a goroutine that Close waits for; it does nothing and returns
// false once the session has ended.
func (s *Session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return false
	}
	s.wg.Go(f)
	return true
}

// await runs f, which cannot be cancelled itself, and leaves it behind when ctx
// or the connection ends first. f's goroutine belongs to the session and ends
// with the connection at the latest; abandon, which may be nil, hurries it.
func (s *Session) await(ctx context.Context, abandon func(), f func() error) error {
	result := make(chan error, 1)
	if !s.spawn(func() { result <- f() }) {
		return s.why(ctx, ErrConnectionLost)
	}
	select {
	case err := <-result:
		return s.why(ctx, err)
	case <-ctx.Done():
	case <-s.done:
	}
	if abandon != nil {
		s.spawn(abandon) // with the session gone there is nothing to hurry
	}
	return s.why(ctx, ErrConnectionLost)
}
