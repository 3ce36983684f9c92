package catchup

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
)

// reader reads the records of one manifest in their order.
type reader struct {
	src     *bufio.Reader
	head    header
	foot    footer
	ended   bool // there is a footer
	settled int64
	buf     []byte
	block   decoder
	next    record
	more    bool
}

// openManifest opens a manifest; nil if there is none that can be used.
func openManifest(path string, want header) (*reader, io.Closer) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil
	}
	r := newReader(f)
	if r == nil || !r.head.same(want) {
		_ = f.Close()
		return nil, nil
	}
	return r, f
}

func (h header) same(o header) bool {
	return h.label == o.label && h.target == o.target && h.uid == o.uid && h.gid == o.gid
}

// newReader reads the footer, if there is one, and goes to the first record.
func newReader(f io.ReadSeeker) *reader {
	r := &reader{}
	if _, err := f.Seek(-(blockHead + footerSize), io.SeekEnd); err == nil {
		tail := &reader{src: bufio.NewReader(f)}
		if b, ok := tail.read(); ok {
			r.foot, r.ended = decodeFooter(b)
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil
	}
	r.src = bufio.NewReaderSize(f, maxBlock)
	text := make([]byte, len(magic))
	if _, err := io.ReadFull(r.src, text); err != nil || string(text) != magic {
		return nil
	}
	b, ok := r.read()
	if !ok {
		return nil
	}
	if r.head, ok = decodeHeader(b); !ok || r.head.window < 0 {
		return nil
	}
	r.more = true
	r.advance()
	return r
}

// read returns the next block's content.
func (r *reader) read() ([]byte, bool) {
	var head [blockHead]byte
	if _, err := io.ReadFull(r.src, head[:]); err != nil {
		return nil, false
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || size > maxBlock {
		return nil, false
	}
	if cap(r.buf) < int(size) {
		r.buf = make([]byte, size)
	}
	b := r.buf[:size]
	if _, err := io.ReadFull(r.src, b); err != nil || crc32.Checksum(b, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, false
	}
	return b, true
}

// advance goes to the next record. Where there is none, or something is wrong,
// the manifest ends.
func (r *reader) advance() {
	for r.more && len(r.block.b) == 0 {
		r.more = r.nextBlock()
	}
	if !r.more {
		return
	}
	if r.next, r.more = r.block.record(); !r.more {
		r.block = decoder{}
	}
}

func (r *reader) nextBlock() bool {
	b, ok := r.read()
	if !ok || b[0] != blockRecords {
		return false
	}
	r.block = decoder{b: b[1:]}
	newest := r.block.varint()
	if r.block.bad {
		return false
	}
	// A manifest that was not finished knows less of the view's time.
	r.settled = before(newest, r.head.window)
	if r.ended {
		r.settled = r.foot.settled
	}
	return true
}

// enter goes into the directory name, which lies in the one we are in.
func (r *reader) enter(name string) bool {
	r.skipTo(name)
	if !r.more || r.next.kind != recordDir || r.next.name != name {
		return false
	}
	r.advance()
	return true
}

// find looks for an entry of the directory we are in; names must be asked for
// in their order.
func (r *reader) find(name string) (record, bool) {
	r.skipTo(name)
	if !r.more || r.next.kind != recordEntry || r.next.name != name {
		return record{}, false
	}
	return r.next, true
}

// knows tells whether the directory we are in had the name, of whatever kind.
func (r *reader) knows(name string) bool {
	r.skipTo(name)
	return r.more && r.next.kind != recordEnd && r.next.name == name
}

// leave ends the directory we are in, whatever is left of it.
func (r *reader) leave() (record, bool) {
	for r.more && r.next.kind != recordEnd {
		r.skip()
	}
	if !r.more {
		return record{}, false
	}
	end := r.next
	r.advance()
	return end, true
}

// skipTo passes what comes before name in the directory we are in.
func (r *reader) skipTo(name string) {
	for r.more && r.next.kind != recordEnd && r.next.name < name {
		r.skip()
	}
}

// skip passes one entry, with all that is in it.
func (r *reader) skip() {
	for depth := 0; r.more; {
		switch r.next.kind {
		case recordDir:
			depth++
		case recordEnd:
			depth--
		}
		r.advance()
		if depth <= 0 {
			return
		}
	}
}

// vouches tells whether a record says that nothing moved.
func (r *reader) vouches(rec record, src, dst ident) bool {
	return rec.src == src && rec.dst == dst && src.ctime < r.settled
}
