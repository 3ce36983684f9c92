package netswitch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sysctlPath takes the parts apart, because an interface name may hold a dot.
func sysctlPath(parts ...string) string {
	return filepath.Join(append([]string{"/proc/sys/net"}, parts...)...)
}

func readSysctl(parts ...string) (string, error) {
	b, err := os.ReadFile(sysctlPath(parts...))
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func writeSysctl(value string, parts ...string) error {
	if err := os.WriteFile(sysctlPath(parts...), []byte(value), 0o644); err != nil {
		return fmt.Errorf("write sysctl %q: %w", value, err)
	}
	return nil
}
