package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"imago.dev/imago/internal/lab"
)

// labDemo is the whole story in one command: a lab, clients that use its system
// all the time, the upgrade, and the report.
func (a *app) labDemo(f *labFlags) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "demo", Args: cobra.NoArgs,
		Short: "Upgrade the sample system while clients use it, and write the report",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.demo(cmd.Context(), f, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "out", "directory for the report")
	return cmd
}

func (a *app) demo(ctx context.Context, f *labFlags, out string) (err error) {
	out, err = absolute(out)
	if err != nil {
		return err
	}
	began := time.Now()
	say := func(text string) { a.say(clock(time.Since(began)) + " " + text) }
	l, err := a.bringUp(ctx, f, true, say)
	if err != nil {
		return err
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, l.Down(after))
	}()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	clients, err := l.StartClients(ctx, self, a.Err)
	if err != nil {
		return err
	}
	sys, err := lab.SystemByName(f.system)
	if err != nil {
		return err
	}
	if err := clients.Await(ctx, sys.OldVersion, 1, 3*time.Minute); err != nil && ctx.Err() == nil {
		return errors.Join(err, clients.Stop())
	}
	say(fmt.Sprintf("%d clients use the system; the upgrade begins", len(sys.Clients)))
	upgradeErr := a.attach(l.Command(ctx, self, "upgrade", l.State.PlanPath, "--yes", "--log-level", a.logLevel))
	if upgradeErr == nil {
		upgradeErr = clients.Await(ctx, sys.NewVersion, 2, 3*time.Minute)
	}
	if ctx.Err() != nil {
		return errors.New("the demo was stopped; its lab is removed, nothing of it is left")
	}
	return errors.Join(upgradeErr, a.demoEnd(ctx, l, clients, self, out, say))
}

// demoEnd stops the clients, looks for every write that they saw acknowledged
// and brings the report out of the lab.
func (a *app) demoEnd(ctx context.Context, l *lab.Lab, clients *lab.Clients, self, out string, say func(string)) error {
	stopErr := clients.Stop()
	ledger, ledgerErr := clients.CheckLedger(ctx)
	if ledgerErr == nil {
		say(fmt.Sprintf("ledger: %d acknowledged writes, %d lost, %d doubled, %d out of order",
			ledger.Acknowledged, len(ledger.Lost), len(ledger.Doubled), len(ledger.OutOfOrder)))
		if !ledger.OK() {
			ledgerErr = fmt.Errorf("the ledger does not agree: %+v", ledger)
		}
	}
	reportErr := a.attach(l.Command(ctx, self, "report", l.State.PlanPath))
	copyErr := copyReport(l, out)
	if copyErr == nil {
		say("report: " + filepath.Join(out, "report.html"))
	}
	return errors.Join(stopErr, ledgerErr, reportErr, copyErr)
}

// copyReport takes the newest report out of the lab's state directory.
func copyReport(l *lab.Lab, out string) error {
	dirs, err := filepath.Glob(filepath.Join(l.Dir, "host/var/lib/imago/reports/*/report.json"))
	if err != nil || len(dirs) != 1 {
		return fmt.Errorf("find the report in the lab: %d found, %v", len(dirs), err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"report.json", "report.html"} {
		raw, err := os.ReadFile(filepath.Join(filepath.Dir(dirs[0]), name))
		if err != nil {
			return fmt.Errorf("read the report: %w", err)
		}
		if err := os.WriteFile(filepath.Join(out, name), raw, 0o644); err != nil {
			return fmt.Errorf("copy the report: %w", err)
		}
	}
	return nil
}
