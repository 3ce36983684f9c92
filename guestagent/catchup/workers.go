package catchup

import (
	"context"
	"sync"
)

// atOnce is how many files are read at a time: enough to keep a disk behind a
// socket busy, few enough for a small guest.
const atOnce = 4

// workers prepare entries beside the walk.
type workers struct {
	wg      sync.WaitGroup
	free    chan *buffers
	cancel  context.CancelCauseFunc
	flushed int64 // bytes written when the last batch ended
}

func (w *workers) init(cancel context.CancelCauseFunc) {
	w.cancel = cancel
	w.free = make(chan *buffers, atOnce)
	for range atOnce {
		w.free <- nil // made when they are needed
	}
}

// start runs work as soon as a worker is free.
func (w *workers) start(ctx context.Context, work func(*buffers)) {
	var bufs *buffers
	select {
	case bufs = <-w.free:
	case <-ctx.Done():
		return // flush sees it, too
	}
	if bufs == nil {
		bufs = newBuffers()
	}
	w.wg.Go(func() {
		work(bufs)
		w.free <- bufs
	})
}

func (w *workers) wait() { w.wg.Wait() }
