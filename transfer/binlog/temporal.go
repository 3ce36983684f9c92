package binlog

import (
	"encoding/binary"
	"fmt"
	"time"

	"imago.dev/imago/transfer/rows"
)

// appendDate appends "2026-11-23".
func appendDate(dst []byte, year, month, day uint64) []byte {
	dst = appendPadded(dst, year, 4)
	dst = append(dst, '-')
	dst = appendPadded(dst, month, 2)
	dst = append(dst, '-')
	return appendPadded(dst, day, 2)
}

// appendClock appends "01:02:03".
func appendClock(dst []byte, hour, minute, second uint64) []byte {
	dst = appendPadded(dst, hour, 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, minute, 2)
	dst = append(dst, ':')
	return appendPadded(dst, second, 2)
}

// appendFraction appends ".456" of a number of microseconds.
func appendFraction(dst []byte, micro uint64, digits int) []byte {
	if digits == 0 {
		return dst
	}
	for range 6 - digits {
		micro /= 10
	}
	return appendPadded(append(dst, '.'), micro, digits)
}

func dateValue(dst, b []byte) []byte {
	v := littleEndian(b)
	return appendDate(dst, v>>9, v>>5&15, v&31)
}

// fractionBytes is the room of so many digits.
func fractionBytes(digits int) int { return (digits + 1) / 2 }

// fraction reads microseconds at the end of a value.
func fraction(b []byte) uint64 {
	switch len(b) {
	case 1:
		return bigEndian(b) * 10000
	case 2:
		return bigEndian(b) * 100
	case 3:
		return bigEndian(b)
	}
	return 0
}

// temporalReader reads TIME, DATETIME and TIMESTAMP in the format of MySQL 5.6,
// with so many digits of a fraction.
func temporalReader(kind rows.Kind, digits int) (valueReader, error) {
	if digits < 0 || digits > 6 {
		return nil, fmt.Errorf("%d digits of a second", digits)
	}
	extra := fractionBytes(digits)
	switch kind {
	case rows.DateTime:
		return fixed(5+extra, func(dst, b []byte) []byte {
			v := bigEndian(b[:5]) &^ (1 << 39) // the sign, which is always plus
			ym := v >> 22
			dst = appendDate(dst, ym/13, ym%13, v>>17&31)
			dst = append(dst, ' ')
			dst = appendClock(dst, v>>12&31, v>>6&63, v&63)
			return appendFraction(dst, fraction(b[5:]), digits)
		}), nil
	case rows.Timestamp:
		return fixed(4+extra, func(dst, b []byte) []byte {
			return appendTimestamp(dst, uint64(binary.BigEndian.Uint32(b)), fraction(b[4:]), digits)
		}), nil
	case rows.Time:
		return fixed(3+extra, func(dst, b []byte) []byte { return appendTime(dst, b, digits) }), nil
	}
	return nil, fmt.Errorf("kind %d has no time", kind)
}

func appendTimestamp(dst []byte, seconds, micro uint64, digits int) []byte {
	if seconds == 0 && micro == 0 {
		dst = append(dst, "0000-00-00 00:00:00"...)
		return appendFraction(dst, 0, digits)
	}
	dst = time.Unix(int64(seconds), 0).UTC().AppendFormat(dst, "2006-01-02 15:04:05")
	return appendFraction(dst, micro, digits)
}

// appendTime reads a number of which the first bit is the sign, inverted, and which
// is the two's complement if negative, the fraction included.
func appendTime(dst, b []byte, digits int) []byte {
	width := 8 * len(b)
	v := int64(bigEndian(b)) - 1<<(width-1)
	if v < 0 {
		dst = append(dst, '-')
		v = -v
	}
	extra := 8 * (len(b) - 3)
	whole, part := uint64(v)>>extra, uint64(v)&(1<<extra-1)
	dst = appendClock(dst, whole>>12&1023, whole>>6&63, whole&63)
	switch len(b) - 3 {
	case 1:
		part *= 10000
	case 2:
		part *= 100
	}
	return appendFraction(dst, part, digits)
}

// The formats of before MySQL 5.6, without fractions: tables of then still have them.

func oldTimestamp(dst, b []byte) []byte { return appendTimestamp(dst, littleEndian(b), 0, 0) }

func oldDateTime(dst, b []byte) []byte {
	v := littleEndian(b)
	d, c := v/1000000, v%1000000
	dst = appendDate(dst, d/10000, d/100%100, d%100)
	dst = append(dst, ' ')
	return appendClock(dst, c/10000, c/100%100, c%100)
}

func oldTime(dst, b []byte) []byte {
	v := int64(littleEndian(b)<<40) >> 40
	if v < 0 {
		dst = append(dst, '-')
		v = -v
	}
	return appendClock(dst, uint64(v)/10000, uint64(v)/100%100, uint64(v)%100)
}
