package catchup

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"
)

// A manifest is a file header and blocks, each with its length and sum. Its
// records come in the order of the walk. Whatever is lost or damaged, the rest
// of it only counts as not known: the entries are then compared anew.
const (
	magic     = "imago tree 1\n"
	blockHead = 8
	maxBlock  = 128 << 10
	fullBlock = 60 << 10
	maxName   = 4 << 10
)

// The kinds of blocks.
const (
	blockHeader  = 'H'
	blockRecords = 'R'
	blockFooter  = 'F'
)

// recordKind says what a record is of.
type recordKind byte

const (
	recordEntry recordKind = 'f' // anything but a directory
	recordDir   recordKind = 'd' // a directory begins
	recordEnd   recordKind = 'e' // the directory ends; its own idents
)

// record is one token of a manifest.
type record struct {
	kind     recordKind
	name     string
	src, dst ident
}

// header says what a manifest is of.
type header struct {
	label, target string
	uid, gid      int64
	// window is how long before a view an entry may have been changed without
	// its ctime telling it apart from a later change.
	window time.Duration
}

// footer ends a manifest that was finished.
type footer struct {
	// clock is a time of the source's clock that is not later than the view.
	clock int64
	// taken is the view's instant by the host's clock, 0 if not known.
	taken int64
	// settled: what has an earlier ctime cannot change without a new one.
	settled int64
	records uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendIdent(b []byte, id ident) []byte {
	b = binary.AppendUvarint(b, id.ino)
	b = binary.AppendVarint(b, id.size)
	b = binary.AppendVarint(b, id.mtime)
	return binary.AppendVarint(b, id.ctime)
}

func (h header) append(b []byte) []byte {
	b = append(b, blockHeader)
	b = appendText(appendText(b, h.label), h.target)
	b = binary.AppendVarint(binary.AppendVarint(b, h.uid), h.gid)
	return binary.AppendVarint(b, int64(h.window))
}

// append has a fixed length, so that the footer is found from the end.
func (f footer) append(b []byte) []byte {
	b = append(b, blockFooter)
	for _, v := range []uint64{uint64(f.clock), uint64(f.taken), uint64(f.settled), f.records} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

const footerSize = 1 + 4*8

func (r record) append(b []byte) []byte {
	b = append(b, byte(r.kind))
	if r.kind != recordEnd {
		b = appendText(b, r.name)
	}
	if r.kind != recordDir {
		b = appendIdent(appendIdent(b, r.src), r.dst)
	}
	return b
}

// decoder takes values from a block; after the first that is not there all
// further ones are zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text(most int) string {
	n := d.uvarint()
	if d.bad || n > uint64(most) || n > uint64(len(d.b)) {
		d.fail()
		return ""
	}
	v := string(d.b[:n])
	d.b = d.b[n:]
	return v
}

func (d *decoder) ident() ident {
	return ident{ino: d.uvarint(), size: d.varint(), mtime: d.varint(), ctime: d.varint()}
}

// record takes the next record of a block.
func (d *decoder) record() (record, bool) {
	r := record{kind: recordKind(d.byte())}
	switch r.kind {
	case recordEntry, recordDir, recordEnd:
	default:
		return r, false
	}
	if r.kind != recordEnd {
		if r.name = d.text(maxName); !goodName(r.name) {
			return r, false
		}
	}
	if r.kind != recordDir {
		r.src, r.dst = d.ident(), d.ident()
	}
	return r, !d.bad
}

func decodeHeader(b []byte) (header, bool) {
	d := decoder{b: b}
	if d.byte() != blockHeader {
		return header{}, false
	}
	h := header{label: d.text(maxBlock), target: d.text(maxBlock), uid: d.varint(), gid: d.varint(), window: time.Duration(d.varint())}
	return h, !d.bad && len(d.b) == 0
}

func decodeFooter(b []byte) (footer, bool) {
	if len(b) != footerSize || b[0] != blockFooter {
		return footer{}, false
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(b[1+8*i:]) }
	return footer{clock: int64(at(0)), taken: int64(at(1)), settled: int64(at(2)), records: at(3)}, true
}

// before is t - d without a wrap.
func before(t int64, d time.Duration) int64 {
	if t < math.MinInt64+int64(d) {
		return math.MinInt64
	}
	return t - int64(d)
}
