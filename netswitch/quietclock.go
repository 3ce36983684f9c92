package netswitch

import "time"

// maxStep is how much of a pause of this process counts as silence of others.
const maxStep = 5 * holdTick

// quietClock measures silence. Real time would not do: when this process is late,
// packets wait unseen in the queue, and connections look silent that are not. The
// clock moves to a tick's time only when every packet that was queued by then has
// been handled, and never by more than maxStep at once.
type quietClock struct {
	now    time.Time
	mark   time.Time // a tick
	markID uint32    // the last packet queued at that tick
	seenID uint32    // the last packet handled
}

func newQuietClock(start time.Time) quietClock { return quietClock{now: start, mark: start} }

// saw notes a handled packet.
func (c *quietClock) saw(id uint32) {
	if after(id, c.seenID) {
		c.seenID = id
	}
}

// tick takes the real time, the number of the last packet queued, and whether the
// queue holds nothing but what is held on purpose. It says whether the clock moved.
func (c *quietClock) tick(real time.Time, lastID uint32, empty bool) bool {
	if !empty && after(c.markID, c.seenID) {
		return false
	}
	if empty {
		c.seenID = lastID // what the kernel could not deliver never comes
	}
	c.now = c.now.Add(min(real.Sub(c.mark), maxStep))
	c.mark, c.markID = real, lastID
	return true
}
