package cli

import (
	"fmt"
	"os"
	"os/user"

	"github.com/spf13/cobra"

	"imago.dev/imago/internal/plan"
	"imago.dev/imago/internal/upgrade"
)

// tuneCommands change how fast the copies of an upgrade run, while they run.
func (a *app) tuneCommands() []*cobra.Command {
	var rows int64
	var bytes, pull string
	tune := &cobra.Command{
		Use: "tune PLAN", Short: "Change the limits of the copies, at once", Args: onePlan, ValidArgsFunction: planFiles,
		Long: "The limits hold at once where an imago is at work on the plan, and for all that follow.\nThe plan's own limits and the regulator hold as well: what is lowest counts. 0 takes a\nlimit away.",
		RunE: func(cmd *cobra.Command, args []string) error {
			given := cmd.Flags().Changed
			if !given("rows") && !given("rate") && !given("pull-rate") {
				return usageErrorf("tune wants at least one of --rows, --rate and --pull-rate")
			}
			var rate, pullRate plan.Rate
			for _, f := range []struct {
				name, text string
				to         *plan.Rate
			}{{"rate", bytes, &rate}, {"pull-rate", pull, &pullRate}} {
				if !given(f.name) || f.text == "0" {
					continue
				}
				if err := f.to.UnmarshalText([]byte(f.text)); err != nil {
					return usageErrorf("--%s %q: want a size and /s, such as 5MiB/s, or 0", f.name, f.text)
				}
			}
			if rows < 0 {
				return usageErrorf("--rows %d: want a number of rows per second, or 0", rows)
			}
			return a.tune(cmd, args[0], func(t *upgrade.Tuning) {
				if given("rows") {
					t.Limits.RowsPerSecond = rows
				}
				if given("rate") {
					t.Limits.BytesPerSecond = int64(rate)
				}
				if given("pull-rate") {
					t.Limits.PullRate = int64(pullRate)
				}
			})
		},
	}
	tune.Flags().Int64Var(&rows, "rows", 0, "rows per second of the first pass and of comparisons")
	tune.Flags().StringVar(&bytes, "rate", "", "bytes per second of rows and files, such as 5MiB/s")
	tune.Flags().StringVar(&pull, "pull-rate", "", "bytes per second read from production's disks, such as 20MiB/s")
	pause := &cobra.Command{
		Use: "pause PLAN", Short: "Stop the copies until 'imago resume'; changes still flow", Args: onePlan, ValidArgsFunction: planFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tune(cmd, args[0], func(t *upgrade.Tuning) { t.Paused = true })
		},
	}
	resume := &cobra.Command{
		Use: "resume PLAN", Short: "Let paused copies go on", Args: onePlan, ValidArgsFunction: planFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tune(cmd, args[0], func(t *upgrade.Tuning) { t.Paused = false })
		},
	}
	return []*cobra.Command{tune, pause, resume}
}

func (a *app) tune(cmd *cobra.Command, path string, change func(*upgrade.Tuning)) error {
	p, err := loadPlan(path)
	if err != nil {
		return err
	}
	t, live, err := upgrade.Tune(cmd.Context(), p, a.log, func(t *upgrade.Tuning) {
		change(t)
		t.Who = who()
	})
	if err != nil {
		return err
	}
	if a.output == "json" {
		return a.result(t)
	}
	text := func(n int64, unit string) string {
		if n == 0 {
			return "as the plan says"
		}
		return fmt.Sprintf("%d %s", n, unit)
	}
	state := "running"
	if t.Paused {
		state = "paused"
	}
	when := "at once"
	if !live {
		when = "for the next imago that copies: none is at work now"
	}
	a.say(fmt.Sprintf("copies: %s; rows: %s; rows and files: %s; disks: %s (%s)", state,
		text(t.Limits.RowsPerSecond, "rows/s"), text(t.Limits.BytesPerSecond, "B/s"), text(t.Limits.PullRate, "B/s"), when))
	return nil
}

// who names the person at the terminal, for the record.
func who() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}
