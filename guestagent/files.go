package guestagent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"
	"time"

	"imago.dev/imago/guestagent/wire"
)

// FileOptions says how a file is carried. The zero value makes files of mode
// 0600 that belong to the user logged in.
type FileOptions struct {
	// Mode is the target's mode where KeepMode is not set. Zero means 0600.
	Mode uint32
	// Owner is "user", "user:group" or ":group", by name or number, as known at
	// the target guest. It goes before KeepOwner. Not for downloads.
	Owner string
	// KeepMode, KeepOwner (by number) and KeepTime take these from the source.
	KeepMode, KeepOwner, KeepTime bool
	// MakeParents makes the target's missing directories, mode 0755.
	MakeParents bool
	// MaxBytes refuses a larger source; zero is no limit.
	MaxBytes int64
	// Throttle, when set, is called after every n bytes and may wait; its error
	// ends the transfer. Calls may come from several goroutines.
	Throttle func(ctx context.Context, n int) error
}

// Progress is how far a file has come, in bytes. Done includes Resumed, what an
// earlier call had carried already.
type Progress struct {
	Done, Total, Resumed int64
}

// ErrChanged is wrapped when a source file changed while it was carried.
var ErrChanged = errors.New("the file changed while it was copied")

// ErrTooLarge is wrapped when a source is larger than MaxBytes.
var ErrTooLarge = errors.New("the file is larger than allowed")

// resumeBlock is the unit, in bytes, in which a partial target is compared with
// its source. Concurrent writes can leave holes, so a length proves nothing.
const resumeBlock = 1 << 20

// sums is what a guest says about a file.
type sums struct {
	entry  wire.Entry
	whole  []byte
	blocks [][sha256.Size]byte
}

// hash asks the agent for a file's sums.
func (s *Session) hash(ctx context.Context, req wire.Hash) (sums, error) {
	var got sums
	c, err := s.call(ctx, wire.Request{Op: wire.OpHash, Hash: &req})
	if err != nil {
		return got, err
	}
	defer c.close()
	most := (req.Limit + resumeBlock - 1) / resumeBlock
	for {
		f, err := c.answer(ctx, wire.KindDigests, wire.KindResult)
		if err != nil {
			return got, err
		}
		if f.Kind == wire.KindResult {
			return got, c.hashed(f, req, &got)
		}
		if len(f.Payload)%sha256.Size != 0 || int64(len(got.blocks)+len(f.Payload)/sha256.Size) > most {
			return got, c.nonsense(f.Kind)
		}
		for p := f.Payload; len(p) > 0; p = p[sha256.Size:] {
			got.blocks = append(got.blocks, [sha256.Size]byte(p))
		}
	}
}

func (c *call) hashed(f wire.Frame, req wire.Hash, got *sums) error {
	var r wire.Result
	if err := f.Decode(&r); err != nil {
		return err
	}
	if r.File == nil || r.File.Size < 0 || (req.Whole && len(r.SHA256) != sha256.Size) {
		return c.nonsense(f.Kind)
	}
	got.entry, got.whole = *r.File, r.SHA256
	return nil
}

// applier changes one directory of a guest through its agent, item by item.
// It is safe for concurrent use: answers come in the order of the items.
type applier struct {
	c       *call
	mu      sync.Mutex // items are sent in the order in which answers are awaited
	waiting chan chan<- appliedOrErr
	stopped chan struct{}
	failed  error // why stopped was closed
}

type appliedOrErr struct {
	a   wire.Applied
	err error
}

// pipeline is how many items may be unanswered.
const pipeline = 64

func (s *Session) openApplier(ctx context.Context, req wire.Apply) (*applier, error) {
	c, err := s.call(ctx, wire.Request{Op: wire.OpApply, Apply: &req})
	if err != nil {
		return nil, err
	}
	a := &applier{c: c, waiting: make(chan chan<- appliedOrErr, pipeline), stopped: make(chan struct{})}
	if !s.spawn(a.receive) {
		c.close()
		return nil, s.Err()
	}
	return a, nil
}

// receive hands answers to those who wait, until the first error.
func (a *applier) receive() {
	defer close(a.stopped)
	for {
		var to chan<- appliedOrErr
		select {
		case to = <-a.waiting:
		case <-a.c.closing:
			a.failed = ErrClosed
			return
		case <-a.c.s.done:
			a.failed = a.c.s.Err()
			return
		}
		var got appliedOrErr
		var f wire.Frame
		f, got.err = a.c.answer(context.Background(), wire.KindApplied)
		if got.err == nil {
			got.err = f.Decode(&got.a)
		}
		to <- got
		if got.err != nil {
			a.failed = got.err
			return
		}
	}
}

// do applies one item and returns the agent's answer.
func (a *applier) do(ctx context.Context, it wire.Item) (wire.Applied, error) {
	answer := make(chan appliedOrErr, 1)
	if err := a.send(ctx, it, answer); err != nil {
		return wire.Applied{}, a.c.s.why(ctx, err)
	}
	got := appliedOrErr{err: ctx.Err()}
	select {
	case got = <-answer:
	case <-ctx.Done():
	case <-a.stopped:
		select {
		case got = <-answer: // the last one answered
		default:
			got.err = a.failed
		}
	}
	if got.err == nil && got.a.Failure != nil {
		got.err = a.c.s.agentError(*got.a.Failure)
	}
	return got.a, a.c.s.why(ctx, got.err)
}

func (a *applier) send(ctx context.Context, it wire.Item, answer chan<- appliedOrErr) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case a.waiting <- answer:
	case <-a.stopped:
		return a.failed
	case <-ctx.Done():
		return ctx.Err()
	}
	err := a.c.out.SendJSON(wire.KindItem, it)
	if errors.Is(err, io.EOF) {
		return nil // the agent has ended; receive is told why
	}
	return err
}

func (a *applier) close() { a.c.close() }

// metaFor says what to set on a copy of from.
func (o FileOptions) metaFor(from wire.Entry) *wire.Meta {
	m := &wire.Meta{Owner: o.Owner}
	mode := o.Mode & 0o7777
	if mode == 0 {
		mode = 0o600
	}
	if o.KeepMode {
		mode = from.Mode & 0o7777
	}
	m.Mode = &mode
	if o.KeepOwner && o.Owner == "" {
		m.UID, m.GID = &from.UID, &from.GID
	}
	if o.KeepTime {
		m.MTimeNS = &from.MTimeNS
	}
	return m
}

func (o FileOptions) checkSize(name string, size int64) error {
	if o.MaxBytes > 0 && size > o.MaxBytes {
		return fmt.Errorf("%q has %d bytes, at most %d: %w", name, size, o.MaxBytes, ErrTooLarge)
	}
	return nil
}

// checkRemotePath refuses what would depend on a working directory.
func checkRemotePath(p string) error {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
		return fmt.Errorf("%q is not a clean absolute path of a file", p)
	}
	return nil
}

// meter reports progress at most every tenth of a second, and at the end.
type meter struct {
	mu     sync.Mutex
	p      Progress
	last   time.Time
	report func(Progress)
}

func (m *meter) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Done += int64(n)
	if m.report == nil || (m.p.Done < m.p.Total && time.Since(m.last) < 100*time.Millisecond) {
		return
	}
	m.last = time.Now()
	m.report(m.p)
}

func newMeter(total, resumed int64, report func(Progress)) *meter {
	m := &meter{p: Progress{Done: resumed, Total: total, Resumed: resumed}, report: report}
	m.add(0)
	return m
}

// samePrefix returns how many bytes of the two lists of block sums are equal.
func samePrefix(a, b [][sha256.Size]byte, limit int64) int64 {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return min(int64(n)*resumeBlock, limit)
}

// blockSums reads r and returns the sum of each block.
func blockSums(r io.Reader) ([][sha256.Size]byte, error) {
	var blocks [][sha256.Size]byte
	for {
		h := sha256.New()
		n, err := io.CopyN(h, r, resumeBlock)
		if n > 0 {
			blocks = append(blocks, [sha256.Size]byte(h.Sum(nil)))
		}
		if err == io.EOF {
			return blocks, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
