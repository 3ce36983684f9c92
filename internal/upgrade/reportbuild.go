package upgrade

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sort"
	"time"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/report"
	"imago.dev/imago/transfer"
)

// WriteReport writes report.json and report.html of the plan's latest run from
// what the journal holds, and returns the page's path; "" if there is no run.
// failure is what ended the verb, if it did not go well.
func (e *Engine) WriteReport(ctx context.Context, failure error) (string, error) {
	run, err := e.j.Latest(ctx, e.plan.Name)
	if errors.Is(err, journal.ErrNoRun) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	// The run may be over: then the engine has none, but its report has.
	asRun := *e
	asRun.see = newObserver(nil)
	asRun.adopt(run)
	r, err := asRun.buildReport(ctx, failure)
	if err != nil {
		return "", err
	}
	dir := asRun.n.reportDir()
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return report.Write(dir, r)
}

func (e *Engine) buildReport(ctx context.Context, failure error) (report.Report, error) {
	r := report.Report{
		Result: resultOf(e.run.State, failure), Reason: e.run.Reason, Run: e.n.run, Versions: e.run.Versions,
		Plan:    report.Plan{Name: e.plan.Name, Path: e.plan.Path, SHA256: e.run.PlanSHA256, Text: e.run.Plan},
		Started: e.run.Began, Ended: time.Now(),
	}
	if failure != nil {
		r.Reason = failure.Error()
	}
	for _, part := range []func(context.Context, *report.Report) error{
		e.reportPhases, e.reportClone, e.reportIsolation, e.reportTests, e.reportData, e.reportTransfer, e.reportSwitch, e.reportClients,
	} {
		if err := part(ctx, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// resultOf says in the report's words how the run stands.
func resultOf(s journal.State, failure error) report.Result {
	switch s {
	case journal.Switched:
		return report.Switched
	case journal.Finalized:
		return report.Finalized
	case journal.RolledBack:
		return report.RolledBack
	case journal.Aborted:
		return report.Aborted
	case journal.Tested:
		if failure == nil {
			return report.Ready
		}
	}
	return report.Failed
}

func (e *Engine) reportPhases(ctx context.Context, r *report.Report) error {
	phases, err := e.j.Phases(ctx, e.run.ID)
	if err != nil {
		return err
	}
	for _, p := range phases {
		out := report.Phase{Name: p.Name, Started: p.Started, Seconds: p.Seconds, Outcome: string(p.Outcome), Detail: p.Detail}
		key := map[string]string{phaseConvert.name: evidenceConvert, phaseSwitch.name: evidenceReview}[p.Name]
		if key != "" && p.Outcome == journal.Done {
			if err := e.reportSteps(ctx, key, &out); err != nil {
				return err
			}
		}
		r.Phases = append(r.Phases, out)
	}
	return nil
}

func (e *Engine) reportSteps(ctx context.Context, key string, to *report.Phase) error {
	var steps []StepEvidence
	_, err := e.get(ctx, key, &steps)
	for _, s := range steps {
		to.Steps = append(to.Steps, report.Phase{Name: s.Name, Started: s.Started, Seconds: s.Seconds, Outcome: string(journal.Done)})
	}
	return err
}

func (e *Engine) reportClone(ctx context.Context, r *report.Report) error {
	var ev CloneEvidence
	had, err := e.get(ctx, evidenceClone, &ev)
	if err != nil || !had {
		return err
	}
	r.Clone = report.Clone{Seconds: ev.Seconds, Taken: ev.Taken, PulledBytes: ev.Pulled}
	for _, vm := range ev.PerVM {
		r.Clone.PerVM = append(r.Clone.PerVM, report.CloneVM(vm))
	}
	for _, f := range ev.Frozen {
		r.Clone.Frozen = append(r.Clone.Frozen, report.Frozen(f))
	}
	return nil
}

func (e *Engine) reportIsolation(ctx context.Context, r *report.Report) error {
	var before, after map[string]hypervisor.Fingerprint
	if _, err := e.get(ctx, evidenceBefore, &before); err != nil {
		return err
	}
	if _, err := e.get(ctx, evidenceAfter, &after); err != nil {
		return err
	}
	for name, b := range before {
		a := after[name]
		r.Isolation.Domains = append(r.Isolation.Domains, report.DomainProof{Domain: name,
			XMLBefore: b.XMLSHA256, XMLAfter: a.XMLSHA256, DiskChainBefore: b.DiskChainSHA256, DiskChainAfter: a.DiskChainSHA256})
	}
	sort.Slice(r.Isolation.Domains, func(i, k int) bool { return r.Isolation.Domains[i].Domain < r.Isolation.Domains[k].Domain })
	var tried AttemptsEvidence
	had, err := e.get(ctx, evidenceAttempts, &tried)
	if err != nil || !had {
		return err
	}
	r.Isolation.PacketsLeft, r.Isolation.PacketsTried = &tried.Left, tried.Total
	for _, a := range tried.Attempts {
		r.Isolation.Attempts = append(r.Isolation.Attempts, report.Attempt{
			Destination: a.Dst.String(), Protocol: a.Proto, Port: a.Port, Packets: a.Packets, Bytes: a.Bytes})
	}
	return nil
}

func (e *Engine) reportTests(ctx context.Context, r *report.Report) error {
	var tests []TestEvidence
	_, err := e.get(ctx, evidenceTests, &tests)
	for _, t := range tests {
		r.Tests = append(r.Tests, report.Test(t))
	}
	return err
}

// reportData shows the comparisons of the switch, or of the test as long as
// there was no switch.
func (e *Engine) reportData(ctx context.Context, r *report.Report) error {
	var checks []VerifyEvidence
	had, err := e.get(ctx, evidenceData, &checks)
	if err == nil && !had {
		_, err = e.get(ctx, evidenceTestData, &checks)
	}
	for _, c := range checks {
		doubled := finding(c.OldDoubled)
		doubled.Count += c.NewDoubled.Count
		doubled.Sample = append(doubled.Sample, finding(c.NewDoubled).Sample...)
		r.Data.Checks = append(r.Data.Checks, report.DataCheck{Name: c.Name, Seconds: c.Seconds, Objects: c.Objects, Verified: c.Verified,
			Missing: finding(c.Missing), Extra: finding(c.Extra), Different: finding(c.Different), Doubled: doubled})
	}
	return err
}

// reportTransfer tells of the data that flowed, and of the clients' ledger.
func (e *Engine) reportTransfer(ctx context.Context, r *report.Report) error {
	var sets []TransferEvidence
	if _, err := e.get(ctx, evidenceTransfer, &sets); err != nil {
		return err
	}
	for _, t := range sets {
		r.Data.Sets = append(r.Data.Sets, report.DataSet{
			Name: t.Name, Seconds: t.Seconds, Rows: t.Rows, Bytes: t.Bytes, Changes: t.Changes, Rescheduled: t.Rescheduled,
			Converted: t.Converted, Verified: t.Verified, Rejected: t.Rejected, Position: t.Position.GTID, Late: t.Late,
		})
	}
	var files []FilesEvidence
	if _, err := e.get(ctx, evidenceFiles, &files); err != nil {
		return err
	}
	for _, f := range files {
		r.Data.Files = append(r.Data.Files, report.FileSet{Name: f.Name, Seconds: f.Seconds, Files: f.Files, Copied: f.Copied, Deleted: f.Deleted, Bytes: f.Bytes, Compared: f.Compared})
	}
	if e.plan.Clients.Ledger == "" {
		return nil
	}
	var err error
	r.Data.Ledger, err = report.ReadLedger(e.plan.Clients.Ledger)
	return err
}

// finding makes keys, which are a guest's words, safe to show.
func finding(f transfer.Finding) report.Finding {
	out := report.Finding{Count: f.Count}
	for _, key := range f.Sample {
		out.Sample = append(out.Sample, guestagent.Clean(key))
	}
	return out
}

func (e *Engine) reportSwitch(ctx context.Context, r *report.Report) error {
	var sw SwitchEvidence
	had, err := e.get(ctx, evidenceSwitch, &sw)
	if err != nil {
		return err
	}
	if had {
		r.Switch = &report.Switch{HeldFrom: sw.HeldFrom, Flipped: sw.Flipped, HoldMS: sw.HoldMS, DrainMS: sw.DrainMS, FlipUS: sw.FlipUS,
			HeldConnections: sw.HeldNew, Closed: sw.Closed, Forced: sw.Forced,
			DrainedMS: sw.DrainedMS, RowsMS: sw.RowsMS, StepsMS: sw.StepsMS, FilesMS: sw.FilesMS, LastChangesMS: sw.LastChangesMS}
	}
	var rb RollbackEvidence
	if had, err = e.get(ctx, evidenceRollback, &rb); err != nil || !had {
		return err
	}
	r.Rollback = &report.Rollback{Flipped: rb.Flipped, HoldMS: rb.HoldMS, FlipUS: rb.FlipUS}
	for _, l := range rb.Lost {
		r.Rollback.Lost = append(r.Rollback.Lost, report.Lost{Name: l.Name, Added: finding(l.Added), Changed: finding(l.Changed), Removed: finding(l.Removed)})
	}
	return nil
}

func (e *Engine) reportClients(ctx context.Context, r *report.Report) error {
	if len(e.plan.Clients.Logs) == 0 {
		return nil
	}
	var flips report.Flips
	if r.Switch != nil {
		flips.Switch = r.Switch.Flipped
	}
	if r.Rollback != nil {
		flips.Rollback = r.Rollback.Flipped
	}
	var err error
	r.Clients, r.Points, err = report.ReadClientLogs(ctx, e.plan.Clients.Logs, flips)
	return err
}
