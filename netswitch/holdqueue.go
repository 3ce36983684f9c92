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
	if _, taken, err := queueWaiting(queue); err != nil {
		return nil, err
	} else if taken {
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

// queueWaiting reads how many packets wait in a queue and whether it has a reader.
func queueWaiting(queue uint16) (n int, bound bool, err error) {
	b, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
	if errors.Is(err, os.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read queues: %w", err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != strconv.Itoa(int(queue)) {
			continue
		}
		n, err := strconv.Atoi(f[2])
		if err != nil {
			return 0, true, fmt.Errorf("read queues: %w", err)
		}
		return n, true, nil
	}
	return 0, false, nil
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
