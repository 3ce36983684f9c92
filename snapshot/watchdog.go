package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

// Loss says that the view of one VM broke. Its clones are lost; production goes on.
type Loss struct {
	VM  string
	Why string
	At  time.Time
}

func (l Loss) Error() string { return fmt.Sprintf("the view of %q is lost: %s", l.VM, l.Why) }

const (
	// dogPoll finds what an event did not tell.
	dogPoll = 500 * time.Millisecond
	// dogBlind is how long libvirt may be silent before the view counts as
	// lost: a watchdog that cannot see must not report that all is well.
	dogBlind = 15 * time.Second
	// resumeTries bounds how often a guest is resumed after a rescue; a guest
	// that stops again without our job has a trouble of its own.
	resumeTries = 5
)

// watchdog watches the source domains of a set while their backup jobs run. On
// an I/O error it ends the job at once and resumes the guest.
type watchdog struct {
	log    *slog.Logger
	dir    string
	kennel []*watched
	lost   chan Loss

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	losses []error
}

// watched is one VM under watch.
type watched struct {
	vm       *vmView
	conn     *libvirt.Connect
	events   []int
	wake     chan struct{} // something happened: look now
	ioError  chan string   // path of the disk that reported an error
	lastSeen time.Time
	isLost   bool
}

func newWatchdog(vms []*vmView, dir string, log *slog.Logger) *watchdog {
	w := &watchdog{log: log, dir: dir, lost: make(chan Loss, len(vms))}
	for _, vm := range vms {
		w.kennel = append(w.kennel, &watched{vm: vm, wake: make(chan struct{}, 1), ioError: make(chan string, 1)})
	}
	return w
}

// subscribe asks for libvirt's events, before the jobs begin, so none is missed.
func (w *watchdog) subscribe() error {
	for _, v := range w.kennel {
		if err := v.subscribe(); err != nil {
			return fmt.Errorf("watch %q: %w", v.vm.name, err)
		}
	}
	return nil
}

func (v *watched) subscribe() error {
	conn, err := v.vm.dom.DomainGetConnect()
	if err != nil {
		return err
	}
	v.conn = conn
	// Callbacks run on libvirt's event loop and must neither block nor call libvirt.
	id, err := conn.DomainEventIOErrorReasonRegister(v.vm.dom, func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventIOErrorReason) {
		select {
		case v.ioError <- e.SrcPath + " (" + e.Reason + ")":
		default:
		}
		v.poke()
	})
	if err != nil {
		return err
	}
	v.events = append(v.events, id)
	id, err = conn.DomainEventLifecycleRegister(v.vm.dom, func(*libvirt.Connect, *libvirt.Domain, *libvirt.DomainEventLifecycle) { v.poke() })
	if err != nil {
		return err
	}
	v.events = append(v.events, id)
	return nil
}

func (v *watched) poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

func (w *watchdog) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	for _, v := range w.kennel {
		w.wg.Go(func() { w.watch(ctx, v) })
	}
}

// stop ends the watch and waits for it. It may be called more than once.
func (w *watchdog) stop() {
	if w.cancel != nil {
		w.cancel()
	}
	w.wg.Wait()
	for _, v := range w.kennel {
		for _, id := range v.events {
			_ = v.conn.DomainEventDeregister(id)
		}
		v.events = nil
		if v.conn != nil {
			_, _ = v.conn.Close() // the reference that DomainGetConnect gave
			v.conn = nil
		}
	}
}

func (w *watchdog) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.losses...)
}

func (w *watchdog) watch(ctx context.Context, v *watched) {
	v.lastSeen = time.Now()
	tick := time.NewTicker(dogPoll)
	defer tick.Stop()
	for !v.isLost {
		w.look(ctx, v)
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		case <-tick.C:
		}
	}
}

// look judges one VM and acts.
func (w *watchdog) look(ctx context.Context, v *watched) {
	state, reason, err := v.vm.dom.GetState()
	if err != nil {
		w.blind(v, err)
		return
	}
	select {
	case path := <-v.ioError:
		w.rescue(ctx, v, "disk "+path+" reported an I/O error")
		return
	default:
	}
	switch {
	case state == libvirt.DOMAIN_PAUSED && reason == int(libvirt.DOMAIN_PAUSED_IOERROR):
		w.rescue(ctx, v, "the guest was paused by an I/O error")
		return
	case state == libvirt.DOMAIN_SHUTOFF || state == libvirt.DOMAIN_CRASHED:
		w.declare(v, "the production VM is off")
		return
	}
	running, ours, err := runningJob(v.vm.dom, w.dir)
	switch {
	case err != nil:
		w.blind(v, err)
	case !running || !ours:
		w.declare(v, "the backup job ended before its time")
	default:
		v.lastSeen = time.Now()
	}
}

func (w *watchdog) blind(v *watched, err error) {
	if time.Since(v.lastSeen) > dogBlind {
		w.declare(v, fmt.Sprintf("libvirt does not answer: %v", err))
	}
}

func (w *watchdog) declare(v *watched, why string) {
	v.isLost = true
	loss := Loss{VM: v.vm.name, Why: why, At: time.Now()}
	w.mu.Lock()
	w.losses = append(w.losses, loss)
	w.mu.Unlock()
	w.lost <- loss // has room for one per VM
}

// rescue gives the view up for production: the job ends, then the guest runs
// again. It is not cut short by the end of the watch.
func (w *watchdog) rescue(ctx context.Context, v *watched, why string) {
	w.log.Warn("giving up a view to keep production running", "vm", v.vm.name, "why", why)
	ctx = context.WithoutCancel(ctx)
	if err := EndJob(ctx, v.vm.dom, w.dir); err != nil && !errors.Is(err, ErrForeignJob) {
		why += fmt.Sprintf("; ending the job: %v", err)
	}
	if err := w.resume(ctx, v.vm.dom); err != nil {
		why += fmt.Sprintf("; resuming the guest: %v", err)
	}
	w.declare(v, why)
}

// resume lets a guest run that an I/O error paused; one that was paused by a
// person stays paused. QEMU repeats the failed write then.
func (w *watchdog) resume(ctx context.Context, dom *libvirt.Domain) error {
	for range resumeTries {
		state, reason, err := dom.GetState()
		if err != nil {
			return err
		}
		if state != libvirt.DOMAIN_PAUSED || reason != int(libvirt.DOMAIN_PAUSED_IOERROR) {
			return nil
		}
		if err := dom.Resume(); err != nil && !isCode(err, libvirt.ERR_OPERATION_INVALID) {
			return err
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
	return errors.New("it stops again and again")
}
