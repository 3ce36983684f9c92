package guestagent

import (
	"bytes"
	"fmt"
)

// shownLine is the most bytes of a line that is shown in one piece.
const shownLine = 4 << 10

// MaxLine is the longest line, in bytes, that Lines hands over.
const MaxLine = 1 << 20

// LineTooLongError is returned by Lines for a line over MaxLine.
type LineTooLongError struct {
	// Number counts from one; Head is the line's cleaned beginning.
	Number int64
	Head   string
}

func (e *LineTooLongError) Error() string {
	return fmt.Sprintf("line %d is longer than %d bytes; it begins with %q", e.Number, MaxLine, e.Head)
}

// shownLines cuts raw output into cleaned lines for a person. A carriage return
// ends a line too (progress bars), and a long line comes in pieces.
type shownLines struct {
	buf     []byte
	afterCR bool // the last byte seen was a carriage return
	emit    func(line string)
}

func (l *shownLines) write(p []byte) {
	for len(p) > 0 {
		if l.afterCR && p[0] == '\n' {
			p, l.afterCR = p[1:], false
			continue
		}
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			l.keep(p)
			return
		}
		l.keep(p[:i])
		// A bare newline is an empty line; a bare return is none.
		if len(l.buf) > 0 || p[i] == '\n' {
			l.flush()
		}
		l.afterCR = p[i] == '\r'
		p = p[i+1:]
	}
}

func (l *shownLines) keep(p []byte) {
	for len(p) > 0 {
		l.afterCR = false
		n := min(len(p), shownLine-len(l.buf))
		l.buf = append(l.buf, p[:n]...)
		p = p[n:]
		if len(l.buf) == shownLine {
			l.flush()
		}
	}
}

func (l *shownLines) flush() {
	l.emit(Clean(string(l.buf)))
	l.buf = l.buf[:0]
}

func (l *shownLines) end() {
	if len(l.buf) > 0 {
		l.flush()
	}
}

// rawLines cuts output into whole lines, without the newline, as they are.
type rawLines struct {
	buf   []byte
	count int64
	emit  func(line []byte) error
}

func (l *rawLines) write(p []byte) error {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		end := i
		if i < 0 {
			end = len(p)
		}
		if len(l.buf)+end > MaxLine {
			return l.tooLong(p[:end])
		}
		if i < 0 {
			l.buf = append(l.buf, p...)
			return nil
		}
		if err := l.line(p[:i]); err != nil {
			return err
		}
		p = p[i+1:]
	}
	return nil
}

// line hands over one line; what fits into p is not copied.
func (l *rawLines) line(p []byte) error {
	if len(l.buf) > 0 {
		l.buf = append(l.buf, p...)
		p = l.buf
	}
	l.count++
	err := l.emit(p)
	l.buf = l.buf[:0]
	return err
}

func (l *rawLines) tooLong(p []byte) error {
	head := append(bytes.Clone(l.buf[:min(len(l.buf), 60)]), p[:min(len(p), 60)]...)
	return &LineTooLongError{Number: l.count + 1, Head: Clean(string(head[:min(len(head), 60)]))}
}

func (l *rawLines) end() error {
	if len(l.buf) == 0 {
		return nil
	}
	return l.line(nil)
}

// tail keeps the last lines.
type tail struct{ lines []string }

const tailLines = 20

func (t *tail) add(line string) {
	if len(t.lines) == tailLines {
		copy(t.lines, t.lines[1:])
		t.lines = t.lines[:tailLines-1]
	}
	t.lines = append(t.lines, line)
}
