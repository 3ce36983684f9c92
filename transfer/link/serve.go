package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/rows"
)

const (
	// reportEvery is how often the host hears how far the engine is.
	reportEvery = 200 * time.Millisecond
	// silence is how long the host may say nothing before the copy stops: a rate
	// that nobody renews is worth nothing.
	silence = 15 * time.Second
	// maxListed bounds a list of rejected objects, so that it fits a frame.
	maxListed = 500
)

// Serve is the guest's end: it opens the engine that the host describes and runs
// it until the host says so or goes away. If r is an io.Closer, it is closed in the
// end. The engine's error is told to the host and returned.
func Serve(ctx context.Context, r io.Reader, w io.Writer, log *slog.Logger) error {
	return serve(ctx, r, w, log, silence)
}

func serve(ctx context.Context, r io.Reader, w io.Writer, log *slog.Logger, silence time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &server{out: &sender{w: w}, in: make(chan *rows.Txn, 1024), more: make(chan struct{}, 1), heard: time.Now(),
		silence: silence, asked: map[uint64]context.CancelFunc{}}
	err := s.open(ctx, r, log)
	if err == nil {
		err = s.run(ctx, cancel, r)
	}
	switch {
	case errors.Is(err, errHostGone):
		err = nil
	case errors.Is(err, errHostDone):
		err = s.out.send(kindClosed, nil)
	case err != nil:
		err = errors.Join(err, s.out.sendJSON(kindFailed, failureOf(err)))
	}
	if c, ok := r.(io.Closer); ok {
		_ = c.Close()
	}
	return err
}

// errHostGone ends everything: there is nobody to tell.
var errHostGone = errors.New("the host is gone")

// errHostDone ends everything, too; the host waits for the end.
var errHostDone = errors.New("the host is done")

// ended tells a host that went away from one that says what it must not.
func ended(err error) error {
	if errors.Is(err, ErrProtocol) {
		return err
	}
	return fmt.Errorf("%w: %w", errHostGone, err)
}

type server struct {
	out    *sender
	engine *apply.Engine
	in     chan *rows.Txn

	mu    sync.Mutex
	queue []*rows.Txn // what the host sent and the engine did not take; the window bounds it
	sizes []uint64    // of all that the engine did not apply
	held  uint64      // their sum
	more  chan struct{}
	heard time.Time
	rate  rateMessage
	shut  bool // the copy is stopped because the host is silent
	asked map[uint64]context.CancelFunc
	wg    sync.WaitGroup

	silence time.Duration
}

func (s *server) open(ctx context.Context, r io.Reader, log *slog.Logger) error {
	k, payload, err := readFrame(r, nil)
	if err != nil {
		return ended(err)
	}
	if k != kindOpen {
		return fmt.Errorf("%w: the first frame has kind %d", ErrProtocol, k)
	}
	var cfg apply.Config
	if err := decode(payload, &cfg); err != nil {
		return err
	}
	if s.engine, err = apply.Open(ctx, cfg, log); err != nil {
		return err
	}
	return s.out.sendJSON(kindOpened, s.engine.Position())
}

// finishWithin is how long the engine may take to finish what it is at.
const finishWithin = 5 * time.Second

func (s *server) run(ctx context.Context, cancel context.CancelCauseFunc, r io.Reader) error {
	// The reader has no way to be cancelled but its end; it is left behind when the
	// engine fails first and r cannot be closed, and ends with the process.
	go func() { cancel(s.read(ctx, r)) }()
	s.wg.Go(func() { s.feed(ctx) })
	s.wg.Go(func() { s.acknowledge(ctx) })
	s.wg.Go(func() { s.report(ctx, cancel) })
	// The engine ends with its stream, when it has finished what it is at; it is
	// cut off only if that takes too long.
	engine, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(finishWithin):
			cut(context.Cause(ctx))
		case <-engine.Done():
		}
	})
	defer stop()
	err := s.engine.Run(engine, s.in)
	cancel(err)
	s.wg.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, errHostGone) || errors.Is(cause, errHostDone) || err == nil {
		return cause
	}
	return err
}

// read takes what the host says. It never waits for the engine, so that rates
// and questions get through however much is on its way.
func (s *server) read(ctx context.Context, r io.Reader) error {
	var buf, part []byte
	for {
		k, payload, err := readFrame(r, buf)
		if err != nil {
			return ended(err)
		}
		buf = payload[:cap(payload)]
		s.hear()
		switch k {
		case kindTxn, kindTxnEnd:
			if len(part)+len(payload) > maxTxn {
				return fmt.Errorf("%w: a transaction of more than %d bytes", ErrProtocol, maxTxn)
			}
			part = append(part, payload...)
			if k == kindTxn {
				continue
			}
			t, err := rows.DecodeTxn(part)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrProtocol, err)
			}
			if err := s.enqueue(t, uint64(len(part))); err != nil {
				return err
			}
			part = nil // the transaction points into it
		case kindRate:
			var m rateMessage
			if err := decode(payload, &m); err != nil {
				return err
			}
			s.setRate(m)
		case kindAsk:
			var q question
			if err := decode(payload, &q); err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(ctx)
			s.mu.Lock()
			s.asked[q.ID] = cancel
			s.mu.Unlock()
			s.wg.Go(func() { s.answer(ctx, q) })
		case kindCancel:
			var q question
			if err := decode(payload, &q); err != nil {
				return err
			}
			s.forget(q.ID)
		case kindPing:
		case kindClose:
			return errHostDone
		default:
			return fmt.Errorf("%w: frame kind %d is out of place", ErrProtocol, k)
		}
	}
}

func (s *server) hear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
	if s.shut {
		s.shut = false
		s.engine.SetRate(s.rate.Rows, s.rate.Bytes)
	}
}

func (s *server) setRate(m rateMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate = m
	s.engine.SetRate(m.Rows, m.Bytes)
}

// forget ends a question.
func (s *server) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.asked[id]; cancel != nil {
		cancel()
		delete(s.asked, id)
	}
}

func (s *server) enqueue(t *rows.Txn, size uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 && s.held+size > window {
		return fmt.Errorf("%w: %d bytes too many are under way", ErrProtocol, s.held+size-window)
	}
	s.held += size
	s.queue, s.sizes = append(s.queue, t), append(s.sizes, size)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return nil
}

// feed gives the engine what the host sent.
func (s *server) feed(ctx context.Context) {
	defer close(s.in)
	for {
		s.mu.Lock()
		list := s.queue
		s.queue = nil
		s.mu.Unlock()
		for _, t := range list {
			select {
			case s.in <- t:
			case <-ctx.Done():
				return
			}
		}
		if len(list) > 0 {
			continue
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return
		}
	}
}

// acknowledge tells the host how much is applied, so that it sends more.
func (s *server) acknowledge(ctx context.Context) {
	var applied, bytes uint64
	for {
		n, err := s.engine.Applied(ctx, applied+1)
		if err != nil {
			return
		}
		s.mu.Lock()
		for ; applied < n; applied++ {
			bytes += s.sizes[0]
			s.held -= s.sizes[0]
			s.sizes = s.sizes[1:]
		}
		s.mu.Unlock()
		if s.out.send(kindTaken, binary.BigEndian.AppendUint64(nil, bytes)) != nil {
			return // report notices, too
		}
	}
}

// report tells the host how far the engine is, and stops the copy when the host
// says nothing any more.
func (s *server) report(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		if err := s.out.sendJSON(kindProgress, s.engine.Progress()); err != nil {
			cancel(fmt.Errorf("%w: %w", errHostGone, err))
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		if !s.shut && time.Since(s.heard) > s.silence {
			s.shut = true
			s.engine.SetRate(0, 0)
		}
		s.mu.Unlock()
	}
}

func (s *server) answer(ctx context.Context, q question) {
	defer s.forget(q.ID)
	a := answer{ID: q.ID}
	var err error
	switch q.Ask {
	case askSettle:
		a.Verified, err = s.engine.Settle(ctx, q.At, q.Counters)
	case askRejected:
		a.Rejected, err = s.engine.Rejected(ctx)
		a.Rejected = shorten(a.Rejected)
	case askRetry:
		err = s.engine.Retry(ctx)
	default:
		err = fmt.Errorf("%w: asked for %q", ErrProtocol, q.Ask)
	}
	if err != nil {
		a.Failure = failureOf(err)
	}
	_ = s.out.sendJSON(kindAnswer, a) // where that fails, report notices
}

// shorten keeps a list within a frame.
func shorten(list []apply.Rejected) []apply.Rejected {
	list = list[:min(len(list), maxListed)]
	for i := range list {
		if r := &list[i]; len(r.Key)+len(r.Reason) > 1500 {
			r.Key, r.Reason = r.Key[:min(len(r.Key), 500)], r.Reason[:min(len(r.Reason), 1000)]
		}
	}
	return list
}
