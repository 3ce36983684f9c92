package guestagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"imago.dev/imago/guestagent/wire"
)

// AgentError is what the agent answered instead of a result.
type AgentError struct {
	Guest string
	Code  string // one of wire's codes
	Text  string // cleaned
}

func (e *AgentError) Error() string { return fmt.Sprintf("guest %q: %s", e.Guest, e.Text) }

// Is makes errors.Is work with fs.ErrNotExist and fs.ErrPermission.
func (e *AgentError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Code == wire.CodeNotExist
	case fs.ErrPermission:
		return e.Code == wire.CodePermission
	}
	return false
}

// ErrNotAgent is wrapped when what answers in the guest is not the agent.
var ErrNotAgent = errors.New("the agent does not answer as it should")

// call is one process of the agent and the channel to it.
type call struct {
	s      *Session
	ch     *ssh.Session
	out    *wire.Writer
	frames chan wire.Frame // payloads belong to the receiver
	stderr *headBuffer

	closing   chan struct{}
	closeOnce sync.Once
	readErr   error // why frames was closed
}

// headBuffer keeps the first bytes of what the agent's process itself says.
type headBuffer struct {
	mu sync.Mutex
	b  []byte
}

const headSize = 2048

func (h *headBuffer) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b = append(h.b, p[:min(len(p), headSize-len(h.b))]...)
	return len(p), nil
}

func (h *headBuffer) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Clean(string(bytes.TrimSpace(h.b)))
}

// call starts the agent and sends it req. The caller closes the call, and holds
// a reserved channel as long as it is open.
func (s *Session) call(ctx context.Context, req wire.Request) (*call, error) {
	path := s.agentPath()
	if path == "" {
		return nil, fmt.Errorf("guest %q: %w", s.target.Name, ErrNoAgent)
	}
	req.Version = wire.Version
	req.LeaseMS = s.target.Lease.Milliseconds()
	c := &call{s: s, frames: make(chan wire.Frame), closing: make(chan struct{}), stderr: new(headBuffer)}
	var stdout io.Reader
	ch, err := s.open(ctx, func(ch *ssh.Session) error {
		stdin, err := ch.StdinPipe()
		if err != nil {
			return err
		}
		if stdout, err = ch.StdoutPipe(); err != nil {
			return err
		}
		ch.Stderr = c.stderr
		if err := ch.Start(path + " call"); err != nil {
			return fmt.Errorf("start the agent in guest %q: %w", s.target.Name, err)
		}
		c.out = wire.NewWriter(stdin)
		err = c.out.SendJSON(wire.KindRequest, req)
		if errors.Is(err, io.EOF) {
			return nil // it has ended already; hello finds out why
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c.ch = ch
	if !s.spawn(func() { c.read(stdout) }) {
		c.close()
		return nil, s.Err()
	}
	s.spawn(c.ping)
	if err := c.hello(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// read hands frames over one by one, so that a slow receiver slows the guest.
func (c *call) read(stdout io.Reader) {
	defer close(c.frames)
	r := wire.NewReader(stdout, wire.Agent)
	for {
		f, err := r.Next()
		if err != nil {
			c.readErr = err
			return
		}
		f.Payload = bytes.Clone(f.Payload)
		select {
		case c.frames <- f:
		case <-c.closing:
			c.readErr = ErrClosed
			return
		}
	}
}

// ping renews the agent's lease, also while the receiver of its output is slow.
func (c *call) ping() {
	tick := time.NewTicker(c.s.target.Lease / 5)
	defer tick.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-c.s.done:
			return
		case <-tick.C:
			if c.out.Send(wire.KindPing, nil) != nil {
				return
			}
		}
	}
}

// next returns the next frame, or an error when there is none.
func (c *call) next(ctx context.Context) (wire.Frame, error) {
	select {
	case f, ok := <-c.frames:
		if !ok {
			if err := c.s.why(ctx, c.readErr); err != c.readErr {
				return wire.Frame{}, err
			}
			return wire.Frame{}, c.ended()
		}
		return f, nil
	case <-ctx.Done():
	case <-c.s.done:
	}
	return wire.Frame{}, c.s.why(ctx, ErrConnectionLost)
}

// answer is next for calls that wait for frames of the kinds given; a Failure
// becomes an error.
func (c *call) answer(ctx context.Context, kinds ...wire.Kind) (wire.Frame, error) {
	f, err := c.next(ctx)
	if err != nil {
		return f, err
	}
	if f.Kind == wire.KindFailure {
		return f, c.failure(f)
	}
	for _, k := range kinds {
		if f.Kind == k {
			return f, nil
		}
	}
	return f, c.nonsense(f.Kind)
}

// ended explains a channel that ended without a result.
func (c *call) ended() error {
	err := c.readErr
	var garbage *wire.GarbageError
	switch {
	case errors.As(err, &garbage):
		return fmt.Errorf("guest %q: %w: its first words were %q; a login shell that prints text (.bashrc) must be silent without a terminal",
			c.s.target.Name, ErrNotAgent, Clean(string(garbage.Head)))
	case brokenOff(err):
		return fmt.Errorf("guest %q: %w: it ended without a result; %s", c.s.target.Name, ErrNotAgent, orNothing(c.stderr.String()))
	}
	return fmt.Errorf("guest %q: %w: %w", c.s.target.Name, ErrNotAgent, err)
}

func orNothing(text string) string {
	if text == "" {
		return "it said nothing (killed, or out of memory?)"
	}
	return "it said: " + text
}

func (c *call) hello(ctx context.Context) error {
	f, err := c.answer(ctx, wire.KindHello)
	if err != nil {
		return err
	}
	var h wire.Hello
	if err := f.Decode(&h); err != nil {
		return fmt.Errorf("guest %q: %w: %w", c.s.target.Name, ErrNotAgent, err)
	}
	if h.Version != wire.Version {
		return fmt.Errorf("guest %q: %w: it speaks version %d, not %d; deploy it again", c.s.target.Name, ErrNotAgent, h.Version, wire.Version)
	}
	return nil
}

func (c *call) failure(f wire.Frame) error {
	var w wire.Failure
	if err := f.Decode(&w); err != nil {
		return fmt.Errorf("guest %q: %w: %w", c.s.target.Name, ErrNotAgent, err)
	}
	return c.s.agentError(w)
}

func (s *Session) agentError(w wire.Failure) error {
	return &AgentError{Guest: s.target.Name, Code: Clean(w.Code), Text: Clean(w.Text)}
}

func (c *call) nonsense(kind wire.Kind) error {
	return fmt.Errorf("guest %q: %w: %w: frame kind %d is out of place", c.s.target.Name, ErrNotAgent, wire.ErrProtocol, kind)
}

// close gives the channel up. It does not wait: a dead peer would not answer.
func (c *call) close() {
	c.closeOnce.Do(func() {
		close(c.closing)
		c.s.spawn(func() { c.ch.Close() })
	})
}
