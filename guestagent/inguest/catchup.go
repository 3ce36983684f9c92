package inguest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"imago.dev/imago/guestagent/catchup"
	"imago.dev/imago/guestagent/viewmount"
	"imago.dev/imago/guestagent/wire"
)

// errKilled ends work because the host asked for it.
var errKilled = errors.New("ended by the host")

// context ends when the host is gone or asks to end the work.
func (h *host) context() (ctx context.Context, cancel func()) {
	ctx, cause := context.WithCancelCause(context.Background())
	go func() {
		select {
		case <-h.gone:
			cause(errHostGone)
		case <-h.kill:
			cause(errKilled)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cause(nil) }
}

func diskOf(d wire.Disk) viewmount.Disk {
	return viewmount.Disk{Serial: d.Serial, Partition: d.Partition, FileSystem: d.FileSystem, Wait: time.Duration(d.WaitMS) * time.Millisecond}
}

func mountDisk(h *host, req wire.Mount) error {
	ctx, cancel := h.context()
	defer cancel()
	return viewmount.Mount(ctx, diskOf(*req.Disk), string(req.Where))
}

// catchUp makes one tree equal to another, with the source's disk mounted for
// the time that takes.
func catchUp(h *host, out *wire.Writer, req wire.CatchUp) (wire.Result, error) {
	ctx, cancel := h.context()
	defer cancel()
	w := &wire.CatchUpResult{}
	if req.Disk == nil {
		source, err := os.Open(string(req.From))
		if err != nil {
			return wire.Result{}, err
		}
		defer source.Close()
		return wire.Result{CatchUp: w}, catchUpFrom(ctx, h, out, req, source, w)
	}
	view, err := viewmount.MountPrivate(ctx, diskOf(*req.Disk))
	if err != nil {
		return wire.Result{}, whyEnded(ctx, err)
	}
	w.WaitedNS, w.MountedNS = int64(view.Waited), int64(view.Mounted)
	source, err := view.Open(string(req.From))
	if err == nil {
		err = catchUpFrom(ctx, h, out, req, source, w)
		err = errors.Join(err, source.Close())
	}
	begin := time.Now()
	err = errors.Join(err, view.Close())
	w.UnmountedNS = int64(time.Since(begin))
	return wire.Result{CatchUp: w}, whyEnded(ctx, err)
}

// whyEnded prefers the reason for which the work was broken off.
func whyEnded(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func catchUpFrom(ctx context.Context, h *host, out *wire.Writer, req wire.CatchUp, source *os.File, w *wire.CatchUpResult) error {
	uid, gid, err := ownerOf(&wire.Meta{Owner: req.Owner})
	if err != nil {
		return err
	}
	opts := catchup.Options{
		Target: string(req.To), Manifest: string(req.Manifest), Label: label(req), UID: uid, GID: gid,
		Delete: req.Delete, Full: req.Full, CheckOnly: req.CheckOnly, Frozen: req.Frozen,
		Progress: func(p catchup.Progress) {
			// Where it cannot be told, the host is gone, which is noticed elsewhere.
			_ = out.SendJSON(wire.KindProgress, wire.CatchUpProgress(p))
		},
	}
	if req.TakenNS != 0 {
		opts.Taken = time.Unix(0, req.TakenNS)
	}
	if req.Rate != nil {
		opts.Limit = catchup.NewLimiter(req.Rate.BytesPerSecond, wire.RateExpiry*time.Second)
		go turn(ctx, h, opts.Limit)
	}
	begin := time.Now()
	res, err := catchup.Run(ctx, source, opts)
	w.WorkedNS = int64(time.Since(begin))
	fillResult(w, &res)
	if errors.Is(err, catchup.ErrNothingCompared) {
		w.NothingCompared, err = true, nil
	}
	return whyEnded(ctx, err)
}

// label is what a manifest is bound to. The disk's serial number is not part of
// it, since each view has another one.
func label(req wire.CatchUp) string {
	if req.Disk == nil {
		return fmt.Sprintf("directory %q", req.From)
	}
	return fmt.Sprintf("view partition %d %q", req.Disk.Partition, req.From)
}

// turn hands the host's rates on until ctx ends.
func turn(ctx context.Context, h *host, l *catchup.Limiter) {
	for {
		select {
		case rate := <-h.rates:
			l.Set(rate)
		case <-ctx.Done():
			return
		}
	}
}

// What a result names, in bytes: it must fit in one frame.
const (
	namedPath = 400
	namedText = 300
)

func fillResult(w *wire.CatchUpResult, r *catchup.Result) {
	w.Files, w.Dirs, w.Links, w.Hard, w.Specials, w.Sockets = r.Files, r.Dirs, r.Links, r.Hard, r.Specials, r.Sockets
	w.Skipped, w.Compared, w.ComparedBytes = r.Skipped, r.Compared, r.ComparedBytes
	w.Copied, w.Bytes, w.Linked, w.Touched, w.Deleted = r.Copied, r.Bytes, r.Linked, r.Touched, r.Deleted
	w.Differed, w.Foreign, w.Unkept, w.FaultCount = r.Differed, r.Foreign, r.Unkept, r.FaultCount
	w.Different, w.Foreigners = shortened(r.Different), shortened(r.Foreigners)
	for _, f := range r.Faults {
		text := f.Err.Error()
		w.Faults = append(w.Faults, wire.Fault{Path: []byte(cutPath(f.Path)), Text: text[:min(len(text), namedText)]})
	}
}

func shortened(paths []string) [][]byte {
	var list [][]byte
	for _, p := range paths {
		list = append(list, []byte(cutPath(p)))
	}
	return list
}

// cutPath keeps a path's end, which says more than its beginning.
func cutPath(p string) string {
	if len(p) <= namedPath {
		return p
	}
	return "…" + p[len(p)-namedPath:]
}
