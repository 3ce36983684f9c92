package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/internal/upgrade"
)

// addConvertCommands hangs what helps with conversions below the verb convert.
func (a *app) addConvertCommands(convert *cobra.Command) {
	convert.AddCommand(
		&cobra.Command{
			Use: "scaffold PLAN", Short: "Compare old and new tables and write the plan's part about conversions", Args: onePlan, ValidArgsFunction: planFiles,
			Long: "Wants a universe whose new database has its empty tables: run 'imago clone' and\n'imago convert' first; that convert refuses for lack of conversions does not matter.",
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.withEngine(cmd.Context(), args[0], false, func(e *upgrade.Engine) error { return e.Scaffold(cmd.Context(), a.Out) })
			},
		},
		&cobra.Command{
			Use: "rejected PLAN", Short: "List the rows that conversions rejected", Args: onePlan, ValidArgsFunction: planFiles,
			RunE: func(cmd *cobra.Command, args []string) error { return a.rejected(cmd.Context(), args[0], false) },
		},
		&cobra.Command{
			Use: "retry PLAN", Short: "Convert rejected rows again, and list those that are rejected again", Args: onePlan, ValidArgsFunction: planFiles,
			RunE: func(cmd *cobra.Command, args []string) error { return a.rejected(cmd.Context(), args[0], true) },
		},
	)
}

func (a *app) rejected(ctx context.Context, path string, retry bool) error {
	return a.withEngine(ctx, path, true, func(e *upgrade.Engine) error {
		all, err := e.Rejected(ctx, retry)
		if err != nil {
			return err
		}
		if a.output == "json" {
			return a.result(all)
		}
		n := 0
		for _, set := range slices.Sorted(maps.Keys(all)) {
			for _, r := range all[set] {
				n++
				fmt.Fprintf(a.Out, "%s\t%s\t%s\t%s\n", set, r.Conversion, guestagent.Clean(r.Key), guestagent.Clean(r.Reason))
			}
		}
		a.say(fmt.Sprintf("%d objects are rejected", n))
		return nil
	})
}

// withEngine opens a plan's engine, locked or only to look, for act.
func (a *app) withEngine(ctx context.Context, path string, lock bool, act func(*upgrade.Engine) error) (err error) {
	p, err := loadPlan(path)
	if err != nil {
		return err
	}
	show := a.newDisplay()
	show.w = a.Err
	defer show.close()
	e, err := a.engine(ctx, p, show)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if lock {
		unlock, err := e.Lock(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = unlock() }()
	}
	return act(e)
}
