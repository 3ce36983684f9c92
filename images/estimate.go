package images

import (
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// estimate tells how long a plan still takes: no less than its longest chain of
// builds, no less than all its work divided among the cores.
type estimate struct {
	mu      sync.Mutex
	cores   int
	order   []string
	needs   map[string][]string
	seconds map[string]float64 // of what is not done
	began   time.Time          // of the present total
}

func newEstimate(b *Builder, p *plan) *estimate {
	e := &estimate{cores: runtime.NumCPU(), order: p.build, began: time.Now(),
		needs: map[string][]string{}, seconds: map[string]float64{}}
	for _, name := range p.build {
		e.needs[name] = b.Catalogue.recipes[name].needs()
		e.seconds[name] = b.expected(name)
	}
	return e
}

// Estimate says how long Build of these names will take. Zero means that all is cached.
func (b *Builder) Estimate(names ...string) (time.Duration, error) {
	if _, err := b.Catalogue.closure(names); err != nil {
		return 0, err
	}
	return newEstimate(b, b.plan(names)).left(), nil
}

// expected is the time that an earlier build of this recipe took here, in
// whatever version, or else what the recipe says.
func (b *Builder) expected(name string) float64 {
	dirs, err := filepath.Glob(filepath.Join(b.CacheDir, "images", name, "*"))
	if err == nil {
		for _, dir := range dirs {
			if m, err := readManifest(dir); err == nil && m.Seconds > 0 {
				return m.Seconds
			}
		}
	}
	if s := b.Catalogue.recipes[name].Seconds; s > 0 {
		return float64(s)
	}
	return 30
}

func (e *estimate) done(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.seconds, name)
	e.began = time.Now()
}

func (e *estimate) left() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	var total, longest float64
	finish := map[string]float64{}
	for _, name := range e.order {
		start := 0.0
		for _, need := range e.needs[name] {
			start = max(start, finish[need])
		}
		finish[name] = start + e.seconds[name]
		longest = max(longest, finish[name])
		total += e.seconds[name]
	}
	all := time.Duration(max(longest, total/float64(e.cores)) * float64(time.Second))
	return max(0, all-time.Since(e.began)).Round(time.Second)
}
