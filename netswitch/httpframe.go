package netswitch

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// errFraming says that a stream is not HTTP/1.x as this parser knows it. The
// connection is then followed by its silence only.
var errFraming = errors.New("not HTTP/1.x framing")

// Bounds on what strangers may make us keep.
const (
	maxHeadLine = 16 << 10
	maxHead     = 256 << 10
)

type frameState int

const (
	frameStart   frameState = iota // before the first line of a message
	frameHeaders                   // in the header fields
	frameDecide                    // headers are whole; the body's kind is to be decided
	frameBody                      // left bytes to go
	frameChunkSize
	frameChunkData
	frameChunkEnd // the line end after a chunk
	frameTrailers
	frameUntilClose
	frameEnd // whole; told once, then back to the start
)

type frameEvent int

const (
	frameMore    frameEvent = iota // all input is used up
	frameHead                      // headers are whole; decide must follow
	frameMessage                   // the message is whole
)

// framer finds the boundaries of HTTP/1.x messages in one direction of a
// connection, byte by byte as they come. It keeps at most one line.
type framer struct {
	response bool
	state    frameState
	line     []byte
	headSize int
	left     uint64

	method  string // of a request
	status  int    // of a response
	length  int64  // Content-Length, -1 when absent
	chunked bool
	coded   bool // some other transfer coding is last

	// onLine, when set, is told each header line that lies whole in the present
	// input, by its offsets, line end excluded.
	onLine func(line []byte, start, end int)
}

// atStart says that no part of a message has been seen since the last whole one.
func (f *framer) atStart() bool { return f.state == frameStart && len(f.line) == 0 }

// next consumes input up to the next event and returns how much it used.
func (f *framer) next(b []byte) (used int, ev frameEvent, err error) {
	for {
		switch f.state {
		case frameDecide:
			return used, frameMore, errFraming // the caller forgot to decide
		case frameEnd:
			f.state = frameStart
			return used, frameMessage, nil
		}
		if used == len(b) {
			return used, frameMore, nil
		}
		switch f.state {
		case frameUntilClose:
			return len(b), frameMore, nil
		case frameBody, frameChunkData:
			used += f.skip(len(b) - used)
		default:
			n, whole, err := f.takeLine(b, used)
			used += n
			if err != nil {
				return used, frameMore, err
			}
			if whole {
				if err := f.endLine(); err != nil {
					return used, frameMore, err
				}
			}
			if f.state == frameDecide {
				return used, frameHead, nil
			}
		}
	}
}

func (f *framer) skip(have int) int {
	n := uint64(have)
	if n >= f.left {
		n = f.left
		if f.state == frameBody {
			f.state = frameEnd
		} else {
			f.state = frameChunkEnd
		}
	}
	f.left -= n
	return int(n)
}

// takeLine moves input into the line kept, up to and with the line feed.
func (f *framer) takeLine(b []byte, from int) (n int, whole bool, err error) {
	rest := b[from:]
	begun := len(f.line) == 0
	n = bytes.IndexByte(rest, '\n') + 1
	whole = n > 0
	if !whole {
		n = len(rest)
	}
	if len(f.line)+n > maxHeadLine {
		return n, false, errFraming
	}
	f.line = append(f.line, rest[:n]...)
	if f.state == frameStart || f.state == frameHeaders || f.state == frameTrailers {
		if f.headSize += n; f.headSize > maxHead {
			return n, false, errFraming
		}
	}
	if whole {
		f.line = bytes.TrimSuffix(f.line[:len(f.line)-1], []byte("\r"))
		if begun && f.state == frameHeaders && f.onLine != nil {
			f.onLine(f.line, from, from+len(f.line))
		}
	}
	return n, whole, nil
}

func (f *framer) endLine() error {
	line := string(f.line)
	f.line = f.line[:0]
	switch f.state {
	case frameStart:
		return f.startLine(line)
	case frameHeaders:
		if line == "" {
			f.state = frameDecide
			return nil
		}
		return f.headerLine(line)
	case frameChunkSize:
		return f.chunkSize(line)
	case frameChunkEnd:
		if line != "" {
			return errFraming
		}
		f.state = frameChunkSize
	case frameTrailers:
		if line == "" {
			f.state = frameEnd
		}
	}
	return nil
}

func (f *framer) startLine(line string) error {
	if line == "" && !f.response {
		return nil // some clients end a body with a line end too many
	}
	f.method, f.status, f.length, f.chunked, f.coded, f.headSize = "", 0, -1, false, false, len(line)
	f.state = frameHeaders
	if f.response {
		return f.statusLine(line)
	}
	method, rest, ok := strings.Cut(line, " ")
	if !ok || !isToken(method) || !strings.Contains(rest, " HTTP/1.") {
		return errFraming
	}
	f.method = method
	return nil
}

func (f *framer) statusLine(line string) error {
	if len(line) < 12 || !strings.HasPrefix(line, "HTTP/1.") || line[8] != ' ' {
		return errFraming
	}
	status, err := strconv.ParseUint(line[9:12], 10, 16)
	if err != nil || status < 100 || len(line) > 12 && line[12] != ' ' {
		return errFraming
	}
	f.status = int(status)
	return nil
}

func isToken(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func (f *framer) headerLine(line string) error {
	if line[0] == ' ' || line[0] == '\t' {
		return errFraming // a folded line could hide the framing
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return errFraming
	}
	value = strings.Trim(value, " \t")
	switch strings.ToLower(name) {
	case "content-length":
		n, err := strconv.ParseUint(value, 10, 62)
		if err != nil || f.length >= 0 && f.length != int64(n) {
			return errFraming
		}
		f.length = int64(n)
	case "transfer-encoding":
		last := value[strings.LastIndexByte(value, ',')+1:]
		f.chunked = strings.EqualFold(strings.Trim(last, " \t"), "chunked")
		f.coded = !f.chunked
	}
	return nil
}

// decide settles what follows the headers; method is that of the request when this
// is a response, "" when it is not known.
func (f *framer) decide(method string) error {
	switch {
	case f.response && (f.status < 200 || f.status == 204 || f.status == 304 || method == "HEAD"):
		f.state = frameEnd
	case f.chunked:
		f.state = frameChunkSize
	case f.coded && f.response:
		f.state = frameUntilClose
	case f.coded:
		return errFraming
	case f.length > 0:
		f.state, f.left = frameBody, uint64(f.length)
	case f.length == 0 || !f.response:
		f.state = frameEnd
	default:
		f.state = frameUntilClose
	}
	return nil
}

func (f *framer) chunkSize(line string) error {
	size, _, _ := strings.Cut(line, ";")
	n, err := strconv.ParseUint(strings.Trim(size, " \t"), 16, 62)
	if err != nil {
		return errFraming
	}
	f.left = n
	f.state = frameChunkData
	if n == 0 {
		f.state, f.headSize = frameTrailers, 0
	}
	return nil
}

// startsRequest says whether data looks like the beginning of an HTTP/1.x request.
func startsRequest(data []byte) bool {
	end := bytes.IndexByte(data[:min(len(data), 33)], ' ')
	if end < 3 || len(data) < end+2 {
		return false
	}
	for _, c := range data[:end] {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return data[end+1] == '/' || data[end+1] == '*' || bytes.HasPrefix(data[end+1:], []byte("http"))
}

func startsResponse(data []byte) bool { return bytes.HasPrefix(data, []byte("HTTP/1.")) }
