package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Options say which lab to make.
type Options struct {
	Dir        string // where the lab keeps its disks, keys and logs
	CacheDir   string // where images were built
	System     string // name of the sample system, see Systems
	Executable string // the imago program, re-executed inside the namespaces
	// Attached ties the lab's life to this process: it ends when this one does.
	Attached bool
}

// Event is a line of progress from the lab while it comes up.
type Event struct {
	Text  string `json:"text,omitempty"`
	Ready bool   `json:"ready,omitempty"`
	Error string `json:"error,omitempty"`
}

// Up starts a lab and returns when its system answers its clients. Progress
// lines go to report. On error nothing is left.
func Up(ctx context.Context, o Options, report func(string)) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab needs root: it makes network and mount namespaces and runs a libvirtd in them; run it with sudo")
	}
	if l, err := Find(o.Dir); err == nil {
		return nil, fmt.Errorf("a lab runs in %s already (process %d): use it, or end it with 'imago lab down'", l.Dir, l.State.InitPID)
	}
	if err := prepareDir(o.Dir); err != nil {
		return nil, err
	}
	l, err := start(ctx, o, report)
	if err != nil {
		return nil, errors.Join(err, RemoveDir(o.Dir))
	}
	return l, nil
}

// prepareDir makes an empty lab directory, replacing one that a dead lab left.
func prepareDir(dir string) error {
	if err := RemoveDir(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the lab's directory: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, markerFile), nil, 0o600)
}

// start runs the lab's first process in new namespaces and reads its events
// until it is ready.
func start(ctx context.Context, o Options, report func(string)) (*Lab, error) {
	logFile, err := os.OpenFile(filepath.Join(o.Dir, "lab.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lab's log: %w", err)
	}
	defer logFile.Close()
	events, eventsW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the lab's event pipe: %w", err)
	}
	defer events.Close()
	cmd := exec.Command(o.Executable, "lab", "init", "--dir", o.Dir, "--cache", o.CacheDir, "--system", o.System)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{eventsW}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true,
	}
	if o.Attached {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := cmd.Start(); err != nil {
		eventsW.Close()
		return nil, fmt.Errorf("make the lab's namespaces: %w", err)
	}
	eventsW.Close()
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	st, err := startTime(cmd.Process.Pid)
	if err != nil {
		st = ""
	}
	l := &Lab{Dir: o.Dir, State: State{InitPID: cmd.Process.Pid, InitStart: st, System: o.System, PlanPath: filepath.Join(o.Dir, "plan.yaml")}}
	if err := l.awaitReady(ctx, events, report); err != nil {
		_ = cmd.Process.Kill()
		<-exited
		return nil, fmt.Errorf("%w%s", err, logTail(filepath.Join(o.Dir, "lab.log")))
	}
	l.State.Ready = true
	if err := writeState(o.Dir, l.State); err != nil {
		_ = cmd.Process.Kill()
		<-exited
		return nil, err
	}
	return l, nil
}

// awaitReady passes on the events of the lab's first process until it is ready.
func (l *Lab) awaitReady(ctx context.Context, events *os.File, report func(string)) error {
	stop := context.AfterFunc(ctx, func() { events.Close() })
	defer stop()
	sc := bufio.NewScanner(events)
	for sc.Scan() {
		var e Event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return fmt.Errorf("read the lab's events: %w", err)
		}
		switch {
		case e.Error != "":
			return fmt.Errorf("start the lab: %s", e.Error)
		case e.Ready:
			return nil
		default:
			report(e.Text)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("start the lab: %w", context.Cause(ctx))
	}
	return errors.New("start the lab: its first process ended before it was ready")
}

// logTail returns the end of the lab's log for an error message.
func logTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > 2000 {
		_, _ = f.Seek(end-2000, io.SeekStart)
	} else {
		_, _ = f.Seek(0, io.SeekStart)
	}
	raw, err := io.ReadAll(f)
	if err != nil || len(raw) == 0 {
		return ""
	}
	return "\nthe end of the lab's log:\n" + strings.TrimSpace(string(raw))
}
