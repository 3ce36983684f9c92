// Package inguest is the agent itself: what cmd/imago-agent runs inside a
// guest, one process per call. It owns running a step with its limits, hashing,
// walking and changing directories on request. It opens no connection, decides
// nothing, keeps no state between calls, and ends what it started when the host
// that asked is gone.
//
// It must stay small and quick to start: guests may run under slow emulation.
package inguest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"imago.dev/imago/guestagent/viewmount"
	"imago.dev/imago/guestagent/wire"
)

// defaultLease holds where a request names none.
const defaultLease = 30 * time.Second

// Serve speaks the agent's protocol over the two streams for one call and
// returns the process's exit status: 0 when the call was answered, whatever the
// answer; 1 when the host went away or spoke nonsense.
func Serve(stdin io.Reader, stdout io.Writer) int {
	// Caught, not ignored: an ignored signal would be inherited by the steps.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)

	out := wire.NewWriter(stdout)
	if err := out.SendJSON(wire.KindHello, wire.Hello{Version: wire.Version}); err != nil {
		return 1
	}
	req, in, err := readRequest(stdin)
	if err != nil {
		sendFailure(out, err)
		return 1
	}
	host := listen(in, time.Duration(req.LeaseMS)*time.Millisecond, signals)
	res, err := serve(host, out, req)
	switch {
	case errors.Is(err, errHostGone):
		return 1
	case err != nil:
		sendFailure(out, err)
	default:
		if out.SendJSON(wire.KindResult, res) != nil {
			return 1
		}
	}
	return 0
}

func readRequest(stdin io.Reader) (wire.Request, *wire.Reader, error) {
	in := wire.NewReader(stdin, wire.Host)
	var req wire.Request
	f, err := in.Next()
	if err != nil {
		return req, in, fmt.Errorf("read the request: %w", err)
	}
	if f.Kind != wire.KindRequest {
		return req, in, invalid("the first frame has kind %d, not a request", f.Kind)
	}
	if err := f.Decode(&req); err != nil {
		return req, in, err
	}
	if req.Version != wire.Version {
		return req, in, invalid("the host speaks version %d, this agent version %d", req.Version, wire.Version)
	}
	return req, in, nil
}

func serve(h *host, out *wire.Writer, req wire.Request) (wire.Result, error) {
	switch {
	case req.Op == wire.OpRun && req.Run != nil:
		return runStep(h, out, *req.Run)
	case req.Op == wire.OpApply && req.Apply != nil:
		return wire.Result{}, apply(h, out, *req.Apply)
	case req.Op == wire.OpCatchUp && req.CatchUp != nil:
		return catchUp(h, out, *req.CatchUp)
	case req.Op == wire.OpMount && req.Mount != nil && req.Mount.Disk != nil:
		return wire.Result{}, mountDisk(h, *req.Mount)
	case req.Op == wire.OpUnmount && req.Mount != nil:
		return wire.Result{}, viewmount.Unmount(string(req.Mount.Where))
	}
	// The rest only reads: when the host is gone or asks to stop, the process
	// may simply end.
	go func() {
		h.drain()
		os.Exit(1)
	}()
	switch {
	case req.Op == wire.OpHash && req.Hash != nil:
		return hashFile(out, *req.Hash)
	case req.Op == wire.OpTree && req.Tree != nil:
		return wire.Result{}, walkTree(out, *req.Tree)
	}
	return wire.Result{}, invalid("unknown operation %q", req.Op)
}

// codedError is an error whose code the host is told.
type codedError struct {
	code string
	text string
}

func (e *codedError) Error() string { return e.text }

func invalid(format string, args ...any) error {
	return &codedError{wire.CodeInvalid, fmt.Sprintf(format, args...)}
}

func failureOf(err error) wire.Failure {
	f := wire.Failure{Code: wire.CodeOther, Text: err.Error()}
	if len(f.Text) > 4096 {
		f.Text = f.Text[:4096]
	}
	var coded *codedError
	switch {
	case errors.As(err, &coded):
		f.Code = coded.code
	case errors.Is(err, fs.ErrNotExist):
		f.Code = wire.CodeNotExist
	case errors.Is(err, fs.ErrPermission):
		f.Code = wire.CodePermission
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		f.Code = wire.CodeNoSpace
	case errors.Is(err, wire.ErrProtocol):
		f.Code = wire.CodeInvalid
	}
	return f
}

// sendFailure tells the host; where that fails too there is nobody to tell.
func sendFailure(out *wire.Writer, err error) {
	_ = out.SendJSON(wire.KindFailure, failureOf(err))
}
