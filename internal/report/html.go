package report

import (
	"bytes"
	_ "embed" // for the page
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

//go:embed report.html.tmpl
var pageText string

// page is what the template sees.
type page struct {
	Report
	Zone     *time.Location
	Verdict  verdict
	Promises []promise
	Gantt    gantt
	Strip    *strip
	Versions []pair
	Served   []served
}

type pair struct{ Name, Value string }

// served is a row of the table of versions.
type served struct {
	Version, Class string
	Count          int64
	Percent        float64
}

// Render writes the report as one HTML page that needs nothing else. Totals and verdicts follow from the rest of r.
func Render(w io.Writer, r Report) error {
	r.complete()
	zone := r.Started.Location()
	p := page{Report: r, Zone: zone, Verdict: r.verdict(zone), Promises: r.promises(), Gantt: drawGantt(r.Phases, zone), Strip: r.drawStrip(zone)}
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		p.Versions = append(p.Versions, pair{name, r.Versions[name]})
	}
	p.Served = r.served()
	t, err := template.New("report").Funcs(p.funcs()).Parse(pageText)
	if err != nil {
		return fmt.Errorf("parse page of report: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return fmt.Errorf("render report: %w", err)
	}
	if _, err := w.Write(visible(b.Bytes())); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (r *Report) served() []served {
	class := r.classes()
	var rows []served
	var sum int64
	for _, n := range r.Clients.ByVersion {
		sum += n
	}
	for v, n := range r.Clients.ByVersion {
		rows = append(rows, served{v, class[v], n, 100 * float64(n) / float64(max(sum, 1))})
	}
	slices.SortFunc(rows, func(a, b served) int {
		if ra, rb := rank(a.Class), rank(b.Class); ra != rb {
			return ra - rb
		}
		return strings.Compare(a.Version, b.Version)
	})
	return rows
}

// funcs are the words of the template. Times are in the zone of the run.
func (p page) funcs() template.FuncMap {
	return template.FuncMap{
		"seconds": seconds, "millis": millis, "micros": micros, "size": size,
		"number": number[int64], "count": number[int], "unsigned": number[uint64],
		"clock":  func(t time.Time) string { return clock(t, p.Zone) },
		"day":    func(t time.Time) string { return day(t, p.Zone) },
		"short":  func(sum string) string { return sum[:min(len(sum), 16)] },
		"same":   compareSums,
		"xy":     func(v float64) string { return fmt.Sprintf("%.1f", v) },
		"plural": plural,
		"value":  func(n *uint64) uint64 { return *n },
		"int64":  func(n int) int64 { return int64(n) },
		"outcomeClass": func(o string) string {
			if o == "done" || o == "failed" || o == "running" {
				return "o-" + o
			}
			return "o-cut"
		},
	}
}

// compareSums says in a word what two sums prove.
func compareSums(before, after string) string {
	switch {
	case before == "" || after == "":
		return "not taken"
	case before == after:
		return "equal"
	}
	return "differs"
}

// visible replaces characters that would hide or reorder text, such as those for writing direction. They may come from
// guests; the page itself has none.
func visible(text []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !unicode.IsControl(r) && !unicode.Is(unicode.Cf, r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
