package transfer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
)

// ErrManifest is wrapped when a file is no manifest, or a damaged one.
var ErrManifest = errors.New("not a whole manifest")

const manifestHead = "imago manifest 1"

// maxManifestLine bounds a line: a quoted byte takes at most four.
const maxManifestLine = 2*MaxDigest + 1 + 4*MaxKey + 2 + 1

func objectLine(o object) string {
	return hex.EncodeToString([]byte(o.digest)) + " " + strconv.QuoteToASCII(o.key)
}

func tailLine(objects int64, sum string) string {
	return fmt.Sprintf("end %d %s", objects, sum)
}

// manifestReader is the stream of a manifest's objects. It accepts only what
// encodeManifest writes, byte for byte, and returns io.EOF only after the last
// line has proved the rest.
type manifestReader struct {
	r       *bufio.Reader
	sum     hash.Hash
	number  int64 // of the line
	last    string
	objects int64
	total   string // the file's sum, once it was read to its end
}

func newManifestReader(r io.Reader) *manifestReader {
	return &manifestReader{r: bufio.NewReaderSize(r, maxManifestLine), sum: sha256.New()}
}

func (m *manifestReader) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: line %d: %s", ErrManifest, m.number, fmt.Sprintf(format, args...))
}

// line returns the next line with its newline; it is valid until the next call.
func (m *manifestReader) line() ([]byte, error) {
	m.number++
	line, err := m.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, m.damaged("too long")
	case err == io.EOF:
		return nil, m.damaged("the file ends here")
	case err != nil:
		return nil, err
	}
	return line, nil
}

func (m *manifestReader) next() (object, error) {
	if m.total != "" {
		return object{}, io.EOF
	}
	if m.number == 0 {
		head, err := m.line()
		if err != nil {
			return object{}, err
		}
		if string(head) != manifestHead+"\n" {
			return object{}, m.damaged("it does not begin with %q", manifestHead)
		}
		m.sum.Write(head)
	}
	line, err := m.line()
	if err != nil {
		return object{}, err
	}
	if bytes.HasPrefix(line, []byte("end ")) {
		return object{}, m.finish(line)
	}
	return m.object(line)
}

func (m *manifestReader) object(line []byte) (object, error) {
	m.sum.Write(line)
	text := string(line[:len(line)-1])
	digest, quoted, ok := bytes.Cut(line[:len(line)-1], []byte(" "))
	if !ok {
		return object{}, m.damaged("no space between digest and key")
	}
	raw, err := hex.DecodeString(string(digest))
	if err != nil {
		return object{}, m.damaged("the digest is not hexadecimal")
	}
	key, err := strconv.Unquote(string(quoted))
	if err != nil {
		return object{}, m.damaged("the key is not a quoted string")
	}
	o, err := newObject(key, raw)
	if err != nil {
		return object{}, m.damaged("%v", err)
	}
	switch {
	case objectLine(o) != text:
		return object{}, m.damaged("it is not written as it should be")
	case o.key <= m.last:
		return object{}, m.damaged("its key does not come after the one before")
	}
	m.last = o.key
	m.objects++
	return o, nil
}

// finish checks the last line and returns io.EOF.
func (m *manifestReader) finish(line []byte) error {
	sum := hex.EncodeToString(m.sum.Sum(nil))
	if string(line) != tailLine(m.objects, sum)+"\n" {
		return m.damaged("number of objects or sum do not match what was read")
	}
	if _, err := m.r.ReadByte(); err == nil {
		return m.damaged("something follows the end")
	} else if err != io.EOF {
		return err
	}
	m.total = sum
	return io.EOF
}
