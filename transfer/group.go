package transfer

import (
	"context"
	"crypto/sha256"
	"sync"
)

// group sums up the digests that came with one key, in order, in constant
// memory. Two groups are equal when the digests are.
type group struct {
	count  int64
	digest string // the only one, or a sum over all
}

func (g *group) add(digest string) {
	g.count++
	if g.count == 1 {
		g.digest = digest
		return
	}
	// The length keeps two different lists from running together.
	sum := sha256.Sum256([]byte(string(rune(len(g.digest))) + g.digest + digest))
	g.digest = string(sum[:])
}

// reportEvery is how many objects pass between two reports of progress.
const reportEvery = 1000

// progress counts the objects of both sides.
type progress struct {
	mu     sync.Mutex
	counts [2]int64
	report func(old, new int64)
}

func (p *progress) watch(side int, source ObjectSource) ObjectSource {
	if p.report == nil {
		return source
	}
	return func(ctx context.Context, yield func(string, []byte) error) error {
		return source(ctx, func(key string, digest []byte) error {
			p.mu.Lock()
			p.counts[side]++
			if p.counts[side]%reportEvery == 0 {
				p.report(p.counts[0], p.counts[1])
			}
			p.mu.Unlock()
			return yield(key, digest)
		})
	}
}

func (p *progress) flush() {
	if p.report != nil {
		p.report(p.counts[0], p.counts[1])
	}
}
