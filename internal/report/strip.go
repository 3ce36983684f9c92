package report

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// strip is the clients' requests over time as a drawing: how many, by which version, and how long the slowest took.
type strip struct {
	Width, Height      int
	Bars               []bar
	Waits              []bar // the slowest request of each moment
	Left, Top, Base    float64
	WaitTop, WaitBase  float64
	Hold               *band
	Flip, Back         float64 // 0 when there was none
	Ticks              []tick
	MostLabel, MaxWait string
}

type bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
}

type band struct{ X, W, Mid float64 }

const (
	stripLeft  = 54
	stripRight = 12
	countTop   = 26
	countBase  = 130
	slowTop    = 150
	slowBase   = 200
	stripTall  = 226
)

// drawStrip lays the picture out; without points it is nil.
func (r *Report) drawStrip(zone *time.Location) *strip {
	if len(r.Points) == 0 {
		return nil
	}
	points := slices.Clone(r.Points)
	slices.SortFunc(points, func(a, b Point) int { return a.At.Compare(b.At) })
	from := points[0].At
	to := points[len(points)-1].At.Add(width(points[len(points)-1]))
	if to.Before(r.Clients.To) && r.Clients.To.Sub(to) < to.Sub(from) {
		to = r.Clients.To
	}
	s := &strip{Width: drawWidth, Height: stripTall, Left: stripLeft, Top: countTop, Base: countBase, WaitTop: slowTop, WaitBase: slowBase}
	unit := float64(drawWidth-stripLeft-stripRight) / max(to.Sub(from).Seconds(), 1e-3)
	place := func(t time.Time) float64 {
		return stripLeft + min(max(t.Sub(from).Seconds(), 0), to.Sub(from).Seconds())*unit
	}
	s.counts(points, r.classes(), place)
	s.waits(points, place)
	s.marks(r, place)
	s.times(from, to, place, zone)
	return s
}

func width(p Point) time.Duration { return time.Duration(p.Seconds * float64(time.Second)) }

// classes gives each version its colour: the old and the new one theirs, others in the order of their counts.
func (r *Report) classes() map[string]string {
	class := map[string]string{unknown: "v-unknown"}
	if r.Clients.OldVersion != "" {
		class[r.Clients.OldVersion] = "v-old"
	}
	if r.Clients.NewVersion != "" && r.Clients.NewVersion != r.Clients.OldVersion {
		class[r.Clients.NewVersion] = "v-new"
	}
	for v := range r.Clients.ByVersion {
		if class[v] == "" {
			class[v] = "v-other"
		}
	}
	return class
}

func (s *strip) counts(points []Point, class map[string]string, place func(time.Time) float64) {
	var most int64
	for _, p := range points {
		most = max(most, total(p))
	}
	unit := (s.Base - s.Top) / float64(max(most, 1))
	s.MostLabel = number(most)
	for _, p := range points {
		x, w := place(p.At), max(place(p.At.Add(width(p)))-place(p.At), 1)
		y := s.Base
		for _, v := range stacked(p, class) {
			h := float64(v.n) * unit
			y -= h
			s.Bars = append(s.Bars, bar{x, y, max(w-gapOf(w), 0.8), h, v.class, v.name})
		}
	}
}

func gapOf(w float64) float64 {
	if w > 3 {
		return 0.7
	}
	return 0
}

type share struct {
	name, class string
	n           int64
}

// stacked gives the parts of a bar from the bottom up; failures are on top, where they are seen.
func stacked(p Point, class map[string]string) []share {
	var parts []share
	for v, n := range p.ByVersion {
		c := class[v]
		if c == "" {
			c = "v-other"
		}
		parts = append(parts, share{v, c, n})
	}
	slices.SortFunc(parts, func(a, b share) int {
		return cmp.Or(cmp.Compare(rank(a.class), rank(b.class)), cmp.Compare(a.name, b.name))
	})
	if p.Failed > 0 {
		parts = append(parts, share{"failed", "v-failed", p.Failed})
	}
	return parts
}

func rank(class string) int {
	return slices.Index([]string{"v-old", "v-new", "v-other", "v-unknown"}, class)
}

func total(p Point) (n int64) {
	for _, k := range p.ByVersion {
		n += k
	}
	return n + p.Failed
}

// waits draws the slowest request of each moment on a logarithmic scale, since a hold is a thousand times a page.
func (s *strip) waits(points []Point, place func(time.Time) float64) {
	longest := 100.0
	for _, p := range points {
		longest = max(longest, p.MaxMS)
	}
	s.MaxWait = millis(longest)
	scale := (s.WaitBase - s.WaitTop) / height(longest)
	for _, p := range points {
		h := height(p.MaxMS) * scale
		x, w := place(p.At), max(place(p.At.Add(width(p)))-place(p.At), 1)
		s.Waits = append(s.Waits, bar{x, s.WaitBase - h, max(w-gapOf(w), 0.8), h, "wait", millis(p.MaxMS)})
	}
}

// height is the logarithm of a wait; what took less than 10 ms is flat.
func height(ms float64) float64 { return math.Log10(max(ms, 10) / 10) }

func (s *strip) marks(r *Report, place func(time.Time) float64) {
	if from, to, ok := r.held(); ok {
		x := place(from)
		w := max(place(to)-x, 1.5)
		s.Hold = &band{x, w, min(max(x+w/2, stripLeft+14), drawWidth-stripRight-14)}
		s.Flip = place(r.Switch.Flipped)
	}
	if r.Rollback != nil && !r.Rollback.Flipped.IsZero() {
		s.Back = place(r.Rollback.Flipped)
	}
}

// times puts some labels below the picture.
func (s *strip) times(from, to time.Time, place func(time.Time) float64, zone *time.Location) {
	for _, t := range roundTimes(from, to, 7) {
		if x := place(t); x > stripLeft+20 && x < drawWidth-stripRight-20 {
			s.Ticks = append(s.Ticks, tick{x, clock(t, zone)})
		}
	}
}

var roundSteps = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour,
}

// roundTimes gives at most so many round times of day between two times.
func roundTimes(from, to time.Time, most int) []time.Time {
	step := 24 * time.Hour
	for i := len(roundSteps) - 1; i >= 0 && to.Sub(from)/roundSteps[i] <= time.Duration(most-1); i-- {
		step = roundSteps[i]
	}
	for to.Sub(from)/step > time.Duration(most-1) {
		step *= 2
	}
	var all []time.Time
	for t := from.Truncate(step).Add(step); t.Before(to); t = t.Add(step) {
		all = append(all, t)
	}
	return all
}
