package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/snapshot"
)

// FilesEvidence says what one pass over a file set did.
type FilesEvidence struct {
	Name     string   `json:"name"`
	Seconds  float64  `json:"seconds"`
	Files    int64    `json:"files"`
	Copied   int64    `json:"copied"`
	Deleted  int64    `json:"deleted"`
	Bytes    int64    `json:"bytes"`
	Compared int64    `json:"compared"` // whose content was read on both sides
	Sockets  int64    `json:"sockets"`  // which are not carried
	Unkept   int64    `json:"unkept"`   // with attributes that are not carried
	Foreign  []string `json:"foreign"`  // changed in the universe by somebody else, and made equal again
}

// fileViews are overlays on views of production's disks, attached to VMs of the
// universe for their agents to read.
type fileViews struct {
	e        *Engine
	set      *snapshot.Set
	attached []attachedView
}

type attachedView struct {
	place   viewPlace
	overlay string
	dom     *hypervisor.Domain
}

// viewPlace is one disk of production in one VM of the universe: file sets that
// share it share the attached view.
type viewPlace struct {
	domain, disk, vm string
}

// serial is how the guest finds the disk; at most 20 characters.
func (p viewPlace) serial() string {
	return "imago-" + fmt.Sprintf("%x", digestOf([]byte(p.domain+"/"+p.disk)))[:12]
}

func placeOf(f plan.FileSet) viewPlace { return viewPlace{f.From.Domain, f.From.Disk, f.To.VM} }

// attach makes overlays on the views and attaches them to the VMs that read them.
// detach must follow, whatever attach returned.
func (v *fileViews) attach(ctx context.Context) error {
	seen := map[viewPlace]bool{}
	for _, f := range v.e.plan.Files {
		p := placeOf(f)
		if seen[p] {
			continue
		}
		seen[p] = true
		if err := v.attachOne(ctx, p); err != nil {
			return fmt.Errorf("view of disk %s of %s in %s: %w", p.disk, p.domain, p.vm, err)
		}
	}
	return nil
}

func (v *fileViews) attachOne(ctx context.Context, p viewPlace) error {
	e := v.e
	dom, err := e.conn.LookupDomain(e.n.domain(p.vm))
	if err != nil {
		return err
	}
	// What a crashed pass left attached reads from a view that is gone.
	if err := dom.DetachDisk(ctx, p.serial()); err != nil {
		return err
	}
	a := attachedView{p, e.n.overlay(p.vm, "view-"+p.serial()), dom}
	if err := removeFile(a.overlay); err != nil {
		return err
	}
	view, err := v.set.View(p.domain, p.disk)
	if err != nil {
		return err
	}
	v.attached = append(v.attached, a)
	if err := snapshot.CreateOverlay(ctx, a.overlay, view); err != nil {
		return err
	}
	_, err = dom.AttachDisk(ctx, hypervisor.DiskSpec{
		Path: a.overlay, Format: "qcow2", Serial: p.serial(), Backing: &hypervisor.Backing{Socket: view.Socket, Export: view.Export},
	})
	return err
}

// detach takes the views away again, whatever has happened to ctx.
func (v *fileViews) detach(ctx context.Context) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	var errs []error
	for _, a := range v.attached {
		errs = append(errs, a.dom.DetachDisk(ctx, a.place.serial()), removeFile(a.overlay))
	}
	v.attached = nil
	return errors.Join(errs...)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// filesPass says how a pass over all file sets is made.
type filesPass struct {
	full   bool              // every file is read on both sides; else only what moved since the last pass
	rate   *guestagent.Rate  // nil is no bound
	frozen func(string) bool // whether a domain's file systems stood still for the view
	taken  time.Time         // the view's instant, if it is known yet
	wait   time.Duration     // for the disk to appear; 0 is the agent's own patience
}

// catchUpFiles makes every file set equal to the view, side by side; it may begin
// before the view is attached or even taken, since the agents wait for the disks.
func (e *Engine) catchUpFiles(ctx context.Context, s *sessions, pass filesPass) ([]FilesEvidence, error) {
	out := make([]FilesEvidence, len(e.plan.Files))
	g, gctx := errgroup.WithContext(ctx)
	for i, f := range e.plan.Files {
		session, err := s.to(ctx, f.To.VM)
		if err != nil {
			return nil, errors.Join(err, g.Wait())
		}
		g.Go(func() (err error) {
			if out[i], err = e.catchUpSet(gctx, session, f, pass); err != nil {
				return &outcome{ErrStep, fmt.Errorf("files %s: %w", f.Name, err)}
			}
			return nil
		})
	}
	return out, g.Wait()
}

func (e *Engine) catchUpSet(ctx context.Context, s *guestagent.Session, f plan.FileSet, pass filesPass) (FilesEvidence, error) {
	began := time.Now()
	res, err := s.CatchUpTree(ctx, f.From.Path, f.To.Path, guestagent.CatchUpOptions{
		View:   &guestagent.ViewDisk{Serial: placeOf(f).serial(), Partition: f.From.Partition, Wait: pass.wait},
		Delete: f.Delete, Owner: f.Owner, Full: pass.full, Rate: pass.rate, Frozen: pass.frozen(f.From.Domain), Taken: pass.taken,
		Manifest: path.Join("/var/lib/imago", e.n.run, fmt.Sprintf("%x", digestOf([]byte(f.Name)))[:12]),
	}, func(p guestagent.CatchUpProgress) {
		if p.Entries > 0 {
			e.see.progress("files "+f.Name, "entries", uint64(p.Entries), uint64(p.Entries))
		}
	})
	e.log.Debug("files caught up", "set", f.Name, "waited", res.Waited, "mounted", res.Mounted, "worked", res.Worked, "unmounted", res.Unmounted)
	return FilesEvidence{
		Name: f.Name, Seconds: time.Since(began).Seconds(), Files: res.Files, Copied: res.Copied, Deleted: res.Deleted, Bytes: res.Bytes,
		Compared: res.Compared, Sockets: res.Sockets, Unkept: res.Unkept, Foreign: cleanAll(res.Foreigners),
	}, err
}

// frozen tells whether the guest's file systems stood still for the view.
func (v *fileViews) frozen(domain string) bool {
	for _, r := range v.set.Report() {
		if r.Name == domain {
			return r.Consistency.FileSystems
		}
	}
	return false
}

// together attaches the views and catches up from them.
func (v *fileViews) together(ctx context.Context, s *sessions, full bool, rate *guestagent.Rate) (list []FilesEvidence, err error) {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return v.attach(gctx) })
	g.Go(func() (err error) {
		list, err = v.e.catchUpFiles(gctx, s, filesPass{full: full, rate: rate, frozen: v.frozen, taken: v.set.Taken()})
		return err
	})
	return list, g.Wait()
}

func cleanAll(words []string) []string {
	var out []string
	for _, w := range words {
		out = append(out, guestagent.Clean(w))
	}
	return out
}

func describeFiles(list []FilesEvidence) string {
	var parts []string
	for _, f := range list {
		text := fmt.Sprintf("%s: %d files, %d copied, %d removed, %d compared (%.1f s)", f.Name, f.Files, f.Copied, f.Deleted, f.Compared, f.Seconds)
		if len(f.Foreign) > 0 {
			text += fmt.Sprintf("; somebody else had changed %q in the new version", f.Foreign)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}
