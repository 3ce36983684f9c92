package guestagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// reserve takes n channels of each session at once, the sessions in a fixed
// order, so that calls that need several cannot wait for each other. A session
// given twice gives twice as many. The caller calls release.
func reserve(ctx context.Context, n int64, sessions ...*Session) (release func(), err error) {
	sorted := slices.SortedFunc(slices.Values(sessions), func(a, b *Session) int { return cmp.Compare(a.id, b.id) })
	var undo []func()
	release = func() {
		for _, f := range undo {
			f()
		}
	}
	for len(sorted) > 0 {
		s, take := sorted[0], int64(0)
		for len(sorted) > 0 && sorted[0] == s {
			take, sorted = take+n, sorted[1:]
		}
		if err := s.slots.Acquire(ctx, take); err != nil {
			release()
			return nil, context.Cause(ctx)
		}
		undo = append(undo, func() { s.slots.Release(take) })
	}
	return release, nil
}

// openLimit is how long a refused channel is asked for again: sshd counts a
// channel as open until it has finished closing it.
const openLimit = 3 * time.Second

// opening is a channel that may come into being after nobody wants it any more.
type opening struct {
	mu        sync.Mutex
	abandoned chan struct{}
	ch        *ssh.Session
}

func (o *opening) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.abandoned)
	if o.ch != nil {
		o.ch.Close()
	}
}

// keep hands the channel over, or closes it when it comes too late.
func (o *opening) keep(ch *ssh.Session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.abandoned:
		ch.Close()
	default:
		o.ch = ch
	}
}

// open opens a channel and runs begin on it. When ctx ends first the channel is
// closed as soon as it exists.
func (s *Session) open(ctx context.Context, begin func(*ssh.Session) error) (*ssh.Session, error) {
	o := &opening{abandoned: make(chan struct{})}
	err := s.await(ctx, o.abandon, func() error {
		ch, err := s.newChannel(o.abandoned)
		if err != nil {
			return fmt.Errorf("open a channel to guest %q: %w", s.target.Name, err)
		}
		if err := begin(ch); err != nil {
			ch.Close()
			return err
		}
		o.keep(ch)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return o.ch, nil
}

func (s *Session) newChannel(abandoned <-chan struct{}) (*ssh.Session, error) {
	for until := time.Now().Add(openLimit); ; {
		ch, err := s.client.NewSession()
		var refused *ssh.OpenChannelError
		if err == nil || !errors.As(err, &refused) || time.Now().After(until) {
			return ch, err
		}
		select {
		case <-abandoned:
			return nil, err
		case <-s.done:
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
