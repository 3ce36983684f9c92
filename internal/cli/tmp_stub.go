package cli
import "github.com/spf13/cobra"
func (a *app) labDemo(f *labFlags) *cobra.Command { return &cobra.Command{Use:"demo", Hidden:true} }
func (a *app) versionCommand() *cobra.Command { return &cobra.Command{Use:"version"} }
func (a *app) upgradeCommands() []*cobra.Command { return nil }
func engineExitCode(error) int { return 1 }
