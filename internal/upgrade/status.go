package upgrade

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
)

// Status is where an upgrade stands.
type Status struct {
	Plan      string             `json:"plan"`
	Run       string             `json:"run,omitempty"`
	State     string             `json:"state"`
	Reason    string             `json:"reason,omitempty"`
	Next      []string           `json:"next,omitempty"` // verbs that may follow
	Phases    []journal.Phase    `json:"phases,omitempty"`
	Resources []journal.Resource `json:"resources,omitempty"`
	// ClientsReach is what the VIP map in the kernel says: old, new, mixed, or
	// absent (then the host's own rules decide).
	ClientsReach string `json:"clients_reach,omitempty"`
	Report       string `json:"report,omitempty"`
	// Live is what the imago at work says; nil when none is.
	Live     *Live              `json:"live,omitempty"`
	Transfer []TransferEvidence `json:"transfer,omitempty"` // as last written down
}

// ReadStatus reads where the plan's latest run stands, also while another
// process works on it. It needs no libvirt and changes nothing.
func ReadStatus(ctx context.Context, p *plan.Plan, log *slog.Logger) (Status, error) {
	j, err := journal.OpenReadOnly(ctx, journalDir(p))
	if errors.Is(err, journal.ErrNone) {
		return Status{Plan: p.Name, State: "none"}, nil
	}
	if err != nil {
		return Status{}, err
	}
	e := &Engine{plan: p, log: log, j: j, see: newObserver(nil)}
	st, err := e.Status(ctx)
	return st, errors.Join(err, j.Close())
}

// WriteReport writes the report of the plan's latest run anew; see
// [Engine.WriteReport]. It needs no libvirt.
func WriteReport(ctx context.Context, p *plan.Plan, log *slog.Logger) (string, error) {
	j, err := journal.OpenReadOnly(ctx, journalDir(p))
	if err != nil {
		return "", err
	}
	e := &Engine{plan: p, log: log, j: j, see: newObserver(nil)}
	path, err := e.WriteReport(ctx, nil)
	return path, errors.Join(err, j.Close())
}

// Status is ReadStatus for an open engine.
func (e *Engine) Status(ctx context.Context) (Status, error) {
	st := Status{Plan: e.plan.Name, State: "none"}
	run, err := e.j.Latest(ctx, e.plan.Name)
	if errors.Is(err, journal.ErrNoRun) {
		return st, nil
	}
	if err != nil {
		return st, err
	}
	n := names{plan: e.plan.Name, run: tokenOf(run), stateDir: e.plan.StateDir}
	st.Run, st.State, st.Reason, st.Next = n.run, run.State.String(), run.Reason, nextVerbs(run.State)
	if _, err := os.Stat(filepath.Join(n.reportDir(), "report.json")); err == nil {
		st.Report = filepath.Join(n.reportDir(), "report.html")
	}
	if st.Phases, err = e.j.Phases(ctx, run.ID); err != nil {
		return st, err
	}
	if st.Resources, err = e.j.Standing(ctx, run.ID); err != nil {
		return st, err
	}
	if st.Live, err = askLive(ctx, n); err != nil {
		return st, err
	}
	if err := e.j.Get(ctx, run.ID, evidenceTransfer, &st.Transfer); err != nil && !errors.Is(err, journal.ErrNoEvidence) {
		return st, err
	}
	side, err := e.side(ctx, n)
	st.ClientsReach = side.String()
	return st, err
}

// side asks the kernel which version the clients of a run reach.
func (e *Engine) side(ctx context.Context, n names) (netswitch.Side, error) {
	asRun := &Engine{plan: e.plan, log: e.log, n: n}
	services, _ := asRun.services()
	m, err := netswitch.NewVIPMap(n.run, services, e.log)
	if err != nil {
		return netswitch.Absent, err
	}
	side, err := m.Side(ctx)
	if err != nil || side != netswitch.Mixed {
		return side, err
	}
	// After finalize the map leads to the new VMs on the production network.
	if m, err = netswitch.NewVIPMap(n.run, asRun.promoted(services), e.log); err != nil {
		return netswitch.Absent, err
	}
	return m.Side(ctx)
}

// nextVerbs lists the verbs that a person may give next, the usual one first.
func nextVerbs(s journal.State) []string {
	verbs := map[journal.State][]string{
		journal.New: {"check", "clone", "abort"}, journal.Checked: {"clone", "abort"}, journal.Cloned: {"convert", "abort"},
		journal.Converted: {"test", "convert", "abort"}, journal.Tested: {"switch", "test", "abort"},
		journal.Switched: {"finalize", "rollback"}, journal.RolledBack: {"switch", "abort"}, journal.Failed: {"rollback", "abort"},
	}
	return verbs[s]
}
