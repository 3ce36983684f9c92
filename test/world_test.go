package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"imago.dev/imago/internal/lab"
)

// worldScript prints all that imago may make on a host, one part after the
// other. What runs the script itself and the tests' clients are left out.
const worldScript = `
echo "== links"; ip -o link | sed -E 's/^[0-9]+: //; s/ state [A-Z]+//; s/@if[0-9]+/@/' | sort
echo "== addresses"; ip -o addr | sed -E 's/^[0-9]+: //; s/ +/ /g' | sort
echo "== routes"; ip route show table all | sort
echo "== network namespaces"; ip netns list | sed 's/ (id.*//' | sort
echo "== nft"; nft --stateless list ruleset
echo "== sysctl"; sysctl -a 2>/dev/null | grep -E '^net\.(ipv4\.(ip_forward|conf)|bridge|netfilter\.nf_conntrack_(tcp_loose|acct|timestamp|events|helper))' | sort
echo "== domains"; for d in $(virsh list --all --name | sort); do echo "$d $(virsh domstate "$d")"; done
echo "== libvirt networks"; virsh net-list --all --name | sort
echo "== files"; find /var/lib/imago /run/imago /run/netns /etc/libvirt /var/lib/libvirt 2>/dev/null |
	grep -vE '^/var/lib/imago/(journal|reports)(/|$)|/domain-[0-9]+-small-app' | sort
echo "== mounts"; awk '{print $5}' /proc/self/mountinfo | sort
echo "== processes"; ps -eo args --no-headers | grep -vE '^(ps|sh|sort|grep|nsenter|awk|\[)|lab client' | cut -c1-120 | sort
`

// world is what the lab's host looks like, apart from what changes by itself.
func (h *host) world(t *testing.T) string {
	t.Helper()
	return h.must(t, "sh", "-c", worldScript)
}

// unchanged fails the test unless the host is as it was. What ends by itself,
// such as a process that has just been told to, gets a moment.
func (h *host) unchanged(t *testing.T, before string) {
	t.Helper()
	var diff string
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if diff = cmp.Diff(strings.Split(before, "\n"), strings.Split(h.world(t), "\n")); diff == "" {
			break
		}
		if time.Now().After(end) {
			t.Errorf("the host is not as it was before (-before +after):\n%s", diff)
			break
		}
	}
	h.productionLives(t)
}

// productionLives fails the test unless the production VM runs, is free of
// any job and freeze of ours, and takes a write.
func (h *host) productionLives(t *testing.T) {
	t.Helper()
	if st := strings.TrimSpace(h.must(t, "virsh", "domstate", "small-app", "--reason")); !strings.HasPrefix(st, "running") {
		t.Errorf("production is %s", st)
	}
	if job := h.must(t, "virsh", "domjobinfo", "small-app"); !strings.Contains(job, "None") {
		t.Errorf("production has a job:\n%s", job)
	}
	freeze := h.must(t, "virsh", "qemu-agent-command", "small-app", `{"execute":"guest-fsfreeze-status"}`, "--timeout", "60")
	if !strings.Contains(freeze, "thawed") {
		t.Errorf("production's file systems are not thawed: %s", freeze)
	}
	line := fmt.Sprintf("admin serial %d.", time.Now().UnixNano())
	h.must(t, "curl", "--silent", "--show-error", "--fail", "--max-time", "120", "--data", line, "http://198.51.100.80/")
	if got := h.must(t, "curl", "--silent", "--show-error", "--fail", "--max-time", "120", "http://10.20.0.10/"); !strings.Contains(got, line) {
		t.Errorf("production lost the line %q", line)
	}
}

// letLibvirtMakeItsChains starts and removes an isolated network. At the first
// one libvirtd makes its own base chains, LIBVIRT_INP and others, on a host, and
// keeps them for good; on an admin's host they are there.
func (h *host) letLibvirtMakeItsChains(t *testing.T) {
	t.Helper()
	path := filepath.Join(h.lab.Dir, "first.xml")
	if err := os.WriteFile(path, []byte("<network><name>first</name><bridge name='first0'/></network>"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must(t, "virsh", "net-define", path)
	h.must(t, "virsh", "net-start", "first")
	h.must(t, "virsh", "net-destroy", "first")
	h.must(t, "virsh", "net-undefine", "first")
}

// users are the lab's clients while a test runs.
type users struct {
	*lab.Clients
	h       *host
	stopped bool
}

// startUsers lets clients use the system, with an empty ledger, and waits until
// the version answers them.
func (h *host) startUsers(t *testing.T, version string) *users {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(h.lab.Dir, "clients")); err != nil {
		t.Fatal(err)
	}
	h.must(t, h.sshToProduction(t)[0], append(h.sshToProduction(t)[1:], "truncate -s 0 /var/lib/small/log")...)
	clients, err := h.lab.StartClients(context.Background(), h.imago, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	u := &users{Clients: clients, h: h}
	t.Cleanup(func() { u.stop(t) })
	u.reach(t, version, 3)
	return u
}

func (h *host) sshToProduction(t *testing.T) []string {
	t.Helper()
	args, err := h.lab.SSH("small-app")
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{"ssh"}, args...)
}

// reach waits until each client has had n more good answers of the version.
func (u *users) reach(t *testing.T, version string, n int) {
	t.Helper()
	sys, err := lab.SystemByName(u.h.lab.State.System)
	if err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	await(t, fmt.Sprintf("%d answers of version %s for each client", n, version), 4*time.Minute, func() error {
		for _, o := range sys.Clients {
			got := 0
			for _, a := range u.answers(t, o.Name) {
				if a.Time.After(since) && a.Version == version && a.Error == "" {
					got++
				}
			}
			if got < n {
				return fmt.Errorf("%s has had %d", o.Name, got)
			}
		}
		return nil
	})
}

func (u *users) answers(t *testing.T, client string) []lab.Answer {
	t.Helper()
	answers, err := lab.ReadAnswers(filepath.Join(u.h.lab.Dir, "clients", client+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return answers
}

// stop ends the clients. It may be repeated.
func (u *users) stop(t *testing.T) {
	t.Helper()
	if u.stopped {
		return
	}
	u.stopped = true
	if err := u.Stop(); err != nil {
		t.Errorf("stop the clients: %v", err)
	}
}

// allServed stops the clients and fails the test unless every request of theirs
// was answered well and by one of the versions, and no acknowledged write is missing.
func (u *users) allServed(t *testing.T, versions ...string) {
	t.Helper()
	u.stop(t)
	sys, err := lab.SystemByName(u.h.lab.State.System)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range sys.Clients {
		for _, a := range u.answers(t, o.Name) {
			if a.Error != "" || !strings.Contains(strings.Join(versions, " "), a.Version) {
				t.Errorf("%s was not served: %+v", o.Name, a)
			}
		}
	}
	u.ledgerOK(t)
}

func (u *users) ledgerOK(t *testing.T) {
	t.Helper()
	ledger, err := u.CheckLedger(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !ledger.OK() || ledger.Acknowledged == 0 {
		t.Errorf("the ledger does not agree with what clients saw acknowledged: %+v", ledger)
	}
}
