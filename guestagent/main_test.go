package guestagent

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

// inside is set in the test process that runs in namespaces of its own.
const inside = "IMAGO_GUESTAGENT_TEST_INSIDE"

// TestMain runs the tests in new network, mount and pid namespaces: a real sshd
// needs /run/sshd, a port and a firewall to cut, and none of that may touch the
// machine.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" && os.Geteuid() == 0 && haveTools() == nil {
		os.Exit(reexec())
	}
	if os.Getenv(inside) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "prepare the namespaces:", err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

func haveTools() error {
	for _, tool := range []string{"unshare", "ip", "nft", "mount", "/usr/sbin/sshd"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	return nil
}

func reexec() int {
	args := append([]string{"--fork", "--pid", "--kill-child", "--mount-proc", "--mount", "--net", "--", os.Args[0]}, os.Args[1:]...)
	cmd := exec.Command("unshare", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func furnish() error {
	for _, args := range [][]string{
		{"mount", "-t", "tmpfs", "tmpfs", "/run"},
		{"mount", "-t", "tmpfs", "tmpfs", "/var/tmp"},
		{"mkdir", "-p", "/run/sshd"},
		{"ip", "link", "set", "lo", "up"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	return nil
}

// needNamespaces skips a test that needs sshd where the machine has none; in CI
// that is a failure, since the test would never run anywhere.
func needNamespaces(t *testing.T) {
	t.Helper()
	if os.Getenv(inside) != "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("root and %v are needed: %v", "unshare, ip, nft, sshd", haveTools())
	}
	t.Skip("needs root, unshare, ip, nft and sshd")
}
