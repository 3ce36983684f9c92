package plan

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time, written as in Go ("90s", "1h30m") or in whole days ("7d").
type Duration struct{ time.Duration }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 64)
		if err != nil || n > math.MaxInt64/int64(24*time.Hour) || n < 0 {
			return fmt.Errorf("%q is no number of days", s)
		}
		d.Duration = time.Duration(n) * 24 * time.Hour
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is no duration", s)
	}
	d.Duration = v
	return nil
}

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Bytes is a size in bytes, written with its unit: "2GiB", "500MB", "4096B".
type Bytes uint64

var byteUnits = []struct {
	suffix string
	size   uint64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

var errNoUnit = errors.New("a size needs a number and a unit")

// UnmarshalText reads a size. Fractions are allowed where they come to whole bytes ("1.5GiB").
func (b *Bytes) UnmarshalText(text []byte) error {
	s := string(text)
	for _, u := range byteUnits {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := wholeBytes(number, u.size)
		if err != nil {
			return fmt.Errorf("%q: %w", s, err)
		}
		*b = Bytes(n)
		return nil
	}
	return fmt.Errorf("%q: %w", s, errNoUnit)
}

// wholeBytes multiplies exactly, since sizes of disks must not pass through floating point.
func wholeBytes(number string, unit uint64) (uint64, error) {
	if number == "" || len(number) > 24 || strings.Trim(number, "0123456789.") != "" {
		return 0, errNoUnit
	}
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, errNoUnit
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).SetUint64(unit)))
	if !r.IsInt() {
		return 0, errors.New("is no whole number of bytes")
	}
	if !r.Num().IsInt64() {
		return 0, errors.New("is too large")
	}
	return r.Num().Uint64(), nil
}

// String gives the largest unit in which the size is a whole number.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && uint64(b)%u.size == 0 {
			return strconv.FormatUint(uint64(b)/u.size, 10) + u.suffix
		}
	}
	return "0B"
}

// MarshalText writes the size with its unit.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Rate is a speed in bytes per second, written as a size and "/s": "50MiB/s".
type Rate uint64

// UnmarshalText reads a rate.
func (r *Rate) UnmarshalText(text []byte) error {
	size, ok := strings.CutSuffix(string(text), "/s")
	if !ok {
		return fmt.Errorf("%q does not end in /s", text)
	}
	var b Bytes
	if err := b.UnmarshalText([]byte(size)); err != nil {
		return err
	}
	*r = Rate(b)
	return nil
}

// String gives the rate as a plan writes it.
func (r Rate) String() string { return Bytes(r).String() + "/s" }

// MarshalText writes the rate with its unit.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
