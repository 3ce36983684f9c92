package report

import (
	"fmt"
	"slices"
	"time"
)

// gantt is the timeline as a drawing: all lengths in units of an SVG.
type gantt struct {
	Width, Height int
	Rows          []ganttRow
	Ticks         []tick
	Gaps          []gap
}

type ganttRow struct {
	Name, Label, Outcome, Title string
	Step                        bool
	Y, TextY, BarY, BarHeight   int
	X, W                        float64
	LabelX                      float64
	LabelEnd                    bool // the label ends at LabelX instead of starting there
}

type tick struct {
	X     float64
	Label string
}

// gap is a wait between phases that is drawn shorter than it was.
type gap struct {
	X, Mid float64
	Label  string
}

const (
	drawWidth   = 880
	nameWidth   = 190
	labelRoom   = 84 // right of the bars, for the last one's label
	phaseRow    = 24
	stepRow     = 17
	gapWidth    = 46
	maxDrawRows = 80
)

// drawGantt lays the phases out. A wait of people between two phases may take days, so waits longer than a tenth of the
// work are cut to a fixed width and labelled.
func drawGantt(phases []Phase, zone *time.Location) gantt {
	g := gantt{Width: drawWidth}
	axis := newAxis(phases)
	y := 22
	for _, p := range phases {
		y = g.row(p, false, axis, y)
		for _, s := range p.Steps {
			if len(g.Rows) >= maxDrawRows {
				break
			}
			y = g.row(s, true, axis, y)
		}
	}
	g.Height = y + 8
	for _, piece := range axis.pieces {
		g.Ticks = append(g.Ticks, tick{piece.x, clock(piece.from, zone)})
		for _, t := range roundTimes(piece.from, piece.to, 8) {
			g.Ticks = append(g.Ticks, tick{axis.x(t), clock(t, zone)})
		}
		if piece.wait > 0 {
			g.Gaps = append(g.Gaps, gap{piece.x - gapWidth, piece.x - gapWidth/2, seconds(piece.wait.Seconds())})
		}
	}
	g.Ticks = spread(g.Ticks)
	return g
}

func (g *gantt) row(p Phase, step bool, a axis, y int) int {
	height, bar := phaseRow, 12
	if step {
		height, bar = stepRow, 5
	}
	from := a.x(p.Started)
	r := ganttRow{
		Name: p.Name, Label: seconds(p.Seconds), Outcome: p.Outcome, Step: step, Y: y, TextY: y + height/2 + 4, BarY: y + (height-bar)/2, BarHeight: bar,
		X: from, W: max(a.x(end(p))-from, 1.5), Title: fmt.Sprintf("%s: %s, %s", p.Name, p.Outcome, seconds(p.Seconds)),
	}
	r.LabelX = r.X + r.W + 6
	g.Rows = append(g.Rows, r)
	return y + height
}

// spread drops ticks whose labels would run into each other.
func spread(ticks []tick) []tick {
	var kept []tick
	for _, t := range ticks {
		if len(kept) == 0 || t.X-kept[len(kept)-1].X > 70 {
			kept = append(kept, t)
		}
	}
	return kept
}

func end(p Phase) time.Time { return p.Started.Add(time.Duration(p.Seconds * float64(time.Second))) }

// axis maps times to places. It is a row of pieces of work with cut waits between them.
type axis struct {
	pieces []piece
	scale  float64 // units per second
}

type piece struct {
	from, to time.Time
	x        float64
	wait     time.Duration // before this piece, when it was cut
}

func newAxis(phases []Phase) axis {
	work := busy(phases)
	if len(work) == 0 {
		return axis{}
	}
	var total time.Duration
	for _, p := range work {
		total += p.to.Sub(p.from)
	}
	work = closeSmall(work, total/10)
	total = 0
	for _, p := range work {
		total += p.to.Sub(p.from)
	}
	room := float64(drawWidth - nameWidth - labelRoom - gapWidth*(len(work)-1))
	a := axis{scale: max(room, 100) / max(total.Seconds(), 1e-3)}
	x := float64(nameWidth)
	for i, p := range work {
		if i > 0 {
			x += gapWidth
			p.wait = p.from.Sub(work[i-1].to)
		}
		p.x = x
		a.pieces = append(a.pieces, p)
		x += p.to.Sub(p.from).Seconds() * a.scale
	}
	return a
}

// busy gives the times in which any phase ran, in order, overlaps joined.
func busy(phases []Phase) []piece {
	var all []piece
	for _, p := range phases {
		if !p.Started.IsZero() {
			all = append(all, piece{from: p.Started, to: end(p)})
		}
	}
	slices.SortFunc(all, func(a, b piece) int { return a.from.Compare(b.from) })
	return closeSmall(all, 0)
}

// closeSmall joins pieces with at most wait between them, and never leaves more than ten.
func closeSmall(all []piece, wait time.Duration) []piece {
	var joined []piece
	for _, p := range all {
		last := len(joined) - 1
		if last >= 0 && (p.from.Sub(joined[last].to) <= wait || last >= 9) {
			if p.to.After(joined[last].to) {
				joined[last].to = p.to
			}
			continue
		}
		joined = append(joined, p)
	}
	return joined
}

func (a axis) x(t time.Time) float64 {
	x := float64(nameWidth)
	for _, p := range a.pieces {
		if t.Before(p.from) {
			return x
		}
		x = p.x + min(t.Sub(p.from).Seconds(), p.to.Sub(p.from).Seconds())*a.scale
	}
	return x
}
