package report

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Clients is the upgrade as the clients saw it.
type Clients struct {
	Clients        int              `json:"clients"`
	Requests       int64            `json:"requests"`
	Failed         int64            `json:"failed"`
	LongestPauseMS float64          `json:"longest_pause_ms"` // the longest time that a client waited for one answer
	LongestPauseAt time.Time        `json:"longest_pause_at,omitzero"`
	MedianMS       float64          `json:"median_ms"`
	P99MS          float64          `json:"p99_ms"`
	ByVersion      map[string]int64 `json:"by_version"` // answers that did not fail; "unknown" where none is named
	ByMethod       map[string]int64 `json:"by_method"`
	// Mixed counts answers by the wrong version: by the new one to a request answered before the flip, by the old one to
	// a request made after it, and the other way round after a rollback.
	Mixed      int64     `json:"mixed"`
	OldVersion string    `json:"old_version,omitempty"`
	NewVersion string    `json:"new_version,omitempty"`
	From       time.Time `json:"from,omitzero"`
	To         time.Time `json:"to,omitzero"`
	Failures   []Failure `json:"failures,omitempty"` // the first ones
	// UnreadableLines counts lines of the logs that are no entries, such as the last one of a client that was killed.
	UnreadableLines int64 `json:"unreadable_lines"`
	Files           int   `json:"files"`
}

// Failure is one request that failed.
type Failure struct {
	At     time.Time `json:"at"`
	Client string    `json:"client"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Status int       `json:"status"`
	MS     float64   `json:"ms"`
	Error  string    `json:"error"`
}

// Flips are the moments at which the clients were led elsewhere; zero for what did not happen.
type Flips struct{ Switch, Rollback time.Time }

// Bounds on what is kept, whatever the logs hold.
const (
	maxLine     = 64 << 10
	maxNames    = 64   // versions and methods by name
	maxClients  = 4096 // clients told apart
	maxFailures = 20
)

// entry is one line of a client's log. T is when the request was made.
type entry struct {
	T       time.Time `json:"t"`
	Client  string    `json:"client"`
	Method  string    `json:"method"`
	Path    string    `json:"path"`
	Status  int       `json:"status"`
	MS      float64   `json:"ms"`
	Version string    `json:"version"`
	Error   string    `json:"error"`
}

// ReadClientLogs reads the JSON-lines logs that match the patterns and gives what the clients saw, with a picture of it
// over time. Its memory does not grow with the logs. Patterns that match no file, or none at all, give zero requests;
// lines that cannot be read are counted, not refused.
func ReadClientLogs(ctx context.Context, patterns []string, flips Flips) (Clients, []Point, error) {
	r := newLogReader(flips)
	files, err := matches(patterns)
	if err != nil {
		return Clients{}, nil, err
	}
	for _, file := range files {
		if err := r.file(ctx, file); err != nil {
			return Clients{}, nil, err
		}
	}
	r.c.Files = len(files)
	c, points := r.result()
	return c, points, nil
}

// matches gives each matching file once, in a stable order.
func matches(patterns []string) ([]string, error) {
	seen := map[string]bool{}
	for _, p := range patterns {
		files, err := filepath.Glob(p)
		if err != nil {
			return nil, fmt.Errorf("find client logs %q: %w", p, err)
		}
		for _, f := range files {
			seen[f] = true
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

type logReader struct {
	c       Clients
	flips   Flips
	clients map[string]bool
	waits   waits
	bins    bins
	spans   map[span]map[string]int64
}

func newLogReader(flips Flips) *logReader {
	return &logReader{
		c: Clients{ByVersion: map[string]int64{}, ByMethod: map[string]int64{}}, flips: flips,
		clients: map[string]bool{}, spans: map[span]map[string]int64{},
	}
}

func (r *logReader) file(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open client log: %w", err)
	}
	defer f.Close()
	if err := r.lines(ctx, f); err != nil {
		return fmt.Errorf("read client log %q: %w", path, err)
	}
	return nil
}

// lines reads line by line; a line that is too long is skipped, not kept.
func (r *logReader) lines(ctx context.Context, from io.Reader) error {
	buf := bufio.NewReaderSize(from, maxLine)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, err := buf.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			r.c.UnreadableLines++
			err = skipLine(buf)
		} else if len(line) > 0 {
			r.line(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func skipLine(buf *bufio.Reader) error {
	for {
		if _, err := buf.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

var (
	earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

func (r *logReader) line(line []byte) {
	if len(line) == 1 && line[0] == '\n' {
		return
	}
	var e entry
	const day = 24 * 3600 * 1000
	if json.Unmarshal(line, &e) != nil || e.T.Before(earliest) || e.T.After(latest) || !(e.MS >= 0 && e.MS <= day) {
		r.c.UnreadableLines++
		return
	}
	r.entry(e)
}

func (e entry) failed() bool { return e.Error != "" || e.Status < 100 || e.Status >= 400 }

func (e entry) ended() time.Time { return e.T.Add(time.Duration(e.MS * float64(time.Millisecond))) }

func (r *logReader) entry(e entry) {
	if e.Version == "" {
		e.Version = unknown
	}
	r.c.Requests++
	if len(r.clients) < maxClients {
		r.clients[shorten(e.Client, 200)] = true
	}
	if r.c.From.IsZero() || e.T.Before(r.c.From) {
		r.c.From = e.T
	}
	if end := e.ended(); end.After(r.c.To) {
		r.c.To = end
	}
	if e.MS > r.c.LongestPauseMS {
		r.c.LongestPauseMS, r.c.LongestPauseAt = e.MS, e.T
	}
	r.waits.add(e.MS)
	count(r.c.ByMethod, e.Method)
	r.bins.add(e)
	if e.failed() {
		r.failure(e)
		return
	}
	count(r.c.ByVersion, e.Version)
	s := r.flips.span(e.T, e.ended())
	if r.spans[s] == nil {
		r.spans[s] = map[string]int64{}
	}
	count(r.spans[s], e.Version)
}

func (r *logReader) failure(e entry) {
	r.c.Failed++
	// The logs come one after the other, so the first failures in time may be in the last one.
	r.c.Failures = append(r.c.Failures, Failure{
		At: e.T, Client: shorten(e.Client, 200), Method: shorten(e.Method, 20), Path: shorten(e.Path, 300), Status: e.Status, MS: e.MS, Error: shorten(e.Error, 500),
	})
	slices.SortStableFunc(r.c.Failures, func(a, b Failure) int { return a.At.Compare(b.At) })
	r.c.Failures = r.c.Failures[:min(len(r.c.Failures), maxFailures)]
}

const (
	unknown = "unknown"
	others  = "others"
)

// count counts by name and keeps the number of names bounded.
func count(by map[string]int64, name string) {
	name = shorten(name, 100)
	if _, known := by[name]; !known && len(by) >= maxNames {
		name = others
	}
	by[name]++
}

func (r *logReader) result() (Clients, []Point) {
	r.c.Clients = len(r.clients)
	r.c.MedianMS, r.c.P99MS = r.waits.quantile(0.5), r.waits.quantile(0.99)
	r.c.OldVersion, r.c.NewVersion, r.c.Mixed = judge(r.spans)
	return r.c, r.bins.points()
}

// complete makes sure that maps are there, for readers of the JSON.
func (c *Clients) complete() {
	if c.ByVersion == nil {
		c.ByVersion = map[string]int64{}
	}
	if c.ByMethod == nil {
		c.ByMethod = map[string]int64{}
	}
}

// waits is a histogram with steps of 2 %, from 10 µs to a day.
type waits struct {
	steps [1400]int64
	total int64
}

const waitBase, waitStep = 0.01, 1.02

func (w *waits) add(ms float64) {
	i := 0
	if ms > waitBase {
		i = min(int(math.Log(ms/waitBase)/math.Log(waitStep)), len(w.steps)-1)
	}
	w.steps[i]++
	w.total++
}

// quantile gives the middle of the step that the q-th part of the requests ends in.
func (w *waits) quantile(q float64) float64 {
	if w.total == 0 {
		return 0
	}
	rank := int64(q * float64(w.total-1))
	for i, n := range w.steps {
		if rank -= n; rank < 0 {
			return waitBase * math.Pow(waitStep, float64(i)+0.5)
		}
	}
	return 0
}

func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}

// ReadLedger reads what the clients' own check of their writes said: a JSON
// object as [Ledger] is. A file that is not there yet is no error, and no ledger.
func ReadLedger(path string) (*Ledger, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the clients' ledger: %w", err)
	}
	var l Ledger
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return nil, fmt.Errorf("read the clients' ledger %s: %w; want acknowledged, lost, doubled and out_of_order", path, err)
	}
	return &l, nil
}
