package lab

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed plans/wiki.yaml.tmpl
var wikiPlan string

//go:embed plans/small.yaml.tmpl
var smallPlan string

//go:embed plans/store.yaml.tmpl
var storePlan string

// planData is what the plan templates ask for.
type planData struct {
	KeyPath, ClientLogs, ClientLedger string
	machines                          map[string]builtMachine
}

// builtMachine is a VM's disk and boot files, made from an image for this lab.
type builtMachine struct {
	Machine
	Disk, Kernel, Initrd, Cmdline string
	SHA256                        string
	HostKey                       string
}

func (d planData) machine(name string) (builtMachine, error) {
	m, ok := d.machines[name]
	if !ok {
		return m, fmt.Errorf("the plan's template names an unknown machine %q", name)
	}
	return m, nil
}

// HostKey gives a machine's SSH host key in the form of a .pub file.
func (d planData) HostKey(name string) (string, error) {
	m, err := d.machine(name)
	return m.HostKey, err
}

// MAC gives a machine's MAC address.
func (d planData) MAC(name string) (string, error) {
	m, err := d.machine(name)
	return m.MAC, err
}

// Image gives the plan's image entry of a machine.
func (d planData) Image(name string) (string, error) {
	m, err := d.machine(name)
	return fmt.Sprintf("{disk: %q, format: %s, sha256: %q, kernel: %q, initrd: %q, cmdline: %q}",
		m.Disk, m.Format, m.SHA256, m.Kernel, m.Initrd, m.Cmdline), err
}

// writePlan fills the system's plan template in and writes it beside the disks.
func writePlan(dir string, s *System, machines map[string]builtMachine) error {
	t, err := template.New("plan").Parse(s.PlanTemplate)
	if err != nil {
		return fmt.Errorf("read the plan's template: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "plan.yaml"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	err = t.Execute(f, planData{
		KeyPath:    filepath.Join(dir, "id_ed25519"),
		ClientLogs: fmt.Sprintf("%q", filepath.Join(dir, "clients", "*.jsonl")), ClientLedger: fmt.Sprintf("%q", filepath.Join(dir, "clients", ledgerFile)),
		machines: machines,
	})
	if err != nil {
		f.Close()
		return fmt.Errorf("write the plan: %w", err)
	}
	return f.Close()
}
