package apply

import (
	"bytes"
	"fmt"
)

// script sends statements to a server in packets of many, and writes the next
// packet while the server works on the last. Each statement's outcome is checked;
// the first that is not as expected ends the script.
type script struct {
	c      *conn
	limit  int
	most   int    // what the server takes
	p      []byte // the packet in the making
	spare  []byte
	checks []check // of p
	sent   []check // of the packet on its way
	flying bool
}

// check is what is done with the answer to a statement.
type check struct {
	want  int64                       // affected rows; anyNumber does not look
	each  func(values [][]byte) error // gets the rows
	wrong func(got uint64) error      // says in words that the number is wrong
	got   func(n uint64)              // learns the number
	after func() error                // is called when all is well
	fails func(err error) error       // puts the server's error in words
}

const anyNumber = -1

func newScript(c *conn, limit, most int) *script {
	return &script{c: c, limit: limit, most: most, p: packet(nil), spare: packet(nil)}
}

// add appends a statement, written by build.
func (s *script) add(ch check, build func(dst []byte) []byte) error {
	began := len(s.p)
	if began > header {
		s.p = append(s.p, ';')
	}
	s.p = build(s.p)
	if began > header && len(s.p) >= 2*s.limit {
		// A statement so large goes alone, after those before it.
		long := bytes.Clone(s.p[began+1:])
		s.p = s.p[:began]
		if err := s.flush(); err != nil {
			return err
		}
		s.p = append(s.p, long...)
	}
	s.checks = append(s.checks, ch)
	if len(s.p) >= s.limit {
		return s.flush()
	}
	return nil
}

func (s *script) sql(ch check, statement string) error {
	return s.add(ch, func(dst []byte) []byte { return append(dst, statement...) })
}

// flush sends what is there, after the answers to the last packet are read.
func (s *script) flush() error {
	if err := s.wait(); err != nil {
		return err
	}
	if len(s.checks) == 0 {
		return nil
	}
	if n := len(s.p) - header; n >= s.most {
		return fmt.Errorf("a row is too large for the new database server: a statement has %d bytes, max_allowed_packet is %d: raise it, then go on", n, s.most)
	}
	if err := s.c.send(s.p); err != nil {
		return err
	}
	s.flying = true
	s.p, s.spare = packet(s.spare), s.p
	s.checks, s.sent = s.sent[:0], s.checks
	return nil
}

// finish sends everything and reads all answers.
func (s *script) finish() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.wait()
}

// wait reads the answers to the packet on its way. After an error of the server
// nothing more comes; after a wrong answer the rest is read, so that the
// connection can be used to roll back.
func (s *script) wait() error {
	if !s.flying {
		return nil
	}
	s.flying = false
	var failed error
	for i := range s.sent {
		ch := &s.sent[i]
		each := ch.each
		if failed != nil {
			each = nil
		}
		got, more, err := s.c.result(each)
		if err != nil {
			if failed == nil {
				failed = err
				if ch.fails != nil {
					failed = ch.fails(err)
				}
			}
			if !more {
				return failed
			}
			continue
		}
		if more != (i+1 < len(s.sent)) {
			return fmt.Errorf("%w: %d statements were sent", errProtocol, len(s.sent))
		}
		if failed == nil && ch.want != anyNumber && got != uint64(ch.want) {
			failed = ch.wrong(got)
		}
		if failed == nil && ch.got != nil {
			ch.got(got)
		}
		if failed == nil && ch.after != nil {
			failed = ch.after()
		}
	}
	return failed
}

// reset forgets statements that were not sent.
func (s *script) reset() {
	s.p = packet(s.p)
	s.checks = s.checks[:0]
	s.flying = false
}
