package cli

import (
	"fmt"
	"strings"

	"imago.dev/imago/internal/upgrade"
)

// showDryRun prints what a verb would do, in order.
func (a *app) showDryRun(acts []upgrade.Act) error {
	if a.output == "json" {
		return a.result(acts)
	}
	for _, act := range acts {
		fmt.Fprintf(a.Out, "%s %s\n", act.Do, act.What)
		if act.Detail != "" {
			fmt.Fprintf(a.Out, "    %s\n", strings.ReplaceAll(strings.TrimRight(act.Detail, "\n"), "\n", "\n    "))
		}
	}
	return nil
}
