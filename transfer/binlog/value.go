package binlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"strconv"

	"imago.dev/imago/transfer/rows"
)

// errShortRow: an image ends before its columns do.
var errShortRow = errors.New("the row image ends too early")

// A valueReader reads one value at the front of b and says how many bytes it took.
// Text that must be made is appended to the arena; other cells are parts of b.
type valueReader func(a *arena, b []byte) (v rows.Cell, n int, err error)

// arena is where the text of many values lies side by side; what was handed out
// stays valid while it grows.
type arena struct{ buf []byte }

// start makes room for a value of about n bytes.
func (a *arena) start(n int) []byte {
	if cap(a.buf)-len(a.buf) < n {
		a.buf = make([]byte, 0, max(4096, n))
	}
	return a.buf[len(a.buf):]
}

// keep is the value that was appended to what start gave.
func (a *arena) keep(v []byte) rows.Cell {
	if len(v) <= cap(a.buf)-len(a.buf) {
		a.buf = a.buf[:len(a.buf)+len(v)]
	}
	return v[:len(v):len(v)]
}

// fixed reads values of a fixed size by a function that appends their text.
func fixed(size int, text func(dst, b []byte) []byte) valueReader {
	return func(a *arena, b []byte) (rows.Cell, int, error) {
		if len(b) < size {
			return nil, 0, errShortRow
		}
		return a.keep(text(a.start(40), b[:size])), size, nil
	}
}

// prefixed reads bytes that their own length precedes.
func prefixed(lengthBytes int) valueReader {
	return func(_ *arena, b []byte) (rows.Cell, int, error) {
		if len(b) < lengthBytes {
			return nil, 0, errShortRow
		}
		n := littleEndian(b[:lengthBytes])
		if n > uint64(len(b)-lengthBytes) {
			return nil, 0, errShortRow
		}
		end := lengthBytes + int(n)
		return b[lengthBytes:end:end], end, nil
	}
}

func littleEndian(b []byte) uint64 {
	var v uint64
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

func bigEndian(b []byte) uint64 {
	var v uint64
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v
}

func integer(size int, unsigned bool) valueReader {
	return fixed(size, func(dst, b []byte) []byte {
		v := littleEndian(b)
		if unsigned {
			return strconv.AppendUint(dst, v, 10)
		}
		shift := 64 - 8*size
		return strconv.AppendInt(dst, int64(v<<shift)>>shift, 10)
	})
}

func float32Value(dst, b []byte) []byte {
	return rows.AppendFloat32(dst, math.Float32frombits(binary.LittleEndian.Uint32(b)))
}

func float64Value(dst, b []byte) []byte {
	return rows.AppendFloat64(dst, math.Float64frombits(binary.LittleEndian.Uint64(b)))
}

func bitValue(dst, b []byte) []byte { return strconv.AppendUint(dst, bigEndian(b), 10) }

func yearValue(dst, b []byte) []byte {
	if b[0] == 0 {
		return append(dst, "0000"...)
	}
	return strconv.AppendInt(dst, 1900+int64(b[0]), 10)
}

// decimalBytes is how much room so many digits take: 4 bytes for 9 of them.
func decimalBytes(digits int) int {
	return digits/9*4 + [...]int{0, 1, 1, 2, 2, 3, 3, 4, 4}[digits%9]
}

// decimalReader reads the packed form: groups of nine digits, big-endian, the sign
// in the first bit, all bits inverted if negative.
func decimalReader(precision, scale int) (valueReader, error) {
	if precision > 65 || scale > precision {
		return nil, fmt.Errorf("DECIMAL(%d,%d)", precision, scale)
	}
	whole := precision - scale
	size := decimalBytes(whole) + decimalBytes(scale)
	if size == 0 {
		return nil, fmt.Errorf("DECIMAL(%d,%d)", precision, scale)
	}
	return func(a *arena, b []byte) (rows.Cell, int, error) {
		if len(b) < size {
			return nil, 0, errShortRow
		}
		var packed [40]byte
		copy(packed[:], b[:size])
		negative := packed[0]&0x80 == 0
		packed[0] ^= 0x80
		if negative {
			for i := range packed[:size] {
				packed[i] ^= 0xff
			}
		}
		dst := a.start(precision + 4)
		if negative {
			dst = append(dst, '-')
		}
		from := len(dst)
		rest := packed[:size]
		if n := whole % 9; n > 0 {
			dst = appendDigits(dst, &rest, n)
		}
		for range whole / 9 {
			dst = appendDigits(dst, &rest, 9)
		}
		if whole == 0 {
			dst = append(dst, '0')
		}
		if scale > 0 {
			dst = append(dst, '.')
		}
		for range scale / 9 {
			dst = appendDigits(dst, &rest, 9)
		}
		if n := scale % 9; n > 0 {
			dst = appendDigits(dst, &rest, n)
		}
		// Zeros in front, but not the last one.
		zeros := 0
		for from+zeros+1 < len(dst) && dst[from+zeros] == '0' && dst[from+zeros+1] != '.' {
			zeros++
		}
		dst = append(dst[:from], dst[from+zeros:]...)
		return rows.CanonicalDecimal(a.keep(dst)), size, nil
	}, nil
}

// appendDigits appends one group of digits.
func appendDigits(dst []byte, rest *[]byte, digits int) []byte {
	n := decimalBytes(digits)
	v := bigEndian((*rest)[:n])
	*rest = (*rest)[n:]
	return appendPadded(dst, v, digits)
}

// appendPadded appends v with at least so many digits.
func appendPadded(dst []byte, v uint64, digits int) []byte {
	var text [20]byte
	i := len(text)
	for v > 0 || digits > 0 {
		i--
		text[i] = '0' + byte(v%10)
		v /= 10
		digits--
	}
	return append(dst, text[i:]...)
}

// padded reads BINARY(n): the log leaves out the zeros at the end.
func padded(read valueReader, size int) valueReader {
	return func(a *arena, b []byte) (rows.Cell, int, error) {
		v, n, err := read(a, b)
		if err != nil || len(v) == size {
			return v, n, err
		}
		if len(v) > size {
			return nil, 0, fmt.Errorf("%d bytes in a column of %d", len(v), size)
		}
		full := append(a.start(size), v...)
		for len(full) < size {
			full = append(full, 0)
		}
		return a.keep(full), n, nil
	}
}

// converted reads bytes and makes text of them.
func converted(read valueReader, text func(dst, v []byte) []byte) valueReader {
	return func(a *arena, b []byte) (rows.Cell, int, error) {
		v, n, err := read(a, b)
		if err != nil {
			return nil, 0, err
		}
		return a.keep(text(a.start(48), v)), n, nil
	}
}

// addressText is the text of an INET4 or INET6.
func addressText(dst, v []byte) []byte {
	a, _ := netip.AddrFromSlice(v)
	return a.AppendTo(dst)
}

// uuidText is the text of a UUID as MariaDB stores it: the five groups in reverse
// order, so that the node comes first; since 10.11.5 only those of versions 1 to 5,
// for the later ones sort by time as they are.
func uuidText(dst, v []byte) []byte {
	var m [16]byte
	if v[6]&0x80 != 0 && int8(v[8]) > 0 && v[8] < 0x60 {
		copy(m[0:4], v[12:16])
		copy(m[4:6], v[10:12])
		copy(m[6:8], v[8:10])
		copy(m[8:10], v[6:8])
		copy(m[10:16], v[0:6])
	} else {
		copy(m[:], v)
	}
	const digits = "0123456789abcdef"
	for i, x := range m {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, digits[x>>4], digits[x&15])
	}
	return dst
}

func enumReader(size int, labels []string) (valueReader, error) {
	if size != 1 && size != 2 {
		return nil, fmt.Errorf("an ENUM of %d bytes", size)
	}
	return func(_ *arena, b []byte) (rows.Cell, int, error) {
		if len(b) < size {
			return nil, 0, errShortRow
		}
		i := littleEndian(b[:size])
		if i == 0 {
			return rows.Cell{}, size, nil
		}
		if i > uint64(len(labels)) {
			return nil, 0, fmt.Errorf("ENUM value %d of %d", i, len(labels))
		}
		return rows.Cell(labels[i-1]), size, nil
	}, nil
}

func setReader(size int, labels []string, comma string) (valueReader, error) {
	if size < 1 || size > 8 {
		return nil, fmt.Errorf("a SET of %d bytes", size)
	}
	return func(a *arena, b []byte) (rows.Cell, int, error) {
		if len(b) < size {
			return nil, 0, errShortRow
		}
		mask := littleEndian(b[:size])
		if bits.Len64(mask) > len(labels) {
			return nil, 0, fmt.Errorf("SET value %#x of %d labels", mask, len(labels))
		}
		dst := a.start(64)
		for i, first := 0, true; mask != 0; i, mask = i+1, mask>>1 {
			if mask&1 == 0 {
				continue
			}
			if !first {
				dst = append(dst, comma...)
			}
			dst, first = append(dst, labels[i]...), false
		}
		return a.keep(dst), size, nil
	}, nil
}
