package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWholeUpgrade upgrades, goes back, upgrades again and makes it final, while
// clients read and write. It leaves production off, so it comes last.
func TestWholeUpgrade(t *testing.T) {
	h := theHost(t)
	u := h.startUsers(t, "12")
	r := h.do(t, h.plan, "upgrade", "--yes", "--output", "json").want(t, 0)
	if !strings.HasPrefix(strings.TrimSpace(r.out), "{") || !strings.Contains(r.errOut, "clients are held") {
		t.Errorf("--output json: stdout\n%s\nstderr\n%s", r.out, r.errOut)
	}
	u.reach(t, "13", 3)
	h.wantState(t, "switched")
	run := h.status(t).Run
	t.Run("report", func(t *testing.T) { h.goodReport(t, run) })
	t.Run("rollback", func(t *testing.T) { h.rollback(t, u) })
	t.Run("switch again and finalize", func(t *testing.T) { h.finalize(t) })
}

// goodReport looks for what a change board asks.
func (h *host) goodReport(t *testing.T, run string) {
	h.must(t, h.imago, "report", h.plan)
	r := h.report(t, run)
	if r.Result != "switched" {
		t.Errorf("result %q (%s), want switched", r.Result, r.Reason)
	}
	if c := r.Clients; c.Failed != 0 || c.Mixed != 0 || c.Requests == 0 || c.ByVersion["12"] == 0 || c.ByVersion["13"] == 0 || c.UnreadableLines != 0 {
		t.Errorf("clients: %+v", c)
	}
	if r.Data.Missing+r.Data.Extra+r.Data.Different+r.Data.Doubled != 0 || !r.Data.OK() || r.Data.Objects == 0 {
		t.Errorf("data: %+v", r.Data)
	}
	i := r.Isolation
	if i.DomainXMLUnchanged == nil || !*i.DomainXMLUnchanged || i.DiskChainUnchanged == nil || !*i.DiskChainUnchanged {
		t.Errorf("isolation: %+v", i)
	}
	if i.PacketsLeft == nil || *i.PacketsLeft != 0 {
		t.Errorf("packets left the universe: %+v", i)
	}
	if r.Switch == nil || r.Switch.HoldMS <= 0 || len(r.Clone.PerVM) != 2 {
		t.Errorf("switch %+v, clone %+v", r.Switch, r.Clone)
	}
	var names []string
	for _, p := range r.Phases {
		names = append(names, p.Name)
		if p.Seconds <= 0 || p.Outcome != "done" {
			t.Errorf("phase %+v", p)
		}
	}
	if got := strings.Join(names, " "); got != "check clone convert test switch" {
		t.Errorf("phases %q", got)
	}
	page, err := os.ReadFile(h.inside(filepath.Join("/var/lib/imago/reports", run, "report.html")))
	if err != nil || !strings.Contains(string(page), "small-app") {
		t.Errorf("report.html (%d bytes): %v", len(page), err)
	}
}

// rollback goes back with the loss of what clients wrote since the switch, which
// is told first.
func (h *host) rollback(t *testing.T, u *users) {
	// A client's last answer is older than the next look at the data.
	u.reach(t, "13", 2)
	u.stop(t)
	u.ledgerOK(t)
	n := u.written(t, "13")
	h.do(t, h.plan, "rollback").want(t, exitLoss, fmt.Sprintf("lines: %d new [", n), "0 changed", "0 removed", "--accept-loss")
	h.wantState(t, "switched")
	h.answers(t, "13")
	h.do(t, h.plan, "rollback", "--accept-loss").want(t, 0)
	h.wantState(t, "rolled-back")
	h.answers(t, "12")
	run := h.status(t).Run
	if rep := h.report(t, run); rep.Result != "rolled-back" || rep.Rollback == nil || len(rep.Rollback.Lost) == 0 || rep.Rollback.Lost[0].Added.Count != int64(n) {
		t.Errorf("report: result %s, rollback %+v", rep.Result, rep.Rollback)
	}
}

// written counts the writes that a version acknowledged.
func (u *users) written(t *testing.T, version string) (n int) {
	t.Helper()
	for _, editor := range []string{"editor-1", "editor-2"} {
		for _, a := range u.answers(t, editor) {
			if a.Version == version && a.Error == "" {
				n++
			}
		}
	}
	if n == 0 {
		t.Fatalf("no client wrote to version %s", version)
	}
	return n
}

// answers fails the test unless a new connection through the VIP reaches the version.
func (h *host) answers(t *testing.T, version string) {
	t.Helper()
	head := h.must(t, "ip", "netns", "exec", "clients", "curl", "--silent", "--show-error", "--fail", "--max-time", "240", "--head", "http://198.51.100.80/")
	if !strings.Contains(head, "X-Version: "+version) {
		t.Errorf("clients reach another version than %s:\n%s", version, head)
	}
}

// finalize switches again, with new clients, and makes the new version stay.
func (h *host) finalize(t *testing.T) {
	u := h.startUsers(t, "12")
	h.do(t, h.plan, "switch").want(t, 0)
	u.reach(t, "13", 2)
	run := h.status(t).Run
	began := time.Now()
	h.do(t, h.plan, "finalize").want(t, 0)
	h.wantState(t, "finalized")
	u.reach(t, "13", 3)
	t.Logf("the longest answer since finalize began took %s", u.longest(t, began))
	u.allServed(t, "12", "13")
	if st := strings.TrimSpace(h.must(t, "virsh", "domstate", "small-app")); st != "shut off" {
		t.Errorf("the old VM is %s", st)
	}
	domain := "imago-small-" + run + "-app"
	if nics := h.must(t, "virsh", "domiflist", domain); !strings.Contains(nics, "production") || !strings.Contains(nics, "52:54:00:20:00:20") {
		t.Errorf("the new VM is not on the production network:\n%s", nics)
	}
	if left := h.must(t, "sh", "-c", "ip netns list; ip -o link; virsh net-list --all --name"); strings.Contains(left, run) {
		t.Errorf("the universe's network is still there:\n%s", left)
	}
	if r := h.report(t, run); r.Result != "finalized" {
		t.Errorf("report: result %s", r.Result)
	}
}

// longest is the longest time that a client waited for an answer that came
// after the given moment.
func (u *users) longest(t *testing.T, since time.Time) (longest time.Duration) {
	t.Helper()
	for _, client := range []string{"reader-1", "editor-1", "editor-2"} {
		for _, a := range u.answers(t, client) {
			took := time.Duration(a.Millis * float64(time.Millisecond))
			if a.Time.Add(took).After(since) {
				longest = max(longest, took)
			}
		}
	}
	return longest
}
