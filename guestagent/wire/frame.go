// Package wire is the language imago and its agent in a guest speak over one
// SSH exec channel: frames of one kind byte, a four-byte big-endian length and
// a payload. It owns the encoding, the limits and the version number; it
// neither opens connections nor runs anything.
//
// Whatever the other end sends, a Reader holds at most one frame, whose size is
// bounded per kind and checked before a byte of the payload is read.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Version is the protocol's number. Both ends must have the same one: the agent
// is uploaded by the program that talks to it, so there is nothing to negotiate.
const Version = 2

// MaxData is the largest payload, in bytes, of a frame that carries file or
// process data, and of every frame the agent may send.
const MaxData = 64 << 10

// MaxRequest is the largest request in bytes; it bounds a step's script.
const MaxRequest = 8 << 20

// maxRate is the largest KindRate in bytes.
const maxRate = 64

// Kind says what a frame's payload is.
type Kind byte

// Frames from the agent to the host.
const (
	KindHello    Kind = 1  // Hello
	KindStdout   Kind = 2  // raw bytes
	KindStderr   Kind = 3  // raw bytes
	KindEntry    Kind = 4  // Entry
	KindDigests  Kind = 5  // SHA-256 sums, 32 bytes each, one after another
	KindApplied  Kind = 6  // Applied
	KindResult   Kind = 7  // Result; the last frame of a call
	KindFailure  Kind = 8  // Failure; the last frame of a call
	KindStdinAck Kind = 9  // empty: one KindStdin frame was consumed
	KindProgress Kind = 10 // CatchUpProgress
)

// Frames from the host to the agent.
const (
	KindRequest  Kind = 32 // Request; the first frame of a call
	KindStdin    Kind = 33 // raw bytes for the step's standard input
	KindStdinEnd Kind = 34 // empty: no more standard input
	KindKill     Kind = 35 // empty: end what runs, then answer
	KindPing     Kind = 36 // empty: the host is alive
	KindItem     Kind = 37 // Item
	KindItemsEnd Kind = 38 // empty: no more items
	KindRate     Kind = 39 // Rate
)

// StdinWindow is how many KindStdin frames may be on their way unacknowledged.
const StdinWindow = 32

// Peer names the end that a Reader listens to, and so the kinds it accepts.
type Peer int

// The two ends.
const (
	Agent Peer = iota + 1
	Host
)

// ErrProtocol is wrapped by every error that means the other end does not speak
// this protocol, or lies about sizes.
var ErrProtocol = errors.New("protocol violation")

const headerSize = 5

// limit returns the largest payload of a kind sent by peer, and whether peer
// may send it at all.
func limit(peer Peer, kind Kind) (int, bool) {
	switch {
	case peer == Host && kind == KindRequest:
		return MaxRequest, true
	case peer == Host && (kind == KindStdin || kind == KindItem):
		return MaxData, true
	case peer == Host && kind == KindRate:
		return maxRate, true
	case peer == Host && kind > KindRequest && kind <= KindItemsEnd:
		return 0, true
	case peer == Agent && kind == KindStdinAck:
		return 0, true
	case peer == Agent && (kind >= KindHello && kind < KindStdinAck || kind == KindProgress):
		return MaxData, true
	}
	return 0, false
}

// Frame is one message. Payload belongs to the Reader until its next call.
type Frame struct {
	Kind    Kind
	Payload []byte
}

// Decode parses the payload as JSON into v.
func (f Frame) Decode(v any) error {
	if err := json.Unmarshal(f.Payload, v); err != nil {
		return fmt.Errorf("%w: frame kind %d: %w", ErrProtocol, f.Kind, err)
	}
	return nil
}

// Reader decodes frames from one peer. It is not safe for concurrent use.
type Reader struct {
	r    io.Reader
	peer Peer
	head [headerSize]byte
	buf  []byte
}

// NewReader returns a Reader of what peer sends through r.
func NewReader(r io.Reader, peer Peer) *Reader { return &Reader{r: r, peer: peer} }

// GarbageError is returned when what arrives is no frame: most often a login
// shell that prints text. Head holds the first bytes, unfiltered.
type GarbageError struct{ Head []byte }

func (e *GarbageError) Error() string {
	return fmt.Sprintf("not a frame: it begins with %q", e.Head)
}

// Unwrap makes errors.Is(err, ErrProtocol) true.
func (e *GarbageError) Unwrap() error { return ErrProtocol }

// Next returns the next frame. It returns io.EOF at a clean end,
// io.ErrUnexpectedEOF inside a frame, and an error wrapping ErrProtocol when
// the bytes are not a permitted frame.
func (r *Reader) Next() (Frame, error) {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return Frame{}, err
	}
	kind := Kind(r.head[0])
	size := binary.BigEndian.Uint32(r.head[1:])
	most, ok := limit(r.peer, kind)
	if !ok {
		return Frame{}, &GarbageError{Head: append([]byte(nil), r.head[:]...)}
	}
	if int64(size) > int64(most) {
		return Frame{}, fmt.Errorf("%w: frame kind %d of %d bytes, at most %d allowed", ErrProtocol, kind, size, most)
	}
	return r.payload(kind, int(size))
}

func (r *Reader) payload(kind Kind, size int) (Frame, error) {
	if cap(r.buf) < size {
		r.buf = make([]byte, size)
	}
	p := r.buf[:size]
	if _, err := io.ReadFull(r.r, p); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return Frame{Kind: kind, Payload: p}, nil
}

// Writer encodes frames. It is safe for concurrent use; each frame is one Write.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Send writes one frame with a raw payload, which may be nil.
func (w *Writer) Send(kind Kind, payload []byte) error {
	if len(payload) > MaxRequest {
		return fmt.Errorf("%w: payload of %d bytes, at most %d allowed", ErrProtocol, len(payload), MaxRequest)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf[:0], byte(kind))
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(len(payload)))
	w.buf = append(w.buf, payload...)
	_, err := w.w.Write(w.buf)
	return err
}

// SendJSON writes one frame with v encoded as JSON.
func (w *Writer) SendJSON(kind Kind, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode frame kind %d: %w", kind, err)
	}
	return w.Send(kind, p)
}
