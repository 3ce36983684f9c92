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

// pullPoll is how often a pull looks at its jobs; it bounds how late it obeys a new rate.
const pullPoll = 200 * time.Millisecond

// Pull copies everything that the clone's disks still read from the view into
// the clone's own images, while the clone runs. The rate is for all disks
// together. It returns when every disk stands alone. If a disk cannot be
// completed the error is [ErrCloneLost]. When ctx ends the jobs are stopped;
// the clone then still needs its view. progress (may be nil) gets bytes.
func Pull(ctx context.Context, dom *libvirt.Domain, targets []string, rate *Rate, progress func(done, total uint64)) error {
	if rate == nil {
		rate = NewRate(0)
	}
	p := &puller{dom: dom, rate: rate, progress: progress}
	name, err := dom.GetName()
	if err != nil {
		return fmt.Errorf("ask the clone for its name: %w", err)
	}
	p.name = name
	if err := p.start(targets); err != nil {
		p.cancel(ctx)
		return err
	}
	for len(p.active()) > 0 {
		if err := p.step(); err != nil {
			p.cancel(ctx)
			return err
		}
		if err := pause(ctx, pullPoll); err != nil {
			p.cancel(ctx)
			return fmt.Errorf("pull the disks of %q: %w", p.name, err)
		}
	}
	return nil
}

// puller runs the block jobs of one clone.
type puller struct {
	dom      *libvirt.Domain
	name     string
	rate     *Rate
	speed    uint64 // what each job was last told
	disks    []*pullDisk
	progress func(done, total uint64)
}

type pullDisk struct {
	target    string
	cur, end  uint64
	completed bool
}

func (p *puller) active() []*pullDisk {
	var list []*pullDisk
	for _, d := range p.disks {
		if !d.completed {
			list = append(list, d)
		}
	}
	return list
}

// share is the speed of each job. 0 would mean unlimited, so it is never the
// result of a rate that is merely small.
func share(rate uint64, jobs int) uint64 {
	if rate == 0 || jobs == 0 {
		return 0
	}
	return max(1, rate/uint64(jobs))
}

func (p *puller) start(targets []string) error {
	pending, err := p.backed()
	if err != nil {
		return err
	}
	for _, t := range targets {
		p.disks = append(p.disks, &pullDisk{target: t, completed: !pending[t]})
	}
	p.speed = share(p.rate.Get(), len(p.active()))
	for _, d := range p.active() {
		// A job that already runs was started by an earlier, interrupted call.
		if running, _, err := p.job(d); err == nil && running {
			continue
		}
		if err := p.dom.BlockPull(d.target, p.speed, libvirt.DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES); err != nil {
			return fmt.Errorf("start pulling disk %s of %q: %w", d.target, p.name, err)
		}
	}
	return nil
}

// backed reads from the clone's XML which disks still have a backing image.
func (p *puller) backed() (map[string]bool, error) {
	text, err := p.dom.GetXMLDesc(0)
	if err != nil {
		return nil, fmt.Errorf("read the XML of clone %q: %w", p.name, err)
	}
	var desc libvirtxml.Domain
	if err := desc.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("parse the XML of clone %q: %w", p.name, err)
	}
	found := map[string]bool{}
	for _, d := range desc.Devices.Disks {
		if d.Target != nil && d.BackingStore != nil && d.BackingStore.Source != nil {
			found[d.Target.Dev] = true
		}
	}
	return found, nil
}

func (p *puller) job(d *pullDisk) (running bool, info *libvirt.DomainBlockJobInfo, err error) {
	info, err = p.dom.GetBlockJobInfo(d.target, libvirt.DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES)
	if err != nil {
		return false, nil, fmt.Errorf("ask for the pull of disk %s of %q: %w", d.target, p.name, err)
	}
	return info.Type != libvirt.DOMAIN_BLOCK_JOB_TYPE_UNKNOWN, info, nil
}

// step looks at every job once.
func (p *puller) step() error {
	for _, d := range p.active() {
		if err := p.look(d); err != nil {
			return err
		}
	}
	p.turn()
	p.report()
	return nil
}

func (p *puller) look(d *pullDisk) error {
	running, info, err := p.job(d)
	if err != nil {
		return p.lost(d, err)
	}
	if running {
		d.cur, d.end = info.Cur, max(info.End, d.end)
		return nil
	}
	pending, err := p.backed()
	if err != nil {
		return p.lost(d, err)
	}
	if pending[d.target] {
		return p.lost(d, errors.New("the job ended but the disk still needs its view"))
	}
	d.completed, d.cur = true, d.end
	return nil
}

func (p *puller) lost(d *pullDisk, why error) error {
	return fmt.Errorf("pull disk %s of %q: %w: %w", d.target, p.name, ErrCloneLost, why)
}

// turn tells the jobs a new speed if the rate or their number changed.
func (p *puller) turn() {
	jobs := p.active()
	speed := share(p.rate.Get(), len(jobs))
	if speed == p.speed {
		return
	}
	for _, d := range jobs {
		// A job that just ended refuses; the next look finds that out.
		_ = p.dom.BlockJobSetSpeed(d.target, speed, libvirt.DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES)
	}
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

// cancel stops what still runs; the disks keep what was copied.
func (p *puller) cancel(context.Context) {
	for _, d := range p.active() {
		_ = p.dom.BlockJobAbort(d.target, 0)
	}
}
