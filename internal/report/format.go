package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// thin is the narrow no-break space that groups digits and joins numbers with their units.
const thin = "\u202f"

// number groups digits by thousands.
func number[T int | int64 | uint64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "−", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteString(thin)
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// seconds writes a length of time with about three digits.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s) || s < 0:
		return "–"
	case s < 0.9995:
		return strconv.FormatFloat(s*1000, 'f', decimals(s*1000), 64) + thin + "ms"
	case s < 99.95:
		return strconv.FormatFloat(s, 'f', 1, 64) + thin + "s"
	case s < 3600:
		whole := int64(math.Round(s))
		return fmt.Sprintf("%d%smin %02d%ss", whole/60, thin, whole%60, thin)
	case s < 48*3600:
		minutes := int64(math.Round(s / 60))
		return fmt.Sprintf("%d%sh %02d%smin", minutes/60, thin, minutes%60, thin)
	}
	return fmt.Sprintf("%.1f%sdays", s/86400, thin)
}

func decimals(v float64) int {
	switch {
	case v < 10:
		return 2
	case v < 100:
		return 1
	}
	return 0
}

func millis(ms float64) string { return seconds(ms / 1000) }

func micros(us float64) string {
	if us >= 1000 {
		return seconds(us / 1e6)
	}
	return strconv.FormatFloat(us, 'f', 0, 64) + thin + "µs"
}

// size writes bytes in binary units.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d%sB", n, thin)
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + thin + units[i]
}

// plural gives "1 request" or "3 requests".
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// clock and day write times in the zone of the run.
func clock(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return "–"
	}
	return t.In(zone).Format("15:04:05")
}

func day(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return "–"
	}
	return t.In(zone).Format("2 January 2006, 15:04 MST")
}
