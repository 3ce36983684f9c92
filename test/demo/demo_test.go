// Package demo runs what a newcomer runs, `make demo`, and looks at what it
// leaves: the whole upgrade of a live MediaWiki, its report, and nothing else.
package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/internal/report"
)

// limit is for a slow machine that builds all images first.
const limit = 25 * time.Minute

func TestDemo(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	bin := build(ctx, t)
	dir, err := os.MkdirTemp("/var/tmp", "imd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	lab, out := filepath.Join(dir, "lab"), filepath.Join(dir, "out")
	before := leftovers(t)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "imago"), "lab", "demo", "--dir", lab, "--out", out)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil {
		t.Fatalf("demo: %v\n%s", err, log.Bytes())
	}
	if !strings.HasSuffix(strings.TrimSpace(log.String()), filepath.Join(out, "report.html")) {
		t.Errorf("the last line does not name the report:\n%s", log.Bytes())
	}
	if _, err := os.Stat(lab); !os.IsNotExist(err) {
		t.Errorf("the lab's directory is still there: %v", err)
	}
	if after := leftovers(t); after != before {
		t.Errorf("left behind: before\n%s\nafter\n%s", before, after)
	}
	checkReport(t, out)
	if t.Failed() {
		t.Logf("%s", log.Bytes())
	}
}

// build makes the two programs, side by side.
func build(ctx context.Context, t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for _, b := range [][]string{{"CGO_ENABLED=1", "imago"}, {"CGO_ENABLED=0", "imago-agent"}} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(bin, b[1]), "imago.dev/imago/cmd/"+b[1])
		cmd.Env = append(os.Environ(), b[0])
		if raw, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", b[1], err, raw)
		}
	}
	return bin
}

// leftovers lists what a demo could leave on the host.
func leftovers(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, args := range [][]string{{"ip", "-o", "link"}, {"ip", "netns"}, {"nft", "list", "tables"}, {"findmnt", "-rno", "TARGET"},
		{"sh", "-c", "ps -eo args | grep -c '[i]mago lab init' || true"}} {
		raw, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, raw)
		}
		b.Write(raw)
	}
	return b.String()
}

func checkReport(t *testing.T, out string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(out, "report.html"))
	if err != nil || !bytes.Contains(page, []byte("</html>")) {
		t.Errorf("report.html: %d bytes, %v", len(page), err)
	}
	raw, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	old, fresh := r.Clients.ByVersion["MediaWiki 1.39"], r.Clients.ByVersion["MediaWiki 1.43"]
	switch {
	case r.Result != report.Switched:
		t.Errorf("result %q: %s", r.Result, r.Reason)
	case r.Clients.Failed != 0 || r.Clients.Mixed != 0 || old == 0 || fresh == 0:
		t.Errorf("clients: %+v", r.Clients)
	case r.Data.Objects < 800 || r.Data.Verified != r.Data.Objects || r.Data.Missing+r.Data.Extra+r.Data.Different+r.Data.Doubled != 0:
		t.Errorf("data: %+v", r.Data)
	case len(r.Data.Checks) != 4 || len(r.Data.Sets) != 1 || r.Data.Sets[0].Verified == 0 || len(r.Data.Files) != 1 || r.Data.Files[0].Compared == 0:
		t.Errorf("%d comparisons, sets %+v, files %+v", len(r.Data.Checks), r.Data.Sets, r.Data.Files)
	case r.Data.Ledger == nil || r.Data.Ledger.Acknowledged == 0 || r.Data.Lost+r.Data.OutOfOrder != 0:
		t.Errorf("the clients' ledger: %+v, lost %d, out of order %d", r.Data.Ledger, r.Data.Lost, r.Data.OutOfOrder)
	case r.Isolation.DomainXMLUnchanged == nil || !*r.Isolation.DomainXMLUnchanged:
		t.Error("domain XML changed")
	case r.Isolation.DiskChainUnchanged == nil || !*r.Isolation.DiskChainUnchanged:
		t.Error("disk chain changed")
	case r.Isolation.PacketsLeft == nil || *r.Isolation.PacketsLeft != 0:
		t.Errorf("packets left: %v", r.Isolation.PacketsLeft)
	case r.Switch == nil || r.Switch.Forced != 0:
		t.Errorf("switch: %+v", r.Switch)
	}
}
