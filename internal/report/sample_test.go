package report

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var began = time.Date(2026, 3, 4, 14, 0, 0, 0, time.FixedZone("CET", 3600))

func after14(seconds float64) time.Time {
	return began.Add(time.Duration(seconds * float64(time.Second)))
}

const (
	flipAt = 268.0
	holdAt = 212.0
)

// wikiLogs writes the logs of three clients through a whole upgrade: old before the flip, new after it, the requests of
// the hold answered at its end.
func wikiLogs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for c, name := range []string{"reader-1", "reader-2", "editor-1"} {
		random := rand.New(rand.NewPCG(1, uint64(c)))
		var b strings.Builder
		for at := 0.5; at < 330; {
			ms := 300 + 500*random.Float64()
			version := "MediaWiki 1.39"
			if at > holdAt {
				version = "MediaWiki 1.43"
			}
			if at > holdAt && at < flipAt {
				ms += (flipAt - at) * 1000
			}
			fmt.Fprintf(&b, `{"t":%q,"client":%q,"method":"GET","path":"/mediawiki/index.php/Page_%d","status":200,"ms":%.1f,"version":%q}`+"\n",
				after14(at).Format(time.RFC3339Nano), name, random.IntN(200), ms, version)
			at += ms/1000 + 0.25
		}
		if err := os.WriteFile(filepath.Join(dir, name+".jsonl"), []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "*.jsonl")
}

// sample is the report of an upgrade that went well.
func sample(t *testing.T) Report {
	t.Helper()
	clients, points, err := ReadClientLogs(t.Context(), []string{wikiLogs(t)}, Flips{Switch: after14(flipAt)})
	if err != nil {
		t.Fatal(err)
	}
	zero := uint64(0)
	sum := func(c string) string { return strings.Repeat(c, 32) }
	proof := func(domain, x, d string) DomainProof {
		return DomainProof{Domain: domain, XMLBefore: sum(x), XMLAfter: sum(x), DiskChainBefore: sum(d), DiskChainAfter: sum(d)}
	}
	step := func(name string, at, took float64) Phase {
		return Phase{Name: name, Started: after14(at), Seconds: took, Outcome: "done"}
	}
	convert := step("convert", 68, 61)
	convert.Steps = []Phase{step("dump the old database", 69, 9), step("carry the dump", 78, 3), step("load the dump", 81, 14), step("uploaded files", 95, 6), step("convert to the new schema", 101, 27)}
	change := step("switch", 210, 60)
	change.Steps = []Phase{step("hold and drain", 212, 1.4), step("fresh view and clone", 213.4, 26), step("conversion", 239, 22), step("comparison", 261, 6.9)}
	return Report{
		Result: Switched, Run: "k3v9qa", Started: began, Ended: after14(275),
		Plan:     Plan{Name: "wiki", Path: "/srv/upgrades/wiki.yaml", SHA256: sum("5e"), Text: "version: 1\nname: wiki\nproduction:\n  gateways: [10.20.0.1/24]\n  vms:\n    - domain: wiki-db\n    - domain: wiki-web\n"},
		Versions: map[string]string{"imago": "0.1.0", "libvirt": "9.0.0", "QEMU": "7.2.22", "kernel": "6.1.0-40-amd64"},
		Phases:   []Phase{step("check", 1, 2.2), step("clone", 3.4, 64), convert, step("test", 130, 26), change},
		Clone: Clone{Seconds: 63.2, Taken: after14(6), PulledBytes: 3 << 30,
			PerVM:  []CloneVM{{"db-old", "clone of wiki-db", 1.4, 41.8}, {"db", "image wiki-db-13.raw", 0.9, 38}, {"web", "image wiki-web-13.raw", 0.8, 44.6}},
			Frozen: []Frozen{{"wiki-db", 84.2, "file systems frozen"}, {"wiki-web", 0, "crash-consistent"}}},
		Isolation: Isolation{PacketsLeft: &zero, PacketsTried: 148, Domains: []DomainProof{proof("wiki-db", "3a", "c1"), proof("wiki-web", "97", "0f")},
			Attempts: []Attempt{{"10.20.0.53", "udp", 53, 96, 6720}, {"203.0.113.5", "tcp", 443, 44, 2640}, {"10.20.0.7", "arp", 0, 8, 336}}},
		Tests: []Test{{Name: "main page of the new version", Passed: true, Seconds: 6.1}, {Name: "search finds pages", Passed: true, Seconds: 1.9}, {Name: "an edit is saved", Passed: true, Seconds: 4.4}},
		Data: Data{Checks: []DataCheck{{Name: "pages", Seconds: 1.1, Objects: 214, Verified: 214}, {Name: "revisions and their text", Seconds: 3.9, Objects: 1862, Verified: 1862}, {Name: "users", Seconds: .8, Objects: 25, Verified: 25}, {Name: "uploaded files", Seconds: 1.1, Objects: 61, Verified: 61}},
			Ledger: &Ledger{Acknowledged: 39},
			Sets:   []DataSet{{Name: "wiki", Seconds: 31, Rows: 41210, Bytes: 9 << 20, Changes: 612, Rescheduled: 48, Converted: 2104, Verified: 43314, Position: "0-1-40211"}},
			Files:  []FileSet{{Name: "uploaded files", Seconds: .4, Files: 61, Copied: 61, Bytes: 4 << 20, Compared: 61}}},
		Switch:  &Switch{HeldFrom: after14(holdAt), Flipped: after14(flipAt), HoldMS: 56250, DrainMS: 812, FlipUS: 37, HeldConnections: 3, Closed: 2},
		Clients: clients, Points: points,
	}
}

// broken is the report of an upgrade in which everything that can be wrong is.
func broken(t *testing.T) Report {
	t.Helper()
	r := sample(t)
	three := uint64(3)
	r.Result, r.Reason = Failed, "switch: verify revisions: 2 of 1 862 objects are missing in the new data\nClients were released to the old version."
	r.Warnings = []string{"the universe's DNS was asked for mail.example"}
	r.Phases[4].Outcome, r.Phases[4].Detail = "failed", "verify revisions: 2 objects are missing"
	r.Phases[4].Steps[3].Outcome = "failed"
	r.Phases = append(r.Phases, Phase{Name: "abort", Started: after14(275 + 2*24*3600), Seconds: 9, Outcome: "done"})
	r.Isolation.PacketsLeft, r.Isolation.Domains[0].XMLAfter = &three, strings.Repeat("4b", 32)
	r.Isolation.Domains[1].DiskChainAfter = ""
	r.Data.Checks[1].Verified, r.Data.Checks[1].Missing = 1860, Finding{2, []string{"1204", "1877"}}
	r.Tests[1].Passed, r.Tests[1].Error = false, "status 500, want 200: <h1>Internal error</h1>"
	r.Clients.Failed, r.Clients.Mixed = 1, 2
	r.Clients.Failures = []Failure{{At: after14(240), Client: "editor-1", Method: "POST", Path: "/mediawiki/api.php", Status: 0, MS: 3000, Error: "connection reset by peer"}}
	r.Points[len(r.Points)/2].Failed = 1
	r.Rollback = &Rollback{Flipped: after14(300), HoldMS: 900, FlipUS: 40, Lost: []Lost{{Name: "pages", Added: Finding{1, []string{"Page 215"}}}}}
	return r
}

// TestSampleFiles leaves the pages where a person wants to look at them: IMAGO_REPORT_SAMPLES=dir go test -run SampleFiles.
func TestSampleFiles(t *testing.T) {
	dir := os.Getenv("IMAGO_REPORT_SAMPLES")
	if dir == "" {
		dir = t.TempDir()
	}
	for name, r := range map[string]Report{"good": sample(t), "broken": broken(t), "empty": {}} {
		html, err := Write(filepath.Join(dir, name), r)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(html); err != nil || info.Size() < 10_000 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}
