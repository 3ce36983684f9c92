package snapshot

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// Rate is a speed in bytes per second that can be turned while a pull runs.
type Rate struct{ bytes atomic.Uint64 }

// NewRate makes a rate; 0 means as fast as possible.
func NewRate(bytesPerSecond uint64) *Rate {
	r := new(Rate)
	r.Set(bytesPerSecond)
	return r
}

// Set changes the rate; a running pull follows within its next poll.
func (r *Rate) Set(bytesPerSecond uint64) { r.bytes.Store(bytesPerSecond) }

// Get reads the rate.
func (r *Rate) Get() uint64 { return r.bytes.Load() }

const (
	// pullPoll is how often a pull looks at its job; it bounds how late it obeys a new rate.
	pullPoll = 200 * time.Millisecond
	// settle is how long libvirt may take from the end of a job to a new chain in its XML.
	settle = 10 * time.Second
)

// Pull copies everything that the clone's disks still read from the view into
// the clone's own images, while the clone runs. It returns when every disk
// stands alone. If a disk cannot be completed the error is [ErrCloneLost].
// When ctx ends the job is stopped and what was copied stays; the clone then
// still needs its view, and Pull may be called again. progress (may be nil)
// gets bytes.
//
// Disks are pulled one after the other: QEMU 7.2 crashes now and then when two
// stream jobs of one guest end at the same time, and two would not be faster.
func Pull(ctx context.Context, dom *libvirt.Domain, targets []string, rate *Rate, progress func(done, total uint64)) error {
	if rate == nil {
		rate = NewRate(0)
	}
	name, err := dom.GetName()
	if err != nil {
		return fmt.Errorf("ask the clone for its name: %w", err)
	}
	p := &puller{dom: dom, name: name, rate: rate, progress: progress}
	if err := p.plan(targets); err != nil {
		return fmt.Errorf("pull the disks of %q: %w", name, err)
	}
	for _, d := range p.disks {
		if err := p.pull(ctx, d); err != nil {
			return fmt.Errorf("pull disk %s of %q: %w", d.target, name, err)
		}
	}
	return nil
}

// puller pulls the disks of one clone.
type puller struct {
	dom      *libvirt.Domain
	name     string
	rate     *Rate
	speed    uint64 // what the running job was last told
	disks    []*pullDisk
	progress func(done, total uint64)
}

// pullDisk is one disk and how far it is, in bytes of its virtual size.
type pullDisk struct {
	target    string
	cur, end  uint64
	completed bool
	gone      time.Time // since when no job was seen; zero while there is one
}

// plan finds out how much there is to do.
func (p *puller) plan(targets []string) error {
	pending, err := p.backed()
	if err != nil {
		return err
	}
	for _, t := range targets {
		info, err := p.dom.GetBlockInfo(t, 0)
		if err != nil {
			return fmt.Errorf("ask for the size of disk %s: %w", t, err)
		}
		d := &pullDisk{target: t, end: info.Capacity, completed: !pending[t]}
		if d.completed {
			d.cur = d.end
		}
		p.disks = append(p.disks, d)
	}
	return nil
}

// backed reads from the running clone's XML which disks still have a backing image.
func (p *puller) backed() (map[string]bool, error) {
	text, err := p.dom.GetXMLDesc(0)
	if err != nil {
		return nil, fmt.Errorf("read the clone's XML: %w", err)
	}
	var desc libvirtxml.Domain
	if err := desc.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("parse the clone's XML: %w", err)
	}
	if desc.ID == nil || desc.Devices == nil {
		return nil, fmt.Errorf("the clone: %w", ErrNotRunning)
	}
	found := map[string]bool{}
	for _, d := range desc.Devices.Disks {
		// <backingStore/> without a format is the end of a chain; libvirtxml gives it an empty source.
		if d.Target != nil && d.BackingStore != nil && d.BackingStore.Format != nil {
			found[d.Target.Dev] = true
		}
	}
	return found, nil
}

// pull copies one disk.
func (p *puller) pull(ctx context.Context, d *pullDisk) error {
	if d.completed {
		return nil
	}
	if err := p.start(d); err != nil {
		return fmt.Errorf("%w: %w", ErrCloneLost, err)
	}
	for {
		if err := p.look(d); err != nil {
			return fmt.Errorf("%w: %w", ErrCloneLost, err)
		}
		p.report()
		if d.completed {
			return nil
		}
		p.turn(d)
		if err := pause(ctx, pullPoll); err != nil {
			_ = p.dom.BlockJobAbort(d.target, 0) // it ends by itself otherwise, which does no harm
			return err
		}
	}
}

// start begins the job, or joins one that an interrupted call left running.
func (p *puller) start(d *pullDisk) error {
	running, _, err := p.job(d)
	if err != nil {
		return err
	}
	p.speed = p.rate.Get()
	if running {
		p.speed = ^p.speed // unknown, so the next turn tells it
		return nil
	}
	return p.dom.BlockPull(d.target, p.speed, libvirt.DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES)
}

func (p *puller) job(d *pullDisk) (running bool, info *libvirt.DomainBlockJobInfo, err error) {
	info, err = p.dom.GetBlockJobInfo(d.target, libvirt.DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES)
	if err != nil {
		return false, nil, fmt.Errorf("ask for the block job: %w", err)
	}
	return info.Type != libvirt.DOMAIN_BLOCK_JOB_TYPE_UNKNOWN, info, nil
}

// look sees how far the job is. A job that is gone has succeeded if the
// running clone's disk has no backing image any more; nothing else proves it.
func (p *puller) look(d *pullDisk) error {
	running, info, err := p.job(d)
	if err != nil {
		return err
	}
	if running {
		d.gone = time.Time{}
		if info.End > 0 {
			d.cur, d.end = info.Cur, info.End
		}
		return nil
	}
	pending, err := p.backed()
	if err != nil {
		return err
	}
	if pending[d.target] {
		return d.settling()
	}
	d.completed, d.cur = true, d.end
	return nil
}

// settling gives libvirt time to write the end of the job into its XML.
func (d *pullDisk) settling() error {
	if d.gone.IsZero() {
		d.gone = time.Now()
	}
	if time.Since(d.gone) > settle {
		return errors.New("the job ended but the disk still needs its view")
	}
	return nil
}

// turn tells the job a new rate.
func (p *puller) turn(d *pullDisk) {
	speed := p.rate.Get()
	if speed == p.speed {
		return
	}
	// A job that just ended refuses; the next look finds that out.
	_ = p.dom.BlockJobSetSpeed(d.target, speed, libvirt.DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES)
	p.speed = speed
}

func (p *puller) report() {
	if p.progress == nil {
		return
	}
	var done, total uint64
	for _, d := range p.disks {
		done, total = done+d.cur, total+d.end
	}
	p.progress(done, total)
}
