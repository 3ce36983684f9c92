// Package upgrade runs an upgrade: the phases in their order, what each needs
// from the rooms, what is written down before each act, and the way back from
// everywhere. It is the only place that knows the order.
//
// Each verb of the command is one method of Engine. An Engine lives as long as
// its command; what lasts is in the journal, in libvirt and in the kernel, and
// every name is derived from the run, so that another process finds it again.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
)

// Options are what an engine needs besides the plan.
type Options struct {
	Executable string // this program, for the thaw guard
	Agent      []byte // the agent's binary for the guests
	Version    string // imago's own version, for the report
	Log        *slog.Logger
	Observe    func(Event) // called from several goroutines; may be nil
}

// Engine runs the verbs of one upgrade.
type Engine struct {
	plan   *plan.Plan
	opts   Options
	log    *slog.Logger
	j      *journal.Journal
	run    journal.Run // ID is 0 before the first check or clone
	conn   *hypervisor.Conn
	signer ssh.Signer
	n      names
	kind   string // virtualization type of new VMs
	noCX16 bool   // new VMs must do without cmpxchg16b
	see    *observer
	// checked: Check passed in this process just now, so Clone need not repeat
	// it; the sums of large images take long.
	checked bool
}

// Open connects to libvirt and opens the journal of the plan's state directory.
// It changes nothing but to create an empty journal.
func Open(ctx context.Context, p *plan.Plan, o Options) (*Engine, error) {
	e := &Engine{plan: p, opts: o, log: o.Log, see: newObserver(o.Observe)}
	signer, err := readSigner(p.SSH.Key)
	if err != nil {
		return nil, refuse(err)
	}
	e.signer = signer
	kvm, _, err := hypervisor.UsableKVM(string(p.Virtualization))
	if err != nil {
		return nil, refuse(err)
	}
	e.kind = hypervisor.TypeQEMU
	if kvm {
		e.kind = hypervisor.TypeKVM
	}
	if e.conn, err = hypervisor.Open(ctx, p.Connect, o.Log); err != nil {
		return nil, refuse(err)
	}
	if e.noCX16, err = e.conn.BrokenCX16(); err != nil {
		return nil, errors.Join(err, e.conn.Close())
	}
	if err := makeDir(p.StateDir); err != nil {
		return nil, errors.Join(err, e.conn.Close())
	}
	if e.j, err = journal.Open(ctx, journalDir(p)); err != nil {
		return nil, errors.Join(err, e.conn.Close())
	}
	if err := e.findRun(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// journalDir is closed to others; the state directory itself is not, since
// QEMU, which may run as another user, must reach the overlays below it.
func journalDir(p *plan.Plan) string { return filepath.Join(p.StateDir, "journal") }

// State is how far the plan's run is.
func (e *Engine) State() journal.State { return e.run.State }

// Close ends the connections. What the run made stays.
func (e *Engine) Close() error {
	return errors.Join(e.j.Close(), e.conn.Close())
}

// Lock makes this process the only one that works on the state directory, and
// settles what a crashed one left under way. Every verb that changes something
// needs it first; the lock ends with the returned function or with the process.
func (e *Engine) Lock(ctx context.Context) (func() error, error) {
	lock, err := e.j.Lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: wait until it is done, or end it; the state directory is %s", err, e.plan.StateDir)
	}
	if err := e.settle(ctx); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return lock.Unlock, nil
}

// findRun takes up the plan's current run, if there is one.
func (e *Engine) findRun(ctx context.Context) error {
	run, err := e.j.Current(ctx, e.plan.Name)
	if errors.Is(err, journal.ErrNoRun) {
		return nil
	}
	if err != nil {
		return err
	}
	e.adopt(run)
	return nil
}

func (e *Engine) adopt(run journal.Run) {
	e.run = run
	e.n = names{plan: e.plan.Name, run: tokenOf(run), stateDir: e.plan.StateDir}
}

// live tells whether a run of the plan is under way.
func (e *Engine) live() bool { return e.run.ID != 0 }

// begin starts a run if none is under way.
func (e *Engine) begin(ctx context.Context) error {
	if e.live() {
		return nil
	}
	run, err := e.j.Begin(ctx, e.plan.Name, e.plan.Text, e.plan.SHA256, e.versions())
	if err != nil {
		return err
	}
	e.adopt(run)
	return nil
}

// samePlan refuses to go on with a plan that was changed since the run began.
// A run that has made nothing yet is just begun anew.
func (e *Engine) samePlan(ctx context.Context) error {
	if !e.live() || e.run.PlanSHA256 == e.plan.SHA256 {
		return nil
	}
	standing, err := e.j.Standing(ctx, e.run.ID)
	if err != nil {
		return err
	}
	if e.run.State > journal.Checked || len(standing) > 0 {
		return refuse(fmt.Errorf("the plan %s was changed since run %s began with it: go on with the plan as it was, or 'imago abort' and start again", e.plan.Path, e.n.run))
	}
	for _, to := range []journal.State{journal.Aborting, journal.Aborted} {
		if err := e.become(ctx, to, "the plan was changed"); err != nil {
			return err
		}
	}
	e.run, e.n = journal.Run{}, names{}
	return nil
}

func (e *Engine) versions() map[string]string {
	v := map[string]string{"imago": e.opts.Version, "libvirt": e.conn.Version(), "virtualization": e.kind}
	if qemu, err := e.conn.EmulatorVersion(); err == nil {
		v["QEMU"] = qemu
	}
	if raw, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		v["kernel"] = string(raw[:max(0, len(raw)-1)])
	}
	return v
}

func readSigner(path string) (ssh.Signer, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the plan's ssh.key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("read the plan's ssh.key %s: %w (want an unencrypted OpenSSH private key)", path, err)
	}
	return signer, nil
}

// cleanupLimit bounds what is done after a failure or a signal.
const cleanupLimit = 2 * time.Minute

// cleanup gives a context for undoing things, which outlives a cancelled one.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
}
