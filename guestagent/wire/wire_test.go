package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestFramesRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	w := NewWriter(&buf)
	big := bytes.Repeat([]byte{0, 0x1b, '\n'}, MaxData/3)
	for _, f := range []Frame{{KindStdout, big}, {KindStderr, nil}, {KindStdinAck, nil}} {
		if err := w.Send(f.Kind, f.Payload); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(iotest.OneByteReader(&buf), Agent)
	f, err := r.Next()
	if err != nil || f.Kind != KindStdout || !bytes.Equal(f.Payload, big) {
		t.Fatalf("first frame: kind %d, %d bytes, %v", f.Kind, len(f.Payload), err)
	}
	for _, want := range []Kind{KindStderr, KindStdinAck} {
		if f, err = r.Next(); err != nil || f.Kind != want || len(f.Payload) != 0 {
			t.Fatalf("want kind %d, got %+v, %v", want, f, err)
		}
	}
	if _, err = r.Next(); err != io.EOF {
		t.Fatalf("end: %v", err)
	}
}

func header(kind Kind, size uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{byte(kind)}, size)
}

func TestReaderRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		peer Peer
		want error
	}{
		"a login banner":          {[]byte("Welcome to wiki-db\n"), Agent, ErrProtocol},
		"a four gigabyte frame":   {header(KindStdout, 1<<32-1), Agent, ErrProtocol},
		"one byte too many":       {header(KindStdout, MaxData+1), Agent, ErrProtocol},
		"a request from an agent": {header(KindRequest, 2), Agent, ErrProtocol},
		"output from a host":      {header(KindStdout, 2), Host, ErrProtocol},
		"a payload on a ping":     {header(KindPing, 1), Host, ErrProtocol},
		"progress from a host":    {header(KindProgress, 2), Host, ErrProtocol},
		"a rate from an agent":    {header(KindRate, 2), Agent, ErrProtocol},
		"a long rate":             {header(KindRate, maxRate+1), Host, ErrProtocol},
		"kind zero":               {header(0, 0), Agent, ErrProtocol},
		"half a header":           {[]byte{byte(KindStdout), 0}, Agent, io.ErrUnexpectedEOF},
		"a header and no payload": {header(KindStdout, 4), Agent, io.ErrUnexpectedEOF},
		"half a payload":          {append(header(KindStdout, 4), 'a'), Agent, io.ErrUnexpectedEOF},
	} {
		if _, err := NewReader(bytes.NewReader(c.in), c.peer).Next(); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestReaderHoldsNoMoreThanOneFrame(t *testing.T) {
	r := NewReader(bytes.NewReader(header(KindStdout, 3<<30)), Agent)
	if _, err := r.Next(); err == nil || cap(r.buf) != 0 {
		t.Fatalf("error %v, buffer of %d bytes was made for a refused frame", err, cap(r.buf))
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("Last login: today"), true)
	f.Add(append(header(KindStdout, 3), 'a', 0, 0x1b), true)
	f.Add(append(header(KindRequest, 2), '{', '}'), false)
	f.Fuzz(func(t *testing.T, in []byte, agent bool) {
		peer := Host
		if agent {
			peer = Agent
		}
		r := NewReader(bytes.NewReader(in), peer)
		var out bytes.Buffer
		w := NewWriter(&out)
		for {
			fr, err := r.Next()
			if err != nil {
				break
			}
			if most, ok := limit(peer, fr.Kind); !ok || len(fr.Payload) > most {
				t.Fatalf("accepted kind %d with %d bytes", fr.Kind, len(fr.Payload))
			}
			if err := w.Send(fr.Kind, fr.Payload); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(in, out.Bytes()) {
			t.Fatal("decoding and encoding changed the bytes")
		}
	})
}
