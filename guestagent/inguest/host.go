package inguest

import (
	"errors"
	"os"
	"sync"
	"time"

	"imago.dev/imago/guestagent/wire"
)

// errHostGone ends a call whose host closed the channel, sent nothing for the
// length of the lease, or whose SSH server told us to end.
var errHostGone = errors.New("the host is gone")

// host is the other end of the call, seen from the guest.
type host struct {
	stdin chan []byte    // nil is never sent; closed at KindStdinEnd
	items chan wire.Item // closed at KindItemsEnd
	kill  chan struct{}  // closed when the host asks to end the work
	gone  chan struct{}  // closed when nobody listens any more
	rates chan int64     // the last rate that nobody took yet

	killOnce, goneOnce, stdinOnce, itemsOnce sync.Once
}

// listen reads the host's frames until the process ends. Nothing it does waits
// for the work in progress, so a kill is always heard.
func listen(in *wire.Reader, lease time.Duration, signals <-chan os.Signal) *host {
	if lease <= 0 {
		lease = defaultLease
	}
	h := &host{
		stdin: make(chan []byte, wire.StdinWindow),
		items: make(chan wire.Item),
		kill:  make(chan struct{}),
		gone:  make(chan struct{}),
		rates: make(chan int64, 1),
	}
	heard := make(chan struct{}, 1)
	go h.expire(lease, heard, signals)
	go func() {
		defer h.goneOnce.Do(func() { close(h.gone) })
		for {
			f, err := in.Next()
			if err != nil || !h.take(f) {
				return
			}
			select {
			case heard <- struct{}{}:
			default:
			}
		}
	}()
	return h
}

// expire declares the host gone when the lease runs out or a signal arrives.
func (h *host) expire(lease time.Duration, heard <-chan struct{}, signals <-chan os.Signal) {
	timer := time.NewTimer(lease)
	defer timer.Stop()
	defer h.goneOnce.Do(func() { close(h.gone) })
	for {
		select {
		case <-heard:
			timer.Reset(lease)
		case <-timer.C:
			return
		case <-signals:
			return
		case <-h.gone:
			return
		}
	}
}

// take handles one frame and says whether to go on.
func (h *host) take(f wire.Frame) bool {
	switch f.Kind {
	case wire.KindStdin:
		select {
		case h.stdin <- append([]byte{}, f.Payload...):
		default:
			return false // more than the window allows: not our host
		}
	case wire.KindStdinEnd:
		h.stdinOnce.Do(func() { close(h.stdin) })
	case wire.KindItem:
		var it wire.Item
		if f.Decode(&it) != nil {
			return false
		}
		select {
		case h.items <- it:
		case <-h.kill:
		}
	case wire.KindItemsEnd:
		h.itemsOnce.Do(func() { close(h.items) })
	case wire.KindRate:
		var r wire.Rate
		if f.Decode(&r) != nil {
			return false
		}
		select {
		case <-h.rates: // nobody took it, and it counts no more
		default:
		}
		h.rates <- r.BytesPerSecond // nobody else sends
	case wire.KindKill:
		h.killOnce.Do(func() { close(h.kill) })
	}
	return true
}

// drain waits until the host is gone or wants no more.
func (h *host) drain() {
	select {
	case <-h.kill:
	case <-h.gone:
	}
}
