package netswitch

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// feed runs a framer over a stream in pieces of the given size and returns where
// messages ended.
func feed(f *framer, stream []byte, size int, method string) (ends []int, err error) {
	pos := 0
	for pos < len(stream) {
		piece := stream[pos:min(len(stream), pos+size)]
		for {
			n, ev, err := f.next(piece)
			pos += n
			piece = piece[n:]
			if err != nil {
				return ends, err
			}
			if ev == frameMore {
				break
			}
			if ev == frameMessage {
				ends = append(ends, pos)
			} else if err := f.decide(method); err != nil {
				return ends, err
			}
		}
	}
	return ends, nil
}

func TestFramerFindsEnds(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\n"
	for name, tc := range map[string]struct {
		response bool
		method   string
		parts    []string // each one message
		open     bool     // the last part has no end
		bad      bool
	}{
		"length":         {true, "GET", []string{ok + "Content-Length: 5\r\n\r\nhello", ok + "content-length:0\r\n\r\n"}, false, false},
		"chunked":        {true, "GET", []string{ok + "Transfer-Encoding: gzip, Chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n"}, false, false},
		"head":           {true, "HEAD", []string{ok + "Content-Length: 5\r\n\r\n", ok + "Content-Length: 7\r\n\r\n"}, false, false},
		"no body":        {true, "GET", []string{"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"}, false, false},
		"interim":        {true, "GET", []string{"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", ok + "Content-Length: 1\r\n\r\nx"}, false, false},
		"until close":    {true, "GET", []string{"HTTP/1.0 200 OK\r\n\r\nno end is told"}, true, false},
		"bare lf":        {true, "GET", []string{"HTTP/1.1 200 OK\nContent-Length: 2\n\nab"}, false, false},
		"no reason":      {true, "GET", []string{"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"}, false, false},
		"request":        {false, "", []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\nPOST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"}, false, false},
		"request chunks": {false, "", []string{"PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"}, false, false},
		"two lengths":    {true, "GET", []string{ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"}, true, true},
		"negative":       {true, "GET", []string{ok + "Content-Length: -1\r\n\r\n"}, true, true},
		"folded":         {true, "GET", []string{ok + "Transfer-Encoding:\r\n chunked\r\n\r\n"}, true, true},
		"bad chunk":      {true, "GET", []string{ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"}, true, true},
		"long chunk":     {true, "GET", []string{ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"}, true, true},
		"tls":            {false, "", []string{"\x16\x03\x01\x02\x00\x01\n"}, true, true},
		"http/2":         {false, "", []string{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}, true, true},
		"endless line":   {false, "", []string{"GET /" + strings.Repeat("a", maxHeadLine) + " HTTP/1.1\r\n\r\n"}, true, true},
		"endless head":   {true, "GET", []string{ok + strings.Repeat("X: y\r\n", maxHead/6+1) + "\r\n"}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			stream := []byte(strings.Join(tc.parts, ""))
			for _, size := range []int{1, 2, 3, 7, 1 << 20} {
				ends, err := feed(&framer{response: tc.response}, stream, size, tc.method)
				if tc.bad != errors.Is(err, errFraming) {
					t.Fatalf("pieces of %d: %v", size, err)
				}
				want, at := []int{}, 0
				for i, p := range tc.parts {
					at += len(p)
					if !tc.open || i < len(tc.parts)-1 {
						want = append(want, at)
					}
				}
				if len(ends) != len(want) || len(ends) > 0 && ends[len(ends)-1] != want[len(want)-1] {
					t.Errorf("pieces of %d: ends %v, want %v", size, ends, want)
				}
			}
		})
	}
}

// Whatever comes: no panic, bounded memory, the same result however it is cut; and
// where the standard library reads a whole answer, the end is where it says.
func FuzzFramer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), 3, true)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), 1, true)
	f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\r\n\r\n"), 2, false)
	f.Fuzz(func(t *testing.T, stream []byte, size int, response bool) {
		if size < 1 || size > 1<<16 {
			size = 1
		}
		whole := &framer{response: response}
		ends, err := feed(whole, stream, len(stream)+1, "GET")
		pieces := &framer{response: response}
		cutEnds, cutErr := feed(pieces, stream, size, "GET")
		if (err == nil) != (cutErr == nil) || len(ends) != len(cutEnds) {
			t.Fatalf("whole: %v %v, in pieces of %d: %v %v", ends, err, size, cutEnds, cutErr)
		}
		for i := range ends {
			if ends[i] != cutEnds[i] {
				t.Fatalf("ends %v and %v", ends, cutEnds)
			}
		}
		if cap(pieces.line) > 4*maxHeadLine {
			t.Fatalf("keeps %d bytes", cap(pieces.line))
		}
		if response && len(ends) > 0 {
			compareWithLibrary(t, stream, ends[0])
		}
	})
}

func compareWithLibrary(t *testing.T, stream []byte, end int) {
	r := bytes.NewReader(stream)
	br := bufio.NewReader(r)
	resp, err := http.ReadResponse(br, &http.Request{Method: "GET"})
	if err != nil || resp.StatusCode == 101 || resp.StatusCode < 200 {
		return
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return
	}
	resp.Body.Close()
	// The library leaves the trailer's last line end in some cases.
	if got := len(stream) - r.Len() - br.Buffered(); got > end {
		t.Fatalf("end at %d, the library reads to %d of %q", end, got, stream)
	}
}
