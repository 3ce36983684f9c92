package hypervisor

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// UsableKVM decides whether guests can use hardware virtualization, and says
// why. The override "kvm" or "qemu" wins; "auto" and "" look at the host. The
// device alone proves nothing: /dev/kvm may open on a CPU that has no
// virtualization, and then QEMU hangs; so the CPU's flags decide, as in
// virt-host-validate.
func UsableKVM(override string) (usable bool, why string, err error) {
	switch override {
	case TypeKVM:
		return true, "asked for by the plan", nil
	case TypeQEMU:
		return false, "software emulation asked for by the plan", nil
	case "", "auto":
		usable, why = probeKVM("/proc/cpuinfo", "/dev/kvm")
		return usable, why, nil
	default:
		return false, "", fmt.Errorf("virtualization %q: want auto, kvm or qemu", override)
	}
}

func probeKVM(cpuinfo, device string) (bool, string) {
	text, err := os.ReadFile(cpuinfo)
	if err != nil {
		return false, fmt.Sprintf("cannot read the CPU's flags: %v", err)
	}
	flag := virtFlag(string(text))
	if flag == "" {
		return false, "the CPU has neither vmx nor svm"
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Sprintf("the CPU has %s, but %v", flag, err)
	}
	_ = f.Close()
	return true, "the CPU has " + flag + " and " + device + " opens"
}

// virtFlag finds the virtualization flag in the text of /proc/cpuinfo.
func virtFlag(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != "flags" {
			continue
		}
		flags := strings.Fields(value)
		for _, f := range []string{"vmx", "svm"} {
			if slices.Contains(flags, f) {
				return f
			}
		}
	}
	return ""
}
