package inguest

import (
	"errors"
	"os"
	"syscall"
	"time"

	"imago.dev/imago/guestagent/wire"
)

// chunk is the most output sent in one frame.
const chunk = 32 << 10

// maxLeftover bounds what is read from a pipe once its time is over: more than
// a pipe holds, so nothing the step itself wrote is lost, and less than for ever.
const maxLeftover = 2 << 20

// forward sends all of f until its end, its read deadline, or a host that no
// longer reads.
func forward(out *wire.Writer, kind wire.Kind, f *os.File) {
	defer f.Close()
	buf := make([]byte, chunk)
	for {
		n, err := f.Read(buf)
		if n > 0 && out.Send(kind, buf[:n]) != nil {
			return
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			leftover(out, kind, f, buf)
			return
		case err != nil:
			return
		}
	}
}

// leftover sends what is in the pipe without waiting for more. The deadline may
// have passed while the host was slow to take earlier output.
func leftover(out *wire.Writer, kind wire.Kind, f *os.File, buf []byte) {
	_ = f.SetReadDeadline(time.Time{})
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	for sent := 0; sent < maxLeftover; {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = syscall.Read(int(fd), buf)
			return true
		})
		if err != nil || n <= 0 || out.Send(kind, buf[:n]) != nil {
			return
		}
		sent += n
	}
}
