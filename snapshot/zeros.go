package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

const (
	// overlayCluster is qemu-img's own choice for a new qcow2 image.
	overlayCluster = 64 << 10
	// zeroRun is the least that is worth an entry of its own.
	zeroRun = 1 << 20
	// zeroWrite is the most that one command marks; QEMU takes less than 2 GiB.
	zeroWrite = 1 << 30
)

// extent is a stretch of a disk in bytes.
type extent struct{ start, length uint64 }

// SkipZeros marks in a new overlay what the view knows to be zero, so that
// [Pull] neither reads nor counts it: of a thin disk that is most. It returns
// how many bytes that are. The overlay must not be in use yet. It only saves
// time: after an error, too, the overlay can be used.
func SkipZeros(ctx context.Context, path string, view View) (uint64, error) {
	marked, err := skipZeros(ctx, path, view)
	if err != nil {
		return marked, fmt.Errorf("mark what is zero in overlay %s: %w", path, err)
	}
	return marked, nil
}

func skipZeros(ctx context.Context, path string, view View) (marked uint64, err error) {
	var zero []extent
	err = mapView(ctx, view, func(e extent) { zero = append(zero, e) })
	if err != nil || len(zero) == 0 {
		return 0, err
	}
	// The backing image is left out: nothing of it is needed or to be opened.
	image, err := json.Marshal(map[string]any{"driver": "qcow2", "backing": nil, "file": map[string]string{"driver": "file", "filename": path}})
	if err != nil {
		return 0, err
	}
	var commands bytes.Buffer
	for _, e := range zero {
		for e.length > 0 {
			n := min(e.length, zeroWrite)
			fmt.Fprintf(&commands, "write -z %d %d\n", e.start, n)
			e.start, e.length, marked = e.start+n, e.length-n, marked+n
		}
	}
	return marked, qemuIO(ctx, "json:"+string(image), &commands)
}

// qemuIO runs qemu-io's commands on an image.
func qemuIO(ctx context.Context, image string, commands io.Reader) error {
	cmd := exec.CommandContext(ctx, "qemu-io", image)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var said tailBuffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = commands, &said, &said
	err := cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if text := said.String(); err != nil || strings.Contains(text, "failed") {
		return fmt.Errorf("qemu-io: %w: %s", orFailed(err), text)
	}
	return nil
}

func orFailed(err error) error {
	if err == nil {
		return errors.New("a command failed")
	}
	return err
}

// tailBuffer keeps the last of what a program says.
type tailBuffer struct{ b []byte }

func (t *tailBuffer) Write(p []byte) (int, error) {
	const most = 2048
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-most):]
	return len(p), nil
}

func (t *tailBuffer) String() string { return strings.TrimSpace(string(t.b)) }

// mapView asks the view what is zero.
func mapView(ctx context.Context, view View, zero func(extent)) error {
	cmd := exec.CommandContext(ctx, "qemu-img", "map", "-f", "raw", "--output=json", view.URI())
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr tailBuffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	parseErr := parseMap(out, view.Capacity, zero)
	_, _ = io.Copy(io.Discard, out)
	err = cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("qemu-img map: %w: %s", err, stderr.String())
	}
	return parseErr
}

// parseMap reads the list that qemu-img map prints and gives the long runs of
// zeros, cut to whole clusters. Neighbours are joined.
func parseMap(in io.Reader, capacity uint64, zero func(extent)) error {
	dec := json.NewDecoder(in)
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("parse the map: %w", err)
	}
	var run extent
	next := uint64(0)
	for dec.More() {
		var e struct {
			Start, Length uint64
			Zero          bool
		}
		if err := dec.Decode(&e); err != nil {
			return fmt.Errorf("parse the map: %w", err)
		}
		if e.Start != next || e.Length == 0 || e.Length > capacity-min(next, capacity) {
			return fmt.Errorf("parse the map: %d bytes at %d make no sense", e.Length, e.Start)
		}
		next += e.Length
		switch {
		case !e.Zero:
			give(run, zero)
			run = extent{}
		case run.length == 0:
			run = extent{e.Start, e.Length}
		default:
			run.length += e.Length
		}
	}
	give(run, zero)
	return nil
}

func give(run extent, zero func(extent)) {
	start := (run.start + overlayCluster - 1) / overlayCluster * overlayCluster
	end := (run.start + run.length) / overlayCluster * overlayCluster
	if run.length > 0 && end >= start+zeroRun {
		zero(extent{start, end - start})
	}
}
