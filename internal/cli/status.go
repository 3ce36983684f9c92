package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"imago.dev/imago/internal/plan"
	"imago.dev/imago/internal/upgrade"
	"imago.dev/imago/snapshot"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status PLAN", Short: "Show where an upgrade stands and what may follow", Args: onePlan, ValidArgsFunction: planFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := loadPlan(args[0])
			if err != nil {
				return err
			}
			st, err := upgrade.ReadStatus(cmd.Context(), p, a.log)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.result(st)
			}
			a.printStatus(st)
			return nil
		},
	}
}

func (a *app) printStatus(st upgrade.Status) {
	if st.Run == "" {
		fmt.Fprintf(a.Out, "plan %s: no upgrade has begun; next: check\n", st.Plan)
		return
	}
	fmt.Fprintf(a.Out, "plan           %s\nrun            %s\nstate          %s\n", st.Plan, st.Run, st.State)
	if st.Reason != "" {
		fmt.Fprintf(a.Out, "because        %s\n", strings.ReplaceAll(st.Reason, "\n", "\n               "))
	}
	if st.ClientsReach == "absent" {
		fmt.Fprintln(a.Out, "clients reach  what the host's own rules say (imago has none in force)")
	} else {
		fmt.Fprintf(a.Out, "clients reach  the %s version\n", st.ClientsReach)
	}
	if len(st.Next) > 0 {
		fmt.Fprintf(a.Out, "next           %s\n", strings.Join(st.Next, ", "))
	}
	a.printTransfer(st)
	fmt.Fprintln(a.Out, "\nphases")
	for _, p := range st.Phases {
		fmt.Fprintf(a.Out, "  %-9s %-9s %7.1f s\n", p.Name, p.Outcome, p.Seconds)
	}
	if len(st.Resources) > 0 {
		fmt.Fprintln(a.Out, "\nmade by imago and not yet removed")
	}
	for _, r := range st.Resources {
		fmt.Fprintf(a.Out, "  %-11s %s (%s)\n", r.Kind, r.Name, r.Status)
	}
}

// printTransfer shows how what is copied is going, or how it was when last
// written down.
func (a *app) printTransfer(st upgrade.Status) {
	if st.Live == nil {
		for _, t := range st.Transfer {
			fmt.Fprintf(a.Out, "rows of %-7s %d copied, %d changes, %d verified, %d rejected, up to %s\n", t.Name, t.Rows, t.Changes, t.Verified, t.Rejected, t.Position.GTID)
		}
		return
	}
	fmt.Fprintf(a.Out, "copies         %s\n", st.Live.Verdict.Reason)
	for _, name := range slices.Sorted(maps.Keys(st.Live.Sets)) {
		p := st.Live.Sets[name]
		fmt.Fprintf(a.Out, "rows of %-6s %d of about %d copied, %.0f rows/s%s, %d changes, %d went again, %d verified, %d to verify, %d rejected, %.1f s behind\n", name,
			p.RowsCopied, max(p.RowsTotal, p.RowsCopied), p.RowsPerSecond, timeLeft(p.RowsTotal, p.RowsCopied, p.RowsPerSecond), p.Changes, p.Rescheduled, p.Verified, p.Unverified, p.Rejected, st.Live.Lag[name])
	}
}

func timeLeft(total, done uint64, perSecond float64) string {
	if done >= total || perSecond < 1 {
		return ""
	}
	return fmt.Sprintf(" (%.0f s left)", float64(total-done)/perSecond)
}

func (a *app) planCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "plan", Short: "Help with writing plans"}
	cmd.AddCommand(
		&cobra.Command{Use: "example", Short: "Print a commented example", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.Out, plan.Example())
			return err
		}},
		&cobra.Command{Use: "schema", Short: "Print the JSON schema, for editors", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			raw, err := plan.SchemaJSON(), error(nil)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, string(raw))
			return err
		}},
		&cobra.Command{Use: "validate PLAN", Short: "Read a plan and name all its faults", Args: onePlan, ValidArgsFunction: planFiles,
			RunE: func(_ *cobra.Command, args []string) error {
				p, err := loadPlan(args[0])
				if err != nil {
					return err
				}
				a.say("plan " + p.Name + " is well-formed; 'imago check' looks whether it fits this host")
				return nil
			}},
	)
	return cmd
}

// reportCommand writes the report anew: clients' logs may have grown since.
func (a *app) reportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "report PLAN", Short: "Write the report of the latest run anew", Args: onePlan, ValidArgsFunction: planFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := loadPlan(args[0])
			if err != nil {
				return err
			}
			path, err := upgrade.WriteReport(cmd.Context(), p, a.log)
			if err != nil {
				return err
			}
			if path == "" {
				return fmt.Errorf("plan %s has no run to report on", p.Name)
			}
			a.say("report: " + path)
			return nil
		},
	}
}

// guardCommand is the thaw guard: a process of its own, started while
// production's file systems are frozen.
func (a *app) guardCommand() *cobra.Command {
	return &cobra.Command{
		Use: "guard-thaw", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return snapshot.RunGuard(cmd.Context(), a.In, a.Out)
		},
	}
}
