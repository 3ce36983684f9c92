package images_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"imago.dev/imago/images"
	"imago.dev/imago/images/recipes"
)

// needHost skips where images cannot be built, except where they must.
func needHost(t *testing.T) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "not root"
	}
	for _, tool := range []string{"mmdebstrap", "mke2fs", "debugfs", "qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = tool + " is missing"
		}
	}
	switch {
	case missing == "":
	case os.Getenv("CI") == "true":
		t.Fatal(missing)
	default:
		t.Skip(missing)
	}
}

// cacheDir is shared by the tests of this machine, so that bases are built once.
func cacheDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("IMAGO_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/imago"
}

func newBuilder(t *testing.T, cache string) *images.Builder {
	t.Helper()
	c, err := images.LoadCatalogue(recipes.FS)
	if err != nil {
		t.Fatal(err)
	}
	return &images.Builder{Catalogue: c, CacheDir: cache, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// machine is an emulated machine, reached through ports of the loopback.
type machine struct {
	ssh, http string // addresses
	client    *ssh.Client
	started   time.Time
	serial    string
}

// boot starts a machine from an image and returns once sshd lets us in.
func boot(t *testing.T, img images.Image, addr string, nic string) *machine {
	t.Helper()
	dir := t.TempDir()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	login, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	hostKey, hostPub, err := images.NewHostKey()
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "disk.qcow2")
	start := time.Now()
	if err := images.Instantiate(t.Context(), img, disk, images.Instance{
		Hostname: "guest", Address: netip.MustParsePrefix(addr), MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3},
		AuthorizedKeys: []string{string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(login)))},
		HostKey:        hostKey, HostKeyPublic: hostPub, Format: "qcow2",
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("instance made in %.1fs", time.Since(start).Seconds())
	m := &machine{ssh: freePort(t), http: freePort(t), serial: filepath.Join(dir, "serial")}
	m.start(t, img, disk, addr, nic)
	pinned, _, _, _, err := ssh.ParseAuthorizedKey(hostPub)
	if err != nil {
		t.Fatal(err)
	}
	m.login(t, &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(pinned), Timeout: 30 * time.Second})
	t.Logf("ssh after %.1fs", time.Since(m.started).Seconds())
	return m
}

func (m *machine) start(t *testing.T, img images.Image, disk, addr, nic string) {
	t.Helper()
	prefix := netip.MustParsePrefix(addr)
	guest := prefix.Addr().String()
	net := fmt.Sprintf("user,id=n,restrict=on,net=%s,hostfwd=tcp:%s-%s:22,hostfwd=tcp:%s-%s:80%s",
		prefix.Masked(), m.ssh, guest, m.http, guest, nic)
	mem := "512"
	if strings.HasPrefix(img.Name, "wiki-web") {
		mem = "768"
	}
	cmd := exec.Command("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "qemu64", "-smp", "1", "-m", mem,
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "file:"+m.serial,
		"-kernel", img.Kernel, "-initrd", img.Initrd, "-append", img.Cmdline,
		"-drive", "if=virtio,format=qcow2,cache=unsafe,file="+disk,
		"-netdev", net, "-device", "virtio-net-pci,netdev=n,mac=52:54:00:01:02:03",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=a,server=on,wait=off,path="+m.serial+".agent",
		"-device", "virtserialport,chardev=a,name=org.qemu.guest_agent.0")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	m.started = time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			serial, _ := os.ReadFile(m.serial)
			t.Logf("serial console:\n%s", serial)
		}
	})
}

func (m *machine) login(t *testing.T, config *ssh.ClientConfig) {
	t.Helper()
	poll(t, 4*time.Minute, "sshd", func() (err error) {
		m.client, err = ssh.Dial("tcp", m.ssh, config)
		return err
	})
	t.Cleanup(func() { _ = m.client.Close() })
}

// poll asks until it is true that f does not fail.
func poll(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
	}
}

// run runs a command in the guest and gives its output.
func (m *machine) run(t *testing.T, command string) string {
	t.Helper()
	s, err := m.client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// get asks for a page, as a client of the demonstration would.
func (m *machine) get(path string) (*http.Response, string, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+m.http+path, nil)
	if err != nil {
		return nil, "", err
	}
	req.Host = "198.51.100.80"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), errors.Join(err, resp.Body.Close())
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Both small guests must boot, name their version, and keep what is posted.
func TestBootSmall(t *testing.T) {
	needHost(t)
	for _, version := range []string{"12", "13"} {
		t.Run(version, func(t *testing.T) {
			built, err := newBuilder(t, cacheDir(t)).Build(t.Context(), "small-"+version)
			if err != nil {
				t.Fatal(err)
			}
			m := boot(t, built["small-"+version], "10.20.0.10/24", "")
			poll(t, time.Minute, "http", func() error { _, _, err := m.get("/"); return err })
			t.Logf("http after %.1fs", time.Since(m.started).Seconds())
			if resp, err := http.Post("http://"+m.http+"/", "text/plain", strings.NewReader("a line")); err != nil ||
				resp.StatusCode != http.StatusCreated || resp.Header.Get("X-Version") != version {
				t.Fatalf("post: %v %v", resp, err)
			}
			if _, body, err := m.get("/"); err != nil || body != "a line\n" {
				t.Fatalf("get: %q %v", body, err)
			}
			if got := m.run(t, "cat /var/lib/small/log; cat /etc/hostname"); got != "a line\nguest\n" {
				t.Errorf("log and host name: %q", got)
			}
			if out := m.run(t, "systemctl is-active qemu-guest-agent; systemctl --failed --no-legend"); out != "active\n" {
				t.Errorf("units: %q", out)
			}
			if os.Getenv("IMAGO_BLAME") != "" {
				t.Log(m.run(t, "systemd-analyze; systemd-analyze critical-chain ssh.service; systemd-analyze blame | head -40; systemctl list-units --no-pager --no-legend; dmesg | tail -30"))
			}
		})
	}
}
