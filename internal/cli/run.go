// Package cli is the imago command: one file for each verb. It parses, asks,
// shows progress and turns outcomes into exit codes; what is done it leaves to
// internal/upgrade and internal/lab.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
)

// Streams are what the command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is what all verbs share.
type app struct {
	Streams
	output   string // text or json
	logLevel string
	log      *slog.Logger
	begun    bool // the command line was understood
}

// Run executes one command line and returns its exit code.
func Run(ctx context.Context, args []string, s Streams) int {
	a := &app{Streams: s}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	var quiet *exitError
	if !errors.As(err, &quiet) {
		fmt.Fprintln(s.Err, "imago:", err)
	}
	if !a.begun {
		return ExitUsage // cobra's own errors about commands, flags and arguments
	}
	return exitCode(ctx, err)
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "imago",
		Short: "Upgrade whole applications in libvirt VMs, in a parallel universe",
		Long: `imago clones production VMs into an isolated network, installs the new version
and converts the data there, tests it, and switches the clients over in one
step, with a way back. Production is never changed.

Exit codes:
` + exitHelp(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return a.prepare()
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.output, "output", "text", "what is printed on stdout: text, or json (talk goes to stderr)")
	f.StringVar(&a.logLevel, "log-level", "warn", "level of the log on stderr: debug, info, warn or error")
	root.AddCommand(a.labCommand(), a.versionCommand())
	root.AddCommand(a.upgradeCommands()...)
	return root
}

// prepare checks the flags that every verb has.
func (a *app) prepare() error {
	if a.output != "text" && a.output != "json" {
		return usageErrorf("--output %q: want text or json", a.output)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return usageErrorf("--log-level %q: want debug, info, warn or error", a.logLevel)
	}
	a.log = slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level}))
	a.begun = true
	return nil
}
