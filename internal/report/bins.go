package report

import (
	"maps"
	"slices"
	"time"
)

// Point is what happened to the requests made in a short time.
type Point struct {
	At        time.Time        `json:"at"`
	Seconds   float64          `json:"seconds"` // length of that time
	ByVersion map[string]int64 `json:"by_version"`
	Failed    int64            `json:"failed,omitempty"`
	MaxMS     float64          `json:"max_ms"`
}

// maxBins bounds the picture; one bar for each four pixels or so.
const maxBins = 200

// bins collects points. When there would be too many, neighbours are joined and the width doubles.
type bins struct {
	width int64 // ns; 0 before the first entry
	by    map[int64]*Point
}

func (b *bins) add(e entry) {
	if b.width == 0 {
		b.width, b.by = int64(250*time.Millisecond), map[int64]*Point{}
	}
	i := e.T.UnixNano() / b.width
	for b.by[i] == nil && len(b.by) >= maxBins {
		b.join()
		i = e.T.UnixNano() / b.width
	}
	if b.by[i] == nil {
		b.by[i] = &Point{ByVersion: map[string]int64{}}
	}
	p := b.by[i]
	p.MaxMS = max(p.MaxMS, e.MS)
	if e.failed() {
		p.Failed++
	} else {
		count(p.ByVersion, e.Version)
	}
}

func (b *bins) join() {
	joined := map[int64]*Point{}
	for i, p := range b.by {
		q := joined[i/2]
		if q == nil {
			joined[i/2] = p
			continue
		}
		for v, n := range p.ByVersion {
			if _, known := q.ByVersion[v]; !known && len(q.ByVersion) >= maxNames {
				v = others
			}
			q.ByVersion[v] += n
		}
		q.Failed += p.Failed
		q.MaxMS = max(q.MaxMS, p.MaxMS)
	}
	b.by, b.width = joined, b.width*2
}

// points gives the bins in order of time; the last joins are made here, since empty bins take room in a picture too.
func (b *bins) points() []Point {
	if len(b.by) == 0 {
		return nil
	}
	for {
		order := slices.Sorted(maps.Keys(b.by))
		if order[len(order)-1]-order[0] < maxBins {
			break
		}
		b.join()
	}
	var all []Point
	for _, i := range slices.Sorted(maps.Keys(b.by)) {
		p := *b.by[i]
		p.At, p.Seconds = time.Unix(0, i*b.width).UTC(), time.Duration(b.width).Seconds()
		all = append(all, p)
	}
	return all
}
