package link

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// kind says what a frame carries.
type kind byte

// Frames from the host.
const (
	kindOpen   kind = 'O' // apply.Config as JSON; the first frame
	kindTxn    kind = 'T' // a part of an encoded transaction, more to follow
	kindTxnEnd kind = 't' // the last part
	kindRate   kind = 'R' // rateMessage as JSON
	kindAsk    kind = 'A' // question as JSON
	kindCancel kind = 'X' // question as JSON, of which only the ID counts: nobody waits for its answer
	kindPing   kind = 'P' // empty: the host is alive
	kindClose  kind = 'C' // empty: finish what is under way, then end
)

// Frames from the guest.
const (
	kindOpened   kind = 'o' // rows.Position as JSON
	kindProgress kind = 'p' // apply.Progress as JSON
	kindTaken    kind = 'a' // uint64: bytes of transactions that are applied so far
	kindAnswer   kind = 'r' // answer as JSON
	kindFailed   kind = 'f' // failure as JSON; the last frame
	kindClosed   kind = 'c' // empty: ended as asked; the last frame
)

// maxTxn is the largest encoded transaction in bytes.
const maxTxn = 1 << 30

// maxFrame is the largest payload in bytes.
const maxFrame = 1 << 20

// ErrProtocol is wrapped when the other end does not speak this protocol.
var ErrProtocol = errors.New("protocol violation between imago and its agent")

const headSize = 5

// readFrame reads one frame; buf is used for the payload where it suffices.
func readFrame(r io.Reader, buf []byte) (kind, []byte, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes, at most %d are allowed", ErrProtocol, size, maxFrame)
	}
	if cap(buf) < int(size) {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return kind(head[0]), buf, nil
}

// sender writes frames, one at a time.
type sender struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

func (s *sender) send(k kind, payload []byte) error {
	if len(payload) > maxFrame {
		return fmt.Errorf("%w: a message of %d bytes, at most %d fit", ErrProtocol, len(payload), maxFrame)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = append(s.buf[:0], byte(k))
	s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(len(payload)))
	s.buf = append(s.buf, payload...)
	_, err := s.w.Write(s.buf)
	return err
}

func (s *sender) sendJSON(k kind, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	return s.send(k, raw)
}

// sendTxn sends an encoded transaction in parts.
func (s *sender) sendTxn(raw []byte) error {
	for len(raw) > maxFrame {
		if err := s.send(kindTxn, raw[:maxFrame]); err != nil {
			return err
		}
		raw = raw[maxFrame:]
	}
	return s.send(kindTxnEnd, raw)
}

func decode(payload []byte, v any) error {
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}
