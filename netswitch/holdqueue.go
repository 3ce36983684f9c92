package netswitch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/florianl/go-nfqueue"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const queueLen = 65536 // packets that may wait in the kernel

// errQueueTaken says that somebody else reads the queue.
var errQueueTaken = errors.New("queue is in use")

// openQueue binds the queue and delivers its packets to f, from one goroutine of
// the library's, until ctx ends.
func openQueue(ctx context.Context, queue uint16, f func(nfqueue.Attribute)) (*nfqueue.Nfqueue, error) {
	if st, err := readQueue(queue); err != nil {
		return nil, err
	} else if st.bound {
		return nil, fmt.Errorf("queue %d: %w", queue, errQueueTaken)
	}
	q, err := nfqueue.Open(&nfqueue.Config{
		NfQueue: queue, MaxPacketLen: 0xffff, MaxQueueLen: queueLen, AfFamily: unix.AF_INET,
		Copymode: nfqueue.NfQnlCopyPacket, WriteTimeout: time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("open queue %d: %w", queue, err)
	}
	err = errors.Join(
		q.Con.SetReadBuffer(netlinkBuffer), q.Con.SetWriteBuffer(netlinkBuffer),
		// A full socket buffer must not end the reading; the packet is sent again.
		q.SetOption(mdnetlink.NoENOBUFS, true),
	)
	if err == nil {
		err = q.RegisterWithErrorFunc(ctx,
			func(a nfqueue.Attribute) int { f(a); return 0 },
			func(error) int {
				if ctx.Err() != nil {
					return 1
				}
				return 0
			})
	}
	if err != nil {
		q.Close()
		return nil, fmt.Errorf("bind queue %d: %w", queue, err)
	}
	return q, nil
}

// queueState is what the kernel tells of a queue.
type queueState struct {
	bound   bool // somebody reads it
	waiting int  // packets without a verdict
	lastID  uint32
}

func readQueue(queue uint16) (queueState, error) {
	b, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
	if errors.Is(err, os.ErrNotExist) {
		return queueState{}, nil
	}
	if err != nil {
		return queueState{}, fmt.Errorf("read queues: %w", err)
	}
	return parseQueues(string(b), queue)
}

// parseQueues reads the kernel's table: number, reader, waiting, mode, range,
// dropped, dropped on the way, last number, 1.
func parseQueues(table string, queue uint16) (queueState, error) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 || f[0] != strconv.Itoa(int(queue)) {
			continue
		}
		waiting, err1 := strconv.Atoi(f[2])
		last, err2 := strconv.ParseUint(f[7], 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return queueState{}, fmt.Errorf("read queues: %w", err)
		}
		return queueState{bound: true, waiting: waiting, lastID: uint32(last)}, nil
	}
	return queueState{}, nil
}

// injector sends packets of our own making, with addresses as we say.
type injector struct{ fd int }

func openInjector() (*injector, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	return &injector{fd}, nil
}

func (i *injector) send(packet []byte, to netip.Addr) error {
	if err := unix.Sendto(i.fd, packet, 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
		return fmt.Errorf("send to %s: %w", to, err)
	}
	return nil
}

func (i *injector) close() { unix.Close(i.fd) }
