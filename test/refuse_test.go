package test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

const (
	exitRefused = 3
	exitLocked  = 4
	exitStep    = 5
	exitLoss    = 8
)

// TestRefusals gives imago plans that do not fit the host. Each is refused with
// a text that says what is wrong, before anything is made.
func TestRefusals(t *testing.T) {
	h := theHost(t)
	h.defineForeign(t)
	h.must(t, "mkdir", "-p", "/run/tiny")
	h.must(t, "mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/run/tiny")
	t.Cleanup(func() { h.must(t, "umount", "/run/tiny") })
	before := h.world(t)
	sum := h.match(t, `sha256: "([0-9a-f]{64})"`)
	for _, c := range []struct {
		name  string
		pairs []string
		texts []string
	}{
		{"an unknown domain", []string{"domain: small-app", "domain: small-ap", "clone: small-app", "clone: small-ap"}, []string{`small-ap`, "virsh -c"}},
		{"a VIP that the host does not have", []string{"vip: 198.51.100.80:80", "vip: 198.51.100.81:80"}, []string{"198.51.100.81", "not an address of this host"}},
		{"a disk on a host device", []string{"domain: small-app", "domain: on-device", "clone: small-app", "clone: on-device"}, []string{"on-device", "vda", "device"}},
		{"an image that is not the planned one", []string{sum, strings.Repeat("0", 64)}, []string{"image of app", "not the one that was planned with"}},
		{"too little room for the scratch file", []string{"version: 1", "version: 1\nstate_dir: /run/tiny/state"}, []string{"/run/tiny", "free", "scratch"}},
		{"a link network that the host uses", []string{"universe:\n", "universe:\n  transit: 203.0.113.0/30\n"}, []string{"203.0.113.0", "to-clients"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, verb := range []string{"check", "clone"} {
				h.do(t, h.variant(t, c.pairs...), verb).want(t, exitRefused, c.texts...)
			}
			h.do(t, filepath.Join(h.lab.Dir, "variant.yaml"), "abort").want(t, 0)
			_ = os.RemoveAll(h.inside("/run/tiny/state"))
			h.unchanged(t, before)
		})
	}
}

// defineForeign defines and starts, with its CPUs stopped, a VM whose disk is a
// device of the host.
func (h *host) defineForeign(t *testing.T) {
	t.Helper()
	h.must(t, "truncate", "-s", "16M", filepath.Join(h.lab.Dir, "device.img"))
	loop := strings.TrimSpace(h.must(t, "losetup", "--find", "--show", filepath.Join(h.lab.Dir, "device.img")))
	t.Cleanup(func() { h.must(t, "losetup", "--detach", loop) })
	path := filepath.Join(h.lab.Dir, "on-device.xml")
	xml := fmt.Sprintf(`<domain type='qemu'><name>on-device</name><memory unit='MiB'>16</memory>
<os><type arch='x86_64'>hvm</type></os><devices>
<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='%s'/><target dev='vda' bus='virtio'/></disk>
</devices></domain>`, loop)
	if err := os.WriteFile(path, []byte(xml), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must(t, "virsh", "define", path)
	h.must(t, "virsh", "start", "on-device")
	t.Cleanup(func() {
		h.must(t, "virsh", "destroy", "on-device")
		h.must(t, "virsh", "undefine", "on-device")
	})
}

// TestUnreachableGuests: what is wrong with a guest shows only once it has
// booted. The universe is then removed again.
func TestUnreachableGuests(t *testing.T) {
	h := theHost(t)
	before := h.world(t)
	key := h.match(t, `clone: small-app[\s\S]*?host_keys: \["(ssh-ed25519 \S+)"\]`)
	for _, c := range []struct {
		name  string
		pairs []string
		texts []string
	}{
		{"a wrong host key", []string{key, newKey(t)}, []string{"app-old", "host key"}},
		{"an address where no guest answers", []string{"address: 10.20.0.20", "address: 10.20.0.99", "http://10.20.0.20/", "http://10.20.0.99/",
			"{ssh: true, timeout: 9m}", "{ssh: true, timeout: 15s}"}, []string{"app", "10.20.0.99", "15s", "console"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.do(t, h.variant(t, c.pairs...), "clone").want(t, 1, c.texts...)
			h.wantState(t, "checked")
			h.unchanged(t, before)
			h.do(t, filepath.Join(h.lab.Dir, "variant.yaml"), "abort").want(t, 0)
			h.unchanged(t, before)
		})
	}
}

// match finds a text in the lab's plan.
func (h *host) match(t *testing.T, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(h.text)
	if found == nil {
		t.Fatalf("the lab's plan has no %s:\n%s", pattern, h.text)
	}
	return found[1]
}

func newKey(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
