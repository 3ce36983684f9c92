package hypervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// qemuCgroup finds the folder of the control group that libvirt made for a
// domain: the whole guest, not only one of the groups of threads below it.
func qemuCgroup(proc, pidDir, name string) (string, error) {
	pid, err := qemuPID(proc, pidDir, name)
	if err != nil {
		return "", err
	}
	group, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return "", err
	}
	path, ok := machineGroup(string(group))
	if !ok {
		return "", ErrNoCgroup
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "self", "mountinfo"))
	if err != nil {
		return "", err
	}
	root, ok := cgroupMount(string(mounts))
	if !ok {
		return "", fmt.Errorf("cgroup v2 is not mounted: %w", ErrNoCgroup)
	}
	return filepath.Join(root, path), nil
}

// qemuPID reads the pid file that libvirt keeps, and holds it against the
// process's own name: numbers are used again.
func qemuPID(proc, pidDir, name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(pidDir, name+".pid"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, ErrNotRunning
	}
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("libvirt's pid file holds %q", b)
	}
	line, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cmdline"))
	if err != nil || !namesGuest(line, name) {
		return 0, fmt.Errorf("process %d of libvirt's pid file is not this guest's: %w", pid, ErrNotRunning)
	}
	return pid, nil
}

// namesGuest tells whether a command line has "-name guest=<name>,…", in which
// QEMU's option syntax doubles commas.
func namesGuest(cmdline []byte, name string) bool {
	args := bytes.Split(cmdline, []byte{0})
	want := "guest=" + strings.ReplaceAll(name, ",", ",,")
	for i := 0; i+1 < len(args); i++ {
		if string(args[i]) != "-name" {
			continue
		}
		rest, ok := strings.CutPrefix(string(args[i+1]), want)
		return ok && (rest == "" || rest[0] == ',' && !strings.HasPrefix(rest, ",,"))
	}
	return false
}

// machineGroup takes the guest's group out of /proc/PID/cgroup. libvirt names it
// machine-qemu….scope where systemd runs, ….libvirt-qemu elsewhere. Any other
// group (that of libvirtd, the root) is not the guest's alone.
func machineGroup(text string) (string, bool) {
	for line := range strings.Lines(text) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/")
		if !ok {
			continue
		}
		parts := strings.Split(path, "/")
		for i, p := range parts {
			if p == ".." {
				return "", false // outside of this control group namespace
			}
			if strings.HasPrefix(p, "machine-qemu") && strings.HasSuffix(p, ".scope") || strings.HasSuffix(p, ".libvirt-qemu") {
				return "/" + strings.Join(parts[:i+1], "/"), true
			}
		}
	}
	return "", false
}

// cgroupMount finds where the whole cgroup v2 tree is mounted.
func cgroupMount(mountinfo string) (string, bool) {
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		f := strings.Fields(left)
		if ok && len(f) >= 5 && f[3] == "/" && strings.HasPrefix(right, "cgroup2 ") {
			return f[4], true
		}
	}
	return "", false
}
