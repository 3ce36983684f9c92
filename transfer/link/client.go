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
	// window is how many bytes of transactions may be on their way and not applied;
	// one that is larger goes alone.
	window = 32 << 20
	// pingEvery keeps the guest sure that the host lives.
	pingEvery = 2 * time.Second
	// closeWithin is how long Close waits for the other end to end by itself.
	closeWithin = 10 * time.Second
)

// Client is the host's end.
type Client struct {
	rw   io.ReadWriteCloser
	out  *sender
	from rows.Position

	opened chan rows.Position
	done   chan struct{}
	wg     sync.WaitGroup

	mu         sync.Mutex
	err        error
	progress   apply.Progress
	reported   time.Time
	sent, took uint64
	room       chan struct{} // closed when took grew
	asked      map[uint64]chan answer
	lastID     uint64
	buf        []byte
	sendMu     sync.Mutex // one transaction after the other
}

// Dial opens an engine at the other end of rw, where Serve runs, and returns when
// it is ready for the stream. The client owns rw from then on, also if Dial fails.
func Dial(ctx context.Context, rw io.ReadWriteCloser, cfg apply.Config, log *slog.Logger) (*Client, error) {
	c := &Client{
		rw: rw, out: &sender{w: rw}, opened: make(chan rows.Position, 1), done: make(chan struct{}),
		room: make(chan struct{}), asked: map[uint64]chan answer{},
	}
	c.wg.Go(func() { c.end(c.read()) })
	c.wg.Go(func() {
		// The agent's own word on why it does not listen counts more.
		if err := c.out.sendJSON(kindOpen, cfg); err != nil {
			_ = c.lost(err)
		}
	})
	c.wg.Go(c.ping)
	select {
	case c.from = <-c.opened:
		log.Debug("the agent is ready for rows", "set", cfg.Set, "from", c.from.GTID)
		return c, nil
	case <-c.done:
	case <-ctx.Done():
		c.end(context.Cause(ctx))
	}
	err := fmt.Errorf("open data set %q at the agent: %w", cfg.Set, c.Err())
	_ = rw.Close()
	c.wg.Wait()
	return nil, err
}

// end notes why the link is over; the first reason counts.
func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the agent is gone: %w", io.ErrUnexpectedEOF)
	}
	c.err = err
	close(c.done)
}

func (c *Client) ping() {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := c.out.send(kindPing, nil); err != nil {
				return // read finds out
			}
		case <-c.done:
			return
		}
	}
}

// read takes what the agent says until the link is over.
func (c *Client) read() error {
	var buf []byte
	for {
		k, payload, err := readFrame(c.rw, buf)
		if err != nil {
			return err
		}
		buf = payload[:cap(payload)]
		if err := c.take(k, payload); err != nil {
			return err
		}
	}
}

func (c *Client) take(k kind, payload []byte) error {
	switch k {
	case kindOpened:
		var at rows.Position
		if err := decode(payload, &at); err != nil {
			return err
		}
		select {
		case c.opened <- at:
		default:
			return fmt.Errorf("%w: opened twice", ErrProtocol)
		}
	case kindProgress:
		var p apply.Progress
		if err := decode(payload, &p); err != nil {
			return err
		}
		c.mu.Lock()
		c.progress, c.reported = p, time.Now()
		c.mu.Unlock()
	case kindTaken:
		return c.taken(payload)
	case kindAnswer:
		return c.answered(payload)
	case kindFailed:
		var f failure
		if err := decode(payload, &f); err != nil {
			return err
		}
		return f.err()
	case kindClosed:
		return errClosed
	default:
		return fmt.Errorf("%w: frame kind %d is out of place", ErrProtocol, k)
	}
	return nil
}

func (c *Client) taken(payload []byte) error {
	if len(payload) != 8 {
		return fmt.Errorf("%w: a count of %d bytes", ErrProtocol, len(payload))
	}
	n := binary.BigEndian.Uint64(payload)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n < c.took || n > c.sent {
		return fmt.Errorf("%w: took %d bytes of %d, after %d", ErrProtocol, n, c.sent, c.took)
	}
	c.took = n
	close(c.room)
	c.room = make(chan struct{})
	return nil
}

func (c *Client) answered(payload []byte) error {
	var a answer
	if err := decode(payload, &a); err != nil {
		return err
	}
	c.mu.Lock()
	to := c.asked[a.ID]
	delete(c.asked, a.ID)
	c.mu.Unlock()
	if to != nil { // else who asked has gone
		to <- a
	}
	return nil
}

// Position is where the stream must begin.
func (c *Client) Position() rows.Position { return c.from }

// Send gives the engine the next transaction. It blocks while too many bytes are
// on their way.
func (c *Client) Send(ctx context.Context, t *rows.Txn) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	c.buf = rows.AppendTxn(c.buf[:0], t)
	size := uint64(len(c.buf))
	if size > maxTxn {
		return fmt.Errorf("transaction %s has %d bytes, at most %d can be sent", t.ID, size, maxTxn)
	}
	for {
		c.mu.Lock()
		free := c.sent == c.took || c.sent-c.took+size <= window
		if free {
			c.sent += size
		}
		room := c.room
		c.mu.Unlock()
		if free {
			break
		}
		select {
		case <-room:
		case <-c.done:
			return c.why()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := c.over(); err != nil {
		return err
	}
	if err := c.out.sendTxn(c.buf); err != nil {
		return c.lost(err)
	}
	if cap(c.buf) > window {
		c.buf = nil // a giant's memory is not kept
	}
	return nil
}

// lost prefers what the agent said last over how the pipe broke.
func (c *Client) lost(err error) error {
	select {
	case <-c.done:
		return c.why()
	case <-time.After(500 * time.Millisecond):
	}
	c.end(fmt.Errorf("the link to the agent broke: %w", err))
	return c.why()
}

// why is why the link is over; never nil once it is.
func (c *Client) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// over is why nothing can be sent any more; nil if it can.
func (c *Client) over() error {
	select {
	case <-c.done:
		return c.why()
	default:
		return nil
	}
}

// SetRate bounds the first copy, as apply.Engine.SetRate does. When this end falls
// silent, the copy stops.
func (c *Client) SetRate(rowsPerSecond, bytesPerSecond int64) error {
	if err := c.over(); err != nil {
		return err
	}
	if err := c.out.sendJSON(kindRate, rateMessage{rowsPerSecond, bytesPerSecond}); err != nil {
		return c.lost(err)
	}
	return nil
}

// Progress is the engine's last report and when it arrived.
func (c *Client) Progress() (apply.Progress, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.progress, c.reported
}

func (c *Client) ask(ctx context.Context, q question) (answer, error) {
	to := make(chan answer, 1)
	c.mu.Lock()
	c.lastID++
	q.ID = c.lastID
	c.asked[q.ID] = to
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.asked, q.ID)
		c.mu.Unlock()
	}()
	if err := c.over(); err != nil {
		return answer{}, err
	}
	if err := c.out.sendJSON(kindAsk, q); err != nil {
		return answer{}, c.lost(err)
	}
	select {
	case a := <-to:
		return a, a.Failure.err()
	case <-c.done:
		return answer{}, c.why()
	case <-ctx.Done():
	}
	// The agent's last word says what was left to do, if it comes at once.
	_ = c.out.sendJSON(kindCancel, question{ID: q.ID})
	select {
	case a := <-to:
		if a.Failure == nil {
			return a, nil
		}
		return a, fmt.Errorf("%w: %w", context.Cause(ctx), a.Failure.err())
	case <-c.done:
		return answer{}, c.why()
	case <-time.After(time.Second):
		return answer{}, context.Cause(ctx)
	}
}

// Settle is apply.Engine.Settle.
func (c *Client) Settle(ctx context.Context, at rows.Position, counters map[string]uint64) (apply.Verified, error) {
	a, err := c.ask(ctx, question{Ask: askSettle, At: at, Counters: counters})
	return a.Verified, err
}

// Rejected is apply.Engine.Rejected; a very long list is cut off.
func (c *Client) Rejected(ctx context.Context) ([]apply.Rejected, error) {
	a, err := c.ask(ctx, question{Ask: askRejected})
	return a.Rejected, err
}

// Retry is apply.Engine.Retry.
func (c *Client) Retry(ctx context.Context) error {
	_, err := c.ask(ctx, question{Ask: askRetry})
	return err
}

// Done is closed when the engine has ended or the link is gone.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why, once Done is closed; nil after a Close.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.err, errClosed) {
		return nil
	}
	return c.err
}

var errClosed = errors.New("the link to the agent is closed")

// Close ends the engine and the link, after what is under way is committed or
// given up. The state stays in the target.
func (c *Client) Close() error {
	c.wg.Go(func() { _ = c.out.send(kindClose, nil) })
	select {
	case <-c.done:
	case <-time.After(closeWithin):
	}
	c.end(errClosed)
	err := c.rw.Close()
	c.wg.Wait()
	if errors.Is(err, io.ErrClosedPipe) {
		err = nil
	}
	return err
}
