package hypervisor

import (
	"context"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"
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

// BlockLatency is what requests of one disk took on average, as the guest felt
// it: under a view, with the copy that precedes a write.
type BlockLatency struct {
	Disk          string // name on the guest's bus: vda
	From, At      time.Time
	Reads, Writes int64         // finished in this time; flushes count as writes
	Read, Write   time.Duration // mean of each; 0 if there was none
	Mean          time.Duration // over both
}

// Idle tells that no request finished, so that the times mean nothing. A disk that
// hangs looks idle too; clients' latency and I/O pressure show that.
func (l BlockLatency) Idle() bool { return l.Reads+l.Writes == 0 }

// BlockLatency tells what requests took since last was filled, for each disk with
// a medium, and fills it again. The first call, and the first after the guest was
// started anew, tells nothing of a disk. It only reads, so it is harmless for production.
//
// libvirt's calls cannot be cancelled: one that hangs returns when the
// connection's keepalive gives up.
func (d *Domain) BlockLatency(ctx context.Context, last *BlockCounters) ([]BlockLatency, error) {
	desc, err := d.Describe(ctx)
	if err != nil {
		return nil, err
	}
	if desc.Devices == nil {
		return nil, nil
	}
	now := BlockCounters{at: time.Now(), disks: map[string]blockTimes{}}
	var order []string
	for i := range desc.Devices.Disks {
		if x := &desc.Devices.Disks[i]; !hasMedium(x) || x.Target == nil {
			continue
		}
		target := desc.Devices.Disks[i].Target.Dev
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		stats, err := d.raw.BlockStatsFlags(target, 0)
		if err != nil {
			return nil, fmt.Errorf("ask domain %q for the counters of disk %s: %w", d.name, target, err)
		}
		if now.disks[target], err = timesOf(stats); err != nil {
			return nil, fmt.Errorf("disk %s of domain %q: %w", target, d.name, err)
		}
		order = append(order, target)
	}
	since := now.since(*last, order)
	*last = now
	return since, nil
}

func timesOf(s *libvirt.DomainBlockStats) (blockTimes, error) {
	if !s.RdReqSet || !s.WrReqSet || !s.RdTotalTimesSet || !s.WrTotalTimesSet {
		return blockTimes{}, fmt.Errorf("libvirt does not tell how long its requests took")
	}
	return blockTimes{
		reads: s.RdReq, writes: s.WrReq, flushes: s.FlushReq,
		readTime: time.Duration(s.RdTotalTimes), writeTime: time.Duration(s.WrTotalTimes), flushTime: time.Duration(s.FlushTotalTimes),
	}, nil
}

// since compares two fillings. A disk whose counters went back, or that is new, is left out.
func (c BlockCounters) since(before BlockCounters, order []string) []BlockLatency {
	var out []BlockLatency
	for _, disk := range order {
		old, known := before.disks[disk]
		if n, ok := c.disks[disk].minus(old); known && ok {
			out = append(out, n.latency(disk, before.at, c.at))
		}
	}
	return out
}

func (t blockTimes) minus(o blockTimes) (blockTimes, bool) {
	n := blockTimes{
		t.reads - o.reads, t.writes - o.writes, t.flushes - o.flushes,
		t.readTime - o.readTime, t.writeTime - o.writeTime, t.flushTime - o.flushTime,
	}
	ok := n.reads >= 0 && n.writes >= 0 && n.flushes >= 0 && n.readTime >= 0 && n.writeTime >= 0 && n.flushTime >= 0
	return n, ok
}

func (t blockTimes) latency(disk string, from, at time.Time) BlockLatency {
	l := BlockLatency{Disk: disk, From: from, At: at, Reads: t.reads, Writes: t.writes + t.flushes}
	l.Read = mean(t.readTime, l.Reads)
	l.Write = mean(t.writeTime+t.flushTime, l.Writes)
	l.Mean = mean(t.readTime+t.writeTime+t.flushTime, l.Reads+l.Writes)
	return l
}

func mean(sum time.Duration, n int64) time.Duration {
	if n == 0 {
		return 0
	}
	return sum / time.Duration(n)
}
