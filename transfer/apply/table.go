package apply

import (
	"sync"

	"imago.dev/imago/transfer/rows"
)

// table is a table of the source and what becomes of its rows.
type table struct {
	id    int
	src   *rows.Table
	dests []*dest
	// identity is the one of dests that is the new version's own, nil if only
	// conversions read the table.
	identity *dest

	cols      []*rows.Column // of the source's key
	names     []string       // quoted
	orderable int            // leading columns of the key that ranges are made of
	bounds    *rows.Table    // the table with just these as its key

	added    bool    // a conversion adds rows to the new table
	primary  bool    // the clone's index of the key has the name PRIMARY
	rowBytes float64 // the clone's estimate

	cascades []*cascade    // what a change of this table does to others, unseen
	convs    []*conversion // that read it

	copy copyState // guarded by Engine.sched, but for touched

	touchedMu sync.RWMutex
}

func newTable(id int, src *rows.Table) *table {
	t := &table{id: id, src: src, cols: columns(src, src.Key), orderable: orderable(src)}
	for _, c := range t.cols {
		t.names = append(t.names, rows.QuoteName(c.Name))
	}
	b := *src
	b.Key = src.Key[:t.orderable]
	t.bounds = &b
	t.copy.todo = []span{{}}
	t.copy.touched = map[string]struct{}{}
	return t
}

// keyID is what the key is kept as.
func (t *table) keyID(buf []byte, r rows.Row) []byte {
	buf = buf[:0]
	for _, k := range t.src.Key {
		buf = appendCell(buf, r[k])
	}
	return shortened(buf)
}
