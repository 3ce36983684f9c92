package guestagent

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"imago.dev/imago/guestagent/wire"
)

// ViewDisk is a frozen view of a production disk that was attached to the guest.
type ViewDisk struct {
	// Serial is the serial number it was attached with.
	Serial string
	// Partition is the number of the partition to mount; 0 is the whole disk.
	Partition int
	// FileSystem is ext4, xfs or btrfs; empty finds out.
	FileSystem string
	// Wait is how long the guest may take to see the disk. Zero means 30 s.
	Wait time.Duration
}

// CatchUpOptions says how CatchUpTree makes one tree equal to another.
type CatchUpOptions struct {
	// View is mounted for the length of the call, seen by nobody else in the
	// guest, and unmounted before the call returns; from is then a path in it.
	// The call may begin before the disk is attached: the agent waits for it.
	View *ViewDisk
	// Delete removes what only the target has. Without it only what is in the
	// way of something else is removed.
	Delete bool
	// Owner is "user", "user:group" or ":group" as known in the guest, for
	// everything in the tree. Empty keeps owner and group by number.
	Owner string
	// Manifest is the absolute path, outside both trees, of the file in which
	// the agent notes what it saw and made, so that the next call reads only
	// what moved. Empty keeps none, and every call reads everything.
	Manifest string
	// Full compares the content of all files on both sides, whatever the
	// manifest says. It is an error if nothing was compared where files exist.
	Full bool
	// CheckOnly changes nothing: it reports what differs. It implies Full.
	CheckOnly bool
	// Frozen says that the view's file systems were frozen for the view's
	// instant. Where they were not, a file may have a new time with its old
	// content for as long as the kernel keeps its pages, so files changed within
	// two minutes before the view are read again by the next call.
	Frozen bool
	// Taken is the view's instant. It spares later calls from reading again what
	// was changed shortly before an earlier view. May be zero.
	Taken time.Time
	// Rate bounds how fast content is read from the source; nil is no bound.
	Rate *Rate
}

// CatchUpProgress is how far CatchUpTree is. It comes about five times a second.
type CatchUpProgress struct {
	Entries int64 // looked at
	Read    int64 // bytes of content read from the source
	Copied  int64 // files
	Bytes   int64 // of content written
	Paused  bool  // the rate is zero
}

// CatchUpResult counts what CatchUpTree found and did. All numbers of entries
// are of the source but where it says otherwise.
type CatchUpResult struct {
	Files    int64 // regular files, hard links not counted
	Dirs     int64 // the root included
	Links    int64 // symbolic links
	Hard     int64 // further names of files
	Specials int64 // devices and fifos
	Sockets  int64 // which are not carried
	Skipped  int64 // entries that the manifest vouched for
	Compared int64 // files whose content was read on both sides
	// ComparedBytes is how much that was, each pair counted once.
	ComparedBytes int64
	Copied        int64 // files whose content was written
	Bytes         int64 // of these
	Linked        int64 // symbolic and hard links and specials that were made
	Touched       int64 // entries whose attributes alone were set
	Deleted       int64 // entries removed from the target
	// Differed counts entries that were not equal; with CheckOnly it is the
	// verdict. Different names the first of them.
	Differed  int64
	Different []string
	// Foreign counts entries of the target that somebody else changed since
	// they were written; they are equal to the source again (but with
	// CheckOnly). Foreigners names the first of them.
	Foreign    int64
	Foreigners []string
	// Unkept counts files of the source with attributes that are not carried:
	// immutable and append-only.
	Unkept int64
	// How long it took to see the disk, to mount it, to work, to unmount it.
	Waited, Mounted, Worked, Unmounted time.Duration
}

// CatchUpError lists entries that could not be made equal; all others are.
type CatchUpError struct {
	Guest string
	// Count is how many there are; Faults holds the first of them.
	Count  int64
	Faults []CatchUpFault
}

// CatchUpFault is one entry and what stood against it.
type CatchUpFault struct {
	Path, Text string // cleaned
}

func (e *CatchUpError) Error() string {
	msg := fmt.Sprintf("%d entries in guest %q could not be made equal:", e.Count, e.Guest)
	for _, f := range e.Faults {
		msg += fmt.Sprintf("\n  %q: %s", f.Path, f.Text)
	}
	if more := e.Count - int64(len(e.Faults)); more > 0 {
		msg += fmt.Sprintf("\n  and %d more", more)
	}
	return msg
}

// ErrNothingCompared is wrapped when a full comparison compared nothing though
// there are files.
var ErrNothingCompared = errors.New("nothing was compared")

// CatchUpTree makes the tree below to equal to the one below from, both in this
// guest; content does not pass through the host. Kept are content with its
// holes, owners, modes, times, extended attributes (ACLs, capabilities),
// symbolic and hard links, devices, fifos, empty directories and names of any
// bytes. A reader of the target never sees half a file. Nothing outside to is
// written but the manifest, whatever the two trees hold. What the call reports
// as done is on stable storage. An interrupted call may be repeated and goes
// on. progress may be nil.
//
// Entries that cannot be made equal (an immutable file in the target, an
// attribute its file system cannot hold) do not stop the call: it returns a
// *CatchUpError that names them when all else is done.
func (s *Session) CatchUpTree(ctx context.Context, from, to string, opts CatchUpOptions, progress func(CatchUpProgress)) (CatchUpResult, error) {
	res, err := s.catchUpTree(ctx, from, to, opts, progress)
	if err != nil {
		return res, fmt.Errorf("catch up %q from %q in guest %q: %w", to, from, s.target.Name, err)
	}
	return res, nil
}

func (s *Session) catchUpTree(ctx context.Context, from, to string, opts CatchUpOptions, progress func(CatchUpProgress)) (CatchUpResult, error) {
	req, err := opts.request(from, to)
	if err != nil {
		return CatchUpResult{}, err
	}
	release, err := reserve(ctx, 1, s)
	if err != nil {
		return CatchUpResult{}, err
	}
	defer release()
	c, err := s.call(ctx, wire.Request{Op: wire.OpCatchUp, CatchUp: req})
	if err != nil {
		return CatchUpResult{}, err
	}
	defer c.close()
	if opts.Rate != nil {
		s.spawn(func() { c.sendRates(opts.Rate) })
	}
	for {
		f, err := c.answer(ctx, wire.KindProgress, wire.KindResult)
		if err != nil {
			c.breakOff(ctx, err)
			return CatchUpResult{}, err
		}
		if f.Kind == wire.KindResult {
			return c.caughtUp(f)
		}
		var p wire.CatchUpProgress
		if err := f.Decode(&p); err != nil {
			return CatchUpResult{}, err
		}
		if progress != nil {
			progress(CatchUpProgress(p))
		}
	}
}

func (o CatchUpOptions) request(from, to string) (*wire.CatchUp, error) {
	req := &wire.CatchUp{
		From: []byte(from), To: []byte(to), Manifest: []byte(o.Manifest), Owner: o.Owner,
		Delete: o.Delete, Full: o.Full, CheckOnly: o.CheckOnly, Frozen: o.Frozen,
	}
	if err := checkRemotePath(to); err != nil {
		return nil, err
	}
	if !path.IsAbs(from) || path.Clean(from) != from || from == "/" && o.View == nil {
		return nil, fmt.Errorf("%q is not a clean absolute path", from)
	}
	if o.Manifest != "" {
		if err := checkRemotePath(o.Manifest); err != nil {
			return nil, err
		}
	}
	if !o.Taken.IsZero() {
		req.TakenNS = o.Taken.UnixNano()
	}
	if o.Rate != nil {
		req.Rate = &wire.Rate{BytesPerSecond: o.Rate.Get()}
	}
	var err error
	if o.View != nil {
		req.Disk, err = o.View.disk()
	}
	return req, err
}

const (
	ratePoll  = 100 * time.Millisecond
	rateRenew = wire.RateExpiry * time.Second / 5
)

// sendRates tells the agent of each new rate, and of the old one now and then:
// an agent that hears none for long pauses.
func (c *call) sendRates(rate *Rate) {
	tick := time.NewTicker(ratePoll)
	defer tick.Stop()
	told, at := rate.Get(), time.Now()
	for {
		select {
		case <-c.closing:
			return
		case <-c.s.done:
			return
		case <-tick.C:
		}
		now := rate.Get()
		if now == told && time.Since(at) < rateRenew {
			continue
		}
		if c.out.SendJSON(wire.KindRate, wire.Rate{BytesPerSecond: now}) != nil {
			return // seen by the call itself
		}
		told, at = now, time.Now()
	}
}

// breakOffWait is how long an agent may take to leave its work tidily.
const breakOffWait = 8 * time.Second

// breakOff asks the agent to end its work after an error of ours, and waits for
// that: what it mounted is unmounted then.
func (c *call) breakOff(ctx context.Context, err error) {
	var refused *AgentError
	if errors.As(err, &refused) || errors.Is(err, ErrNotAgent) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), breakOffWait)
	defer cancel()
	if c.s.await(ctx, nil, func() error { return c.out.Send(wire.KindKill, nil) }) != nil {
		return
	}
	for {
		f, err := c.next(ctx)
		if err != nil || f.Kind == wire.KindResult || f.Kind == wire.KindFailure {
			return
		}
	}
}

func (c *call) caughtUp(f wire.Frame) (CatchUpResult, error) {
	var r wire.Result
	if err := f.Decode(&r); err != nil {
		return CatchUpResult{}, err
	}
	if r.CatchUp == nil {
		return CatchUpResult{}, c.nonsense(f.Kind)
	}
	res := resultFrom(r.CatchUp)
	if r.CatchUp.NothingCompared {
		return res, ErrNothingCompared
	}
	if r.CatchUp.FaultCount > 0 {
		e := &CatchUpError{Guest: c.s.target.Name, Count: r.CatchUp.FaultCount}
		for _, f := range r.CatchUp.Faults {
			e.Faults = append(e.Faults, CatchUpFault{Path: Clean(string(f.Path)), Text: Clean(f.Text)})
		}
		return res, e
	}
	return res, nil
}

func resultFrom(w *wire.CatchUpResult) CatchUpResult {
	return CatchUpResult{
		Files: w.Files, Dirs: w.Dirs, Links: w.Links, Hard: w.Hard, Specials: w.Specials, Sockets: w.Sockets,
		Skipped: w.Skipped, Compared: w.Compared, ComparedBytes: w.ComparedBytes, Copied: w.Copied, Bytes: w.Bytes,
		Linked: w.Linked, Touched: w.Touched, Deleted: w.Deleted, Differed: w.Differed, Different: cleaned(w.Different),
		Foreign: w.Foreign, Foreigners: cleaned(w.Foreigners), Unkept: w.Unkept,
		Waited: time.Duration(w.WaitedNS), Mounted: time.Duration(w.MountedNS),
		Worked: time.Duration(w.WorkedNS), Unmounted: time.Duration(w.UnmountedNS),
	}
}

func cleaned(paths [][]byte) []string {
	var list []string
	for _, p := range paths {
		list = append(list, Clean(string(p)))
	}
	return list
}
