package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// SSH gives the arguments of ssh that log in to a production VM, with the
// lab's key and the host key that the lab gave the VM.
func (l *Lab) SSH(vm string) ([]string, error) {
	sys, err := SystemByName(l.State.System)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range sys.Production {
		names = append(names, m.Name)
		if m.Name == vm {
			return []string{"-i", filepath.Join(l.Dir, "id_ed25519"), "-o", "UserKnownHostsFile=" + filepath.Join(l.Dir, "known_hosts"),
				"-o", "StrictHostKeyChecking=yes", "root@" + m.Address.String()}, nil
		}
	}
	return nil, fmt.Errorf("the lab has no production VM %q: there are %s", vm, strings.Join(names, ", "))
}

// writeKnownHosts pins the host keys of the production VMs for ssh.
func writeKnownHosts(dir string, sys *System, machines map[string]builtMachine) error {
	var b strings.Builder
	for _, m := range sys.Production {
		fmt.Fprintf(&b, "%s %s\n", m.Address, machines[m.Name].HostKey)
	}
	return os.WriteFile(filepath.Join(dir, "known_hosts"), []byte(b.String()), 0o600)
}
