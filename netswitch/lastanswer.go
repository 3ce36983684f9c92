package netswitch

import (
	"bytes"
	"strings"
)

const sayClose = "Connection: close"

// patch is a header line that was overwritten in place, kept so that the server's
// retransmissions carry the same bytes.
type patch struct {
	seq  uint32
	text []byte
}

// apply rewrites what of the patch lies inside data, which begins at seq.
func (p patch) apply(data []byte, seq uint32) bool {
	from := int(int32(p.seq - seq))
	text := p.text
	if from < 0 {
		if -from >= len(text) {
			return false
		}
		text, from = text[-from:], 0
	}
	if from >= len(data) {
		return false
	}
	return copy(data[from:], text) > 0
}

// closeLine looks for the header line of an answer that is best overwritten with
// "Connection: close", so that the client knows before it has read the answer that
// it must not use the connection again. A FIN alone comes too late for a client
// that sends its next request at once. The line must be as long or longer, because
// sequence numbers cannot move; the rest is filled with blanks, which HTTP allows.
type closeLine struct {
	said       bool // the server says close by itself
	rank       int
	start, end int
}

// expendable header fields, the best first. A proxy may drop or set each of them.
var expendable = []string{"connection", "keep-alive", "server", "x-powered-by", "date"}

func (c *closeLine) consider(line []byte, start, end int) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return
	}
	field := strings.ToLower(string(name))
	if field == "connection" && strings.Contains(strings.ToLower(string(value)), "close") {
		c.said = true
	}
	for i, e := range expendable {
		if field == e && end-start >= len(sayClose) && (c.rank == 0 || i+1 < c.rank) {
			c.rank, c.start, c.end = i+1, start, end
		}
	}
}

// overwrite writes the line into data and returns what must be repeated later.
func (c *closeLine) overwrite(data []byte, seq uint32) (patch, bool) {
	if c.said || c.rank == 0 {
		return patch{}, false
	}
	text := append([]byte(sayClose), bytes.Repeat([]byte(" "), c.end-c.start-len(sayClose))...)
	copy(data[c.start:c.end], text)
	return patch{seq + uint32(c.start), text}, true
}
