package hypervisor

import (
	"fmt"
	"sync"
	"sync/atomic"

	"libvirt.org/go/libvirt"
)

// eventLoop runs libvirt's event loop while at least one connection is open.
// libvirt has exactly one loop per process and it must be registered before
// the first connection, so this is the one piece of process-wide state here.
type eventLoop struct {
	mu         sync.Mutex
	registered bool
	users      int
	stopping   *atomic.Bool
	done       chan struct{}
}

var loop eventLoop

// acquire starts the loop for its first user.
func (l *eventLoop) acquire() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.registered {
		if err := libvirt.EventRegisterDefaultImpl(); err != nil {
			return fmt.Errorf("register libvirt's event loop: %w", err)
		}
		l.registered = true
	}
	if l.users == 0 {
		l.stopping, l.done = new(atomic.Bool), make(chan struct{})
		go runLoop(l.stopping, l.done)
	}
	l.users++
	return nil
}

// release ends the loop with its last user and waits for it.
func (l *eventLoop) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
	if l.users > 0 {
		return
	}
	l.stopping.Store(true)
	// The loop sleeps in poll(2); a timer that is due at once wakes it.
	timer, err := libvirt.EventAddTimeout(0, func(int) {})
	if err != nil {
		return // the loop ends at its next event instead
	}
	<-l.done
	_ = libvirt.EventRemoveTimeout(timer)
}

func runLoop(stopping *atomic.Bool, done chan<- struct{}) {
	defer close(done)
	for !stopping.Load() {
		if err := libvirt.EventRunDefaultImpl(); err != nil {
			return
		}
	}
}
