package cli

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"imago.dev/imago/internal/lab"
)

// The commands in this file are for the lab itself, which runs them inside its
// namespaces.

func (a *app) labInit(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "init", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			code, err := lab.Init("/proc/self/exe", []string{"lab", "supervise", "--dir", f.dir, "--cache", f.cache, "--system", f.system, "--log-level", a.logLevel})
			if err != nil {
				return err
			}
			return &exitError{code: code}
		},
	}
}

func (a *app) labSupervise(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "supervise", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return lab.Supervise(cmd.Context(), lab.Options{Dir: f.dir, CacheDir: f.cache, System: f.system}, os.NewFile(3, "events"), a.log)
		},
	}
}

func (a *app) labClient(f *labFlags) *cobra.Command {
	var o lab.ClientOptions
	cmd := &cobra.Command{
		Use: "client", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.System = f.system
			return lab.RunClient(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Name, "name", "", "name of the client")
	cmd.Flags().StringVar(&o.Kind, "kind", "reader", "reader or editor")
	cmd.Flags().StringVar(&o.Log, "log", "", "file for the answers")
	cmd.Flags().DurationVar(&o.Pause, "pause", time.Second, "pause between two requests")
	cmd.Flags().BoolVar(&o.KeepAlive, "keep-alive", false, "use one connection for many requests")
	return cmd
}
