package benchtransfer

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// repeats is how often each thing is measured.
const repeats = 3

// spread is the median and the ends of some figures.
func spread(of []float64) (median, low, high float64) {
	s := slices.Sorted(slices.Values(of))
	if len(s) == 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2, s[0], s[len(s)-1]
}

// against sets each variant against the mean of the base before and after it.
func against(base, variant []float64) []float64 {
	var ratios []float64
	for i, v := range variant {
		ratios = append(ratios, v/((base[i]+base[i+1])/2))
	}
	return ratios
}

// pairs sets each base against the next one: what is measured where nothing differs.
func pairs(base []float64) []float64 {
	var ratios []float64
	for i := range len(base) - 1 {
		ratios = append(ratios, base[i]/base[i+1])
	}
	return ratios
}

// verdict is a ratio in words. No number is given unless the effect is larger than
// what A against A shows and all repeats agree on its direction.
func verdict(ratios, aa []float64) string {
	median, low, high := spread(ratios)
	noise := 0.0
	for _, r := range aa {
		noise = max(noise, math.Abs(math.Log(r)))
	}
	effect := math.Abs(math.Log(median))
	if len(ratios) < repeats || len(aa) < repeats || !(effect > noise) || low <= 1 && high >= 1 {
		return "not resolved"
	}
	if median < 0.1 {
		return fmt.Sprintf("%.3f [%.3f, %.3f]", median, low, high)
	}
	return fmt.Sprintf("%.2f [%.2f, %.2f]", median, low, high)
}

// interval is the A/A pairs' spread.
func interval(aa []float64) string {
	_, low, high := spread(aa)
	return fmt.Sprintf("[%.2f, %.2f]", low, high)
}

// figure is a median with its spread in a unit.
func figure(of []float64, unit string) string {
	format := "%.0f [%.0f, %.0f] %s"
	median, low, high := spread(of)
	switch {
	case median < 10:
		format = "%.2f [%.2f, %.2f] %s"
	case median < 1000:
		format = "%.1f [%.1f, %.1f] %s"
	}
	return fmt.Sprintf(format, median, low, high, unit)
}

// table prints lines of cells under a title.
type table struct {
	title string
	lines [][]string
	notes []string
}

func (t *table) add(cells ...string) { t.lines = append(t.lines, cells) }
func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) print(to io.Writer) {
	fmt.Fprintf(to, "\n%s\n", t.title)
	w := tabwriter.NewWriter(to, 0, 0, 3, ' ', 0)
	for _, line := range t.lines {
		fmt.Fprintf(w, "  %s\n", strings.Join(line, "\t"))
	}
	_ = w.Flush()
	for _, n := range t.notes {
		fmt.Fprintf(to, "  (%s)\n", n)
	}
}

// TestVerdict holds when a number is given.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name       string
		ratios, aa []float64
		want       string
	}{
		{"clear", []float64{1.5, 1.6, 1.7}, []float64{0.95, 1.02, 1.1}, "1.60 [1.50, 1.70]"},
		{"clearly less", []float64{0.5, 0.4, 0.45}, []float64{0.95, 1.02, 1.1}, "0.45 [0.40, 0.50]"},
		{"noise is wider", []float64{1.1, 1.12, 1.13}, []float64{0.8, 1.02, 1.1}, "not resolved"},
		{"no direction", []float64{0.9, 1.6, 1.7}, []float64{0.99, 1, 1.01}, "not resolved"},
		{"too few", []float64{1.6, 1.7}, []float64{0.99, 1, 1.01}, "not resolved"},
		{"without A/A", []float64{1.5, 1.6, 1.7}, nil, "not resolved"},
		{"not a number", []float64{math.NaN(), math.NaN(), math.NaN()}, []float64{1, 1, 1}, "not resolved"},
	} {
		if got := verdict(c.ratios, c.aa); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := against([]float64{1, 3, 5}, []float64{4, 2}); got[0] != 2 || got[1] != 0.5 {
		t.Errorf("against the neighbours: %v", got)
	}
}
