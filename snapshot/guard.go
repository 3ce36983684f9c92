package snapshot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"libvirt.org/go/libvirt"
)

// guardOrder is the first line that the guard reads.
type guardOrder struct {
	URI      string        `json:"uri"`
	Dir      string        `json:"dir"`      // scratch files of our jobs
	Domains  []string      `json:"domains"`  // UUIDs
	Patience time.Duration `json:"patience"` // how long the guests may stay frozen
}

// What guard and guarded say to each other, a line each.
const (
	guardReady = "ready"
	guardDone  = "done"
	guardOK    = "ok"
)

// guardMaxOrder bounds the order's line; hundreds of domains fit.
const guardMaxOrder = 1 << 20

// guardRounds are the pauses before each round of thawing, once the guard
// fired: a freeze or begin that libvirtd had already accepted from the dead process
// may take effect after the first round.
var guardRounds = []time.Duration{0, 500 * time.Millisecond, time.Second, 2 * time.Second}

// RunGuard is the body of the thaw guard, a child process that holds its own
// connection to libvirt. It reads one order from stdin, answers "ready", and
// waits. "done" ends it; the end of stdin (its parent died), or too long a
// silence, makes it thaw the guests and end our backup jobs. It ignores the
// signals that a terminal or a service manager sends to the whole group, and
// SIGPIPE, because it outlives the reader of its answers; so it must run in a
// process of its own.
func RunGuard(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	in := bufio.NewReader(io.LimitReader(stdin, guardMaxOrder))
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("thaw guard: read the order: %w", err)
	}
	var order guardOrder
	if err := json.Unmarshal(line, &order); err != nil {
		return fmt.Errorf("thaw guard: understand the order: %w", err)
	}
	doms, closeConn, err := order.connect()
	if err != nil {
		return fmt.Errorf("thaw guard: %w", err)
	}
	defer closeConn()
	if _, err := fmt.Fprintln(stdout, guardReady); err != nil {
		return fmt.Errorf("thaw guard: %w", err)
	}
	if err := waitForDone(ctx, in, order.Patience); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrGuardFired, err), order.fire(ctx, doms))
	}
	_, err = fmt.Fprintln(stdout, guardOK)
	return err
}

func (o guardOrder) connect() ([]*libvirt.Domain, func(), error) {
	conn, err := libvirt.NewConnect(o.URI)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to libvirt at %q: %w", o.URI, err)
	}
	var doms []*libvirt.Domain
	free := func() {
		for _, d := range doms {
			_ = d.Free()
		}
		_, _ = conn.Close()
	}
	for _, uuid := range o.Domains {
		d, err := conn.LookupDomainByUUIDString(uuid)
		if err != nil {
			free()
			return nil, nil, fmt.Errorf("look up domain %s: %w", uuid, err)
		}
		doms = append(doms, d)
	}
	return doms, free, nil
}

// waitForDone returns nil if the parent said "done" in time. The reading
// goroutine ends with stdin, at the latest with the process.
func waitForDone(ctx context.Context, in *bufio.Reader, patience time.Duration) error {
	said := make(chan string, 1)
	go func() {
		line, _ := in.ReadString('\n')
		said <- line
	}()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case line := <-said:
		if line == guardDone+"\n" {
			return nil
		}
		return errors.New("the parent died while guests were frozen")
	case <-deadline.C:
		return fmt.Errorf("guests were frozen for %s", patience)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fire thaws all guests and ends our jobs, several times over.
func (o guardOrder) fire(ctx context.Context, doms []*libvirt.Domain) error {
	ctx = context.WithoutCancel(ctx)
	var last error
	for _, wait := range guardRounds {
		if err := pause(ctx, wait); err != nil {
			return err
		}
		vms := make([]*vmView, 0, len(doms))
		for _, d := range doms {
			vms = append(vms, &vmView{dom: d})
		}
		last = eachVM(vms, func(vm *vmView) error {
			thawErr := thawIfAgent(ctx, vm)
			endErr := EndJob(ctx, vm.dom, o.Dir)
			if errors.Is(endErr, ErrForeignJob) {
				endErr = nil
			}
			return errors.Join(thawErr, endErr)
		})
	}
	return last
}

// thawIfAgent skips guests without an agent: they were never frozen.
func thawIfAgent(ctx context.Context, vm *vmView) error {
	if err := vm.describe(); err != nil {
		return err
	}
	if !vm.agent {
		return nil
	}
	return thaw(ctx, vm.dom)
}
