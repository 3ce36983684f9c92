package hypervisor

import (
	"context"
	"errors"
	"time"
)

// BlockCounters are what QEMU had counted when a domain was asked last. The zero
// value means that it was not asked yet.
type BlockCounters struct {
	at    time.Time
	disks map[string]blockTimes
}

// blockTimes are one disk's requests and the time these took, since QEMU started.
type blockTimes struct {
	reads, writes, flushes         int64
	readTime, writeTime, flushTime time.Duration
}

// BlockLatency is what requests of one disk took on average, as the guest felt it.
type BlockLatency struct {
	Disk          string // name on the guest's bus: vda
	From, At      time.Time
	Reads, Writes int64 // in this time; flushes count as writes
	Read, Write   time.Duration
	Mean          time.Duration // over both; 0 if there was none
}

// BlockLatency tells what requests took since last was filled, for each disk, and
// fills it again. The first call, and the first after the guest was started anew, returns none.
func (d *Domain) BlockLatency(ctx context.Context, last *BlockCounters) ([]BlockLatency, error) {
	return nil, errors.ErrUnsupported
}
