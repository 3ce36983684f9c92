package inguest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of every descendant whose own
// parent ends, so that a step's children stay findable even when they leave the
// step's group and session.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of a step's orphans: %w", err)
	}
	return nil
}

// end ends the step and all it started: SIGTERM first, SIGKILL after grace.
func (p *process) end(grace time.Duration) {
	for _, pid := range descendants() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	for until := time.Now().Add(grace); time.Now().Before(until) && len(descendants()) > 0; {
		time.Sleep(10 * time.Millisecond)
	}
	killAll(5 * time.Second)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second): // stuck in the kernel: report what is known
	}
}

// killAll kills until nothing is left or patience ends. Every round stops all
// it sees before it kills any, so that what forks quickly does not win.
func killAll(patience time.Duration) {
	for until := time.Now().Add(patience); time.Now().Before(until); {
		left := descendants()
		if len(left) == 0 {
			return
		}
		for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
			for _, pid := range left {
				_ = syscall.Kill(pid, sig)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// descendants returns the living processes below this one.
func descendants() []int {
	parent := parents()
	var below []int
	for pid := range parent {
		// Bounded by the table's size: a reused number could make a circle.
		for up, hops := parent[pid], 0; up != 0 && hops <= len(parent); up, hops = parent[up], hops+1 {
			if up == os.Getpid() {
				below = append(below, pid)
				break
			}
		}
	}
	return below
}

// parents maps every process that is not yet dead to its parent.
func parents() map[int]int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	table := make(map[int]int, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if stat, err := os.ReadFile("/proc/" + name + "/stat"); err == nil {
			if state, ppid := statOf(stat); state != 'Z' && state != 'X' {
				table[pid] = ppid
			}
		}
	}
	return table
}

// statOf reads state and parent from a line of /proc/N/stat. The name in it may
// hold anything, also parentheses, so the last one counts.
func statOf(stat []byte) (state byte, ppid int) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 'X', 0
	}
	fields := bytes.Fields(stat[i+1:])
	if len(fields) < 2 {
		return 'X', 0
	}
	ppid, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 'X', 0
	}
	return fields[0][0], ppid
}
