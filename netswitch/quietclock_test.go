package netswitch

import (
	"testing"
	"time"
)

func TestQuietClock(t *testing.T) {
	start := time.Now()
	c := newQuietClock(start)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for i, s := range []struct {
		saw    uint32
		real   int
		lastID uint32
		empty  bool
		want   int // the clock's time
	}{
		{0, 10, 0, true, 10},
		{0, 20, 3, false, 20},     // packets 1 to 3 wait; the tick before is settled
		{0, 30, 5, false, 20},     // they wait still
		{2, 40, 5, false, 20},     // only two are handled
		{3, 50, 9, false, 50},     // all of the mark's are, though others wait
		{9, 1050, 9, false, 100},  // a pause of this process is not their silence
		{9, 1060, 12, true, 110},  // 10 to 12 were lost on the way
		{12, 1070, 12, true, 120}, // and do not stop it
	} {
		if s.saw > 0 {
			c.saw(s.saw)
		}
		c.tick(at(s.real), s.lastID, s.empty)
		if got := c.now.Sub(start).Milliseconds(); got != int64(s.want) {
			t.Fatalf("step %d: %d ms, want %d", i, got, s.want)
		}
	}
	// Numbers wrap around.
	c.markID, c.seenID = 0xfffffffe, 0xfffffffd
	c.saw(1)
	if !c.tick(at(1080), 2, false) {
		t.Error("stopped at the wrap")
	}
}
