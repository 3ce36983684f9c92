package lab

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Init is the lab's first process (PID 1 of its process namespace). It runs
// the supervisor and reaps whatever is left to it: QEMU daemonizes, and
// libvirt believes that a process lives as long as its zombie does.
// It returns the supervisor's exit code.
func Init(executable string, args []string) (int, error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	child, err := os.StartProcess(executable, append([]string{executable}, args...), &os.ProcAttr{
		Files: []*os.File{nil, os.Stdout, os.Stderr, os.NewFile(3, "events")},
	})
	if err != nil {
		return 1, fmt.Errorf("start the lab's supervisor: %w", err)
	}
	go func() {
		for s := range signals {
			_ = child.Signal(s)
		}
	}()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait for the lab's processes: %w", err)
		case pid == child.Pid:
			return ws.ExitStatus(), nil
		}
	}
}
