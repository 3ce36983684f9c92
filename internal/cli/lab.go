package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"imago.dev/imago/images"
	"imago.dev/imago/images/recipes"
	"imago.dev/imago/internal/lab"
)

// labFlags say which lab a command means.
type labFlags struct {
	dir, cache, system string
}

func (a *app) labCommand() *cobra.Command {
	f := &labFlags{}
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "A whole virtualization host with a sample system, in namespaces of its own",
		Long: `A lab is a private libvirtd with production VMs and clients, in network, mount
and process namespaces of its own: it cannot disturb the host, and nothing of it
outlives it. Its disks and logs are in one directory.`,
	}
	p := cmd.PersistentFlags()
	p.StringVar(&f.dir, "dir", "/var/tmp/imago-lab", "directory of the lab")
	p.StringVar(&f.cache, "cache", "/var/cache/imago", "directory where built images are kept")
	p.StringVar(&f.system, "system", "wiki", "sample system: "+strings.Join(lab.Systems(), " or "))
	cmd.AddCommand(a.labUp(f), a.labDown(f), a.labStatus(f), a.labExec(f), a.labSSH(f), a.labVirsh(f), a.labDemo(f),
		a.labInit(f), a.labSupervise(f), a.labClient(f))
	return cmd
}

// staleImages is how long an image of an earlier recipe is kept after its last use.
const staleImages = 14 * 24 * time.Hour

// buildImages makes the images that the system needs, outside of the lab's
// namespaces: those reach no package mirror.
func (a *app) buildImages(ctx context.Context, f *labFlags, say func(string)) error {
	sys, err := lab.SystemByName(f.system)
	if err != nil {
		return usageErrorf("%v", err)
	}
	cat, err := images.LoadCatalogue(recipes.FS)
	if err != nil {
		return err
	}
	b := &images.Builder{Catalogue: cat, CacheDir: f.cache, Log: a.log, Progress: func(p images.Progress) {
		text := p.Image + ": " + p.Step
		if p.Left > 0 {
			text += fmt.Sprintf(" (about %s left for all images)", p.Left.Round(time.Second))
		}
		say(text)
	}}
	if _, err = b.Build(ctx, sys.Images()...); err != nil {
		return err
	}
	// Images of recipes that have changed since would stay for ever.
	if n, err := b.Prune(ctx, staleImages); err != nil {
		a.log.Warn("old images are not removed", "err", err)
	} else if n > 0 {
		say(fmt.Sprintf("removed %d images that nobody has used for long", n))
	}
	return nil
}

func (a *app) labUp(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "up", Short: "Build what is missing and start the lab", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.bringUp(cmd.Context(), f, false, a.say)
			if err != nil {
				return err
			}
			a.say("the plan is " + l.State.PlanPath)
			a.say("run imago in the lab: imago lab exec -- imago upgrade " + l.State.PlanPath)
			return a.result(l.State)
		},
	}
}

func (a *app) bringUp(ctx context.Context, f *labFlags, attached bool, say func(string)) (*lab.Lab, error) {
	if err := a.buildImages(ctx, f, say); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return lab.Up(ctx, lab.Options{Dir: f.dir, CacheDir: f.cache, System: f.system, Executable: self, Attached: attached}, say)
}

func (a *app) labDown(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the lab and remove its directory", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Find(f.dir)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			return l.Down(ctx)
		},
	}
}

func (a *app) labStatus(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what runs in the lab", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Find(f.dir)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.result(l.State)
			}
			fmt.Fprintf(a.Out, "lab      %s (system %s, first process %d)\nplan     %s\n", l.Dir, l.State.System, l.State.InitPID, l.State.PlanPath)
			return a.attach(l.Command(cmd.Context(), "virsh", "-q", "list", "--all"))
		},
	}
}

func (a *app) labExec(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "exec -- COMMAND [ARG...]", Short: "Run a command on the lab's host", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Find(f.dir)
			if err != nil {
				return err
			}
			return a.attach(l.Command(cmd.Context(), args[0], args[1:]...))
		},
	}
}

func (a *app) labVirsh(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "virsh [ARG...]", Short: "Run virsh against the lab's libvirtd", DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Find(f.dir)
			if err != nil {
				return err
			}
			return a.attach(l.Command(cmd.Context(), "virsh", args...))
		},
	}
}

func (a *app) labSSH(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "ssh VM [COMMAND...]", Short: "Log in to a production VM of the lab", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Find(f.dir)
			if err != nil {
				return err
			}
			ssh, err := l.SSH(args[0])
			if err != nil {
				return usageErrorf("%v", err)
			}
			return a.attach(l.Command(cmd.Context(), "ssh", append(ssh, args[1:]...)...))
		},
	}
}

// attach runs a command on the caller's own terminal and passes its exit code on.
func (a *app) attach(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.In, a.Out, a.Err
	err := cmd.Run()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() > 0 {
		return &exitError{code: cmd.ProcessState.ExitCode()}
	}
	return err
}

// result prints v on stdout in JSON mode.
func (a *app) result(v any) error {
	if a.output != "json" {
		return nil
	}
	enc := json.NewEncoder(a.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// say is a line of talk: on stdout, or on stderr where stdout is for JSON.
func (a *app) say(text string) {
	w := a.Out
	if a.output == "json" {
		w = a.Err
	}
	fmt.Fprintln(w, text)
}

func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the absolute path of %s: %w", path, err)
	}
	return abs, nil
}
