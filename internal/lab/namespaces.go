package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNoLab says that no lab runs in the directory.
var ErrNoLab = errors.New("no lab is running")

// Lab is a running lab as the outside sees it: its directory and the process
// that holds its namespaces.
type Lab struct {
	Dir   string
	State State
}

// State is what a lab tells about itself in lab.json.
type State struct {
	// InitPID is the lab's first process, as a PID of the host.
	InitPID int `json:"init_pid"`
	// InitStart is that process's start time in clock ticks since boot; with
	// the PID it names one process, also after the PID was used again.
	InitStart string `json:"init_start"`
	System    string `json:"system"`
	PlanPath  string `json:"plan"`
	Ready     bool   `json:"ready"`
}

func statePath(dir string) string { return filepath.Join(dir, "lab.json") }

// Find returns the lab that runs in dir, or ErrNoLab.
func Find(dir string) (*Lab, error) {
	raw, err := os.ReadFile(statePath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: start one with 'imago lab up'", ErrNoLab, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read the lab's state: %w", err)
	}
	l := &Lab{Dir: dir}
	if err := json.Unmarshal(raw, &l.State); err != nil {
		return nil, fmt.Errorf("read the lab's state in %s: %w", statePath(dir), err)
	}
	if start, err := startTime(l.State.InitPID); err != nil || start != l.State.InitStart {
		return nil, fmt.Errorf("%w in %s: its first process (%d) has ended", ErrNoLab, dir, l.State.InitPID)
	}
	return l, nil
}

func writeState(dir string, s State) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := statePath(dir) + ".new"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("write the lab's state: %w", err)
	}
	return os.Rename(tmp, statePath(dir))
}

// startTime reads field 22 of /proc/PID/stat: the process's start in ticks.
func startTime(pid int) (string, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	// The command name may hold spaces and brackets: count from the last one.
	rest := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(rest) < 20 {
		return "", fmt.Errorf("process %d: unexpected /proc stat", pid)
	}
	return rest[19], nil
}

// Command returns a command that runs in the lab's namespaces, as if on the
// lab's host.
func (l *Lab) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	wd, err := os.Getwd()
	if err != nil {
		wd = "/"
	}
	full := append([]string{"--target", strconv.Itoa(l.State.InitPID), "--mount", "--net", "--pid", "--wd=" + wd, "--", name}, args...)
	return exec.CommandContext(ctx, "nsenter", full...)
}

// Down ends the lab: its first process is killed, and the kernel ends every
// process, mount and network of it. The directory is removed afterwards.
func (l *Lab) Down(ctx context.Context) error {
	if err := syscall.Kill(l.State.InitPID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the lab's first process %d: %w", l.State.InitPID, err)
	}
	for {
		if start, err := startTime(l.State.InitPID); err != nil || start != l.State.InitStart {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the lab's processes to end: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return RemoveDir(l.Dir)
}

// RemoveDir removes a lab's directory. It refuses a directory that no lab made.
func RemoveDir(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, markerFile)); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return fmt.Errorf("remove %s: it holds no %s, so it is not a lab's directory", dir, markerFile)
		}
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the lab's directory: %w", err)
	}
	return nil
}

// markerFile marks a directory as made by a lab.
const markerFile = ".imago-lab"
