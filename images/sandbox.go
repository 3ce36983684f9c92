package images

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

//go:embed sandbox.sh
var sandboxScript string

// sandbox is a root file system in which commands can run without leaving a
// mount or a process behind.
type sandbox struct {
	root    string
	parts   map[string]string // name -> directory seen at /mnt/imago/<name>
	network bool              // else only a loopback of its own
	env     []string
}

const chrootPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// run runs argv in the sandbox, with stdin, and its output goes to out.
func (s sandbox) run(ctx context.Context, stdin io.Reader, out io.Writer, argv ...string) error {
	args := []string{"--fork", "--pid", "--kill-child", "--mount", "--ipc", "--uts"}
	net := "host"
	if !s.network {
		args, net = append(args, "--net"), "none"
	}
	args = append(args, "--", "/bin/sh", "-c", sandboxScript, "sandbox", s.root, net)
	for _, name := range slices.Sorted(maps.Keys(s.parts)) {
		args = append(args, name+"="+s.parts[name])
	}
	args = append(args, "--", "/usr/bin/env", "-i", "PATH="+chrootPath, "HOME=/root", "LC_ALL=C", "TZ=UTC",
		"DEBIAN_FRONTEND=noninteractive")
	args = append(append(args, s.env...), argv...)
	return runTool(ctx, stdin, out, nil, "unshare", args...)
}

// runTool runs a host program in a process group of its own, all of which is
// killed when ctx ends.
func runTool(ctx context.Context, stdin io.Reader, out io.Writer, env []string, tool string, args ...string) error {
	p, err := findTool(tool)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, p, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, out, out
	cmd.Env = append(toolEnv(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error {
		return ignoreGone(syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	}
	cmd.WaitDelay = 10 * time.Second
	// Pdeathsig is about the thread that started the child.
	return onLockedThread(func() error {
		if err := cmd.Run(); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return fmt.Errorf("%s: %w", tool, err)
		}
		return nil
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// toolEnv is the environment of host programs: the caller's way to the network
// and nothing else of his.
func toolEnv() []string {
	env := []string{"PATH=" + chrootPath, "LC_ALL=C", "TZ=UTC", "HOME=/root"}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch strings.ToLower(name) {
		case "http_proxy", "https_proxy", "no_proxy", "ftp_proxy":
			env = append(env, kv)
		}
	}
	return env
}
