package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/internal/upgrade"
	"imago.dev/imago/netswitch"
)

// verb is one command that works on a plan.
type verb struct {
	name, short, long string
	act               func(*upgrade.Engine, context.Context) error
	flags             func(*cobra.Command)
	report            bool // ends with a report
}

func (a *app) upgradeCommands() []*cobra.Command {
	var yes, acceptLoss, follow bool
	verbs := []verb{
		{name: "check", short: "Look at everything an upgrade will need; change nothing", act: (*upgrade.Engine).Check},
		{name: "clone", short: "Clone production into a sealed universe", act: (*upgrade.Engine).Clone},
		{name: "convert", short: "Run the plan's conversion in the universe", act: (*upgrade.Engine).Convert},
		{name: "catchup", short: "Bring production's latest changes over; with --follow until Ctrl-C",
			act:   func(e *upgrade.Engine, ctx context.Context) error { return e.CatchUp(ctx, follow) },
			flags: func(c *cobra.Command) { c.Flags().BoolVar(&follow, "follow", false, "go on until Ctrl-C") }},
		{name: "test", short: "Test the new version in the universe and compare the data", act: (*upgrade.Engine).Test, report: true},
		{name: "switch", short: "Bring the clients to the new version, in one step", act: (*upgrade.Engine).Switch, report: true,
			long: "Clients are held, requests in flight finish, the last changes of production are brought\nover and compared, and the VIP map flips in one kernel transaction. If anything is late\nor wrong before that, the clients are released to the old version. Rows and files that\nflow (data: and files: in the plan) are caught up and compared before anybody is held."},
		{name: "rollback", short: "Bring the clients back to the old version, in one step", report: true,
			long: "Says first what going back would lose, and does it only if that is nothing or\n--accept-loss is given.",
			act:  func(e *upgrade.Engine, ctx context.Context) error { return e.Rollback(ctx, acceptLoss) },
			flags: func(c *cobra.Command) {
				c.Flags().BoolVar(&acceptLoss, "accept-loss", false, "go back even if what was written since the switch is lost")
			}},
		{name: "finalize", short: "Promote the universe and shut the old VMs down; no way back", act: (*upgrade.Engine).Finalize, report: true},
		{name: "abort", short: "Give the upgrade up and remove everything that imago made", act: (*upgrade.Engine).Abort, report: true},
		{name: "upgrade", short: "Check, clone, convert and test; with --yes switch, too", report: true,
			act: func(e *upgrade.Engine, ctx context.Context) error { return a.upgradeAll(ctx, e, yes) },
			flags: func(c *cobra.Command) {
				c.Flags().BoolVar(&yes, "yes", false, "go through with the switch if all tests pass")
			}},
	}
	var cmds []*cobra.Command
	for _, v := range verbs {
		cmd := a.verbCommand(v)
		if v.name == "convert" {
			a.addConvertCommands(cmd)
		}
		cmds = append(cmds, cmd)
	}
	cmds = append(cmds, a.tuneCommands()...)
	return append(cmds, a.statusCommand(), a.reportCommand(), a.planCommand(), a.guardCommand())
}

func (a *app) verbCommand(v verb) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: v.name + " PLAN", Short: v.short, Long: v.long, Args: onePlan,
		ValidArgsFunction: planFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runVerb(cmd.Context(), v, args[0], dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be made or done, and do nothing")
	if v.flags != nil {
		v.flags(cmd)
	}
	return cmd
}

// onePlan wants exactly the plan's path.
func onePlan(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageErrorf("%s wants one argument: the path of the plan", cmd.CommandPath())
	}
	return nil
}

func planFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}

func (a *app) runVerb(ctx context.Context, v verb, path string, dryRun bool) error {
	p, err := loadPlan(path)
	if err != nil {
		return err
	}
	show := a.newDisplay()
	defer show.close()
	e, err := a.engine(ctx, p, show)
	if err != nil {
		return err
	}
	defer e.Close()
	if dryRun {
		acts, err := e.DryRun(ctx, v.name)
		if err != nil {
			return err
		}
		return a.showDryRun(acts)
	}
	unlock, err := e.Lock(ctx)
	if err != nil {
		return err
	}
	actErr := v.act(e, ctx)
	var reportErr error
	if v.report {
		reportErr = a.writeReport(ctx, e, show, actErr)
	}
	if st, err := e.Status(context.WithoutCancel(ctx)); err == nil {
		show.close()
		reportErr = errors.Join(reportErr, a.result(st))
	}
	return errors.Join(actErr, reportErr, unlock())
}

// upgradeAll runs the phases from where the upgrade stands up to the switch.
func (a *app) upgradeAll(ctx context.Context, e *upgrade.Engine, yes bool) error {
	for _, p := range []struct {
		before journal.State
		act    func(context.Context) error
	}{{journal.Checked, e.Check}, {journal.Cloned, e.Clone}, {journal.Converted, e.Convert}, {journal.Tested, e.Test}} {
		if e.State() >= p.before {
			continue
		}
		if err := p.act(ctx); err != nil {
			return err
		}
	}
	if !yes {
		a.say("the new version is ready and tested: 'imago switch' brings the clients to it")
		return nil
	}
	return e.Switch(ctx)
}

// loadPlan reads a plan. One that cannot be opened is a wrong command line.
func loadPlan(path string) (*plan.Plan, error) {
	p, err := plan.Load(path)
	if _, invalid := plan.IsInvalid(err); err != nil && !invalid {
		return nil, usageErrorf("%v", err)
	}
	return p, err
}

// engine opens the engine for a plan.
func (a *app) engine(ctx context.Context, p *plan.Plan, show *display) (*upgrade.Engine, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	agent, err := readAgent(self)
	if err != nil {
		return nil, err
	}
	return upgrade.Open(ctx, p, upgrade.Options{
		Executable: self, Agent: agent, Version: version(), Log: a.log, Observe: show.event,
	})
}

// readAgent finds the agent's binary beside this program, or where packages
// put it.
func readAgent(self string) ([]byte, error) {
	places := []string{filepath.Join(filepath.Dir(self), "imago-agent"), "/usr/lib/imago/imago-agent"}
	for _, place := range places {
		raw, err := os.ReadFile(place)
		if err == nil {
			return raw, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read the guest agent: %w", err)
		}
	}
	return nil, fmt.Errorf("the guest agent is neither at %s nor at %s: build it with 'make'", places[0], places[1])
}

func (a *app) writeReport(ctx context.Context, e *upgrade.Engine, show *display, actErr error) error {
	path, err := e.WriteReport(context.WithoutCancel(ctx), actErr)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if path != "" {
		show.note("report: " + path)
	}
	return nil
}

// engineExitCode finds the exit code for what an engine or a plan returned.
func engineExitCode(err error) int {
	var faults *plan.Errors
	for _, c := range []struct {
		is   error
		code int
	}{
		{netswitch.ErrAmbiguous, ExitAmbiguous}, {upgrade.ErrUnknownSide, ExitAmbiguous}, {journal.ErrLocked, ExitLocked},
		{upgrade.ErrReleased, ExitReleased}, {upgrade.ErrLoss, ExitLoss}, {upgrade.ErrRefused, ExitRefused}, {upgrade.ErrOrder, ExitRefused},
		{upgrade.ErrVerify, ExitVerify}, {upgrade.ErrStep, ExitStep},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	if errors.As(err, &faults) {
		return ExitUsage
	}
	return ExitError
}
