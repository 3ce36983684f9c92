package guestagent

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// processes counts living processes with mark in their command line. The test's
// own pid namespace holds only its own.
func processes(t *testing.T, mark string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), mark) {
			n++
		}
	}
	return n
}

// dropPackets cuts everything to and from addr, in the test's own namespace.
func dropPackets(t *testing.T, addr string) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	rules := fmt.Sprintf("table inet cut { chain c { type filter hook input priority 0; tcp dport %s drop; tcp sport %s drop\n}\n}\n", port, port)
	nft(t, rules)
	t.Cleanup(func() { nft(t, "delete table inet cut") })
}

func nft(t *testing.T, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}
