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

// inNamespaces builds the images where the mirror can be reached and then runs
// the test again in network and PID namespaces of its own, where machines can
// have their real addresses. It says whether this is that second run.
func inNamespaces(t *testing.T, names ...string) (map[string]images.Image, bool) {
	t.Helper()
	needHost(t)
	start := time.Now()
	built, err := newBuilder(t, cacheDir(t)).Build(t.Context(), names...)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("IMAGO_TEST_INSIDE") == t.Name() {
		t.Logf("images checked in %.1fs", time.Since(start).Seconds())
		lan(t)
		return built, true
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--fork", "--pid", "--kill-child", "--mount", "--mount-proc", "--net", "--",
		os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "20m")
	cmd.Env = append(os.Environ(), "IMAGO_TEST_INSIDE="+t.Name())
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return nil, false
}

// lan makes the bridge that the machines are on.
func lan(t *testing.T) {
	t.Helper()
	for _, args := range []string{"link set lo up", "link add br0 type bridge", "address add 10.20.0.1/24 dev br0", "link set br0 up"} {
		ip(t, args)
	}
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// machine is an emulated machine on the bridge.
type machine struct {
	addr    string
	client  *ssh.Client
	started time.Time
	serial  string
	tap     string
	cmd     *exec.Cmd
}

// boot starts a machine from an image and returns once sshd lets us in.
func boot(t *testing.T, img images.Image, addr string) *machine {
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
	prefix := netip.MustParsePrefix(addr + "/24")
	mac := net.HardwareAddr{0x52, 0x54, 0, 1, 2, prefix.Addr().As4()[3]}
	if err := images.Instantiate(t.Context(), img, disk, images.Instance{
		Hostname: "guest", Address: prefix, Gateway: netip.MustParseAddr("10.20.0.1"), MAC: mac,
		AuthorizedKeys: []string{string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(login)))},
		HostKey:        hostKey, HostKeyPublic: hostPub, Format: "qcow2",
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: instance made in %.1fs", img.Name, time.Since(start).Seconds())
	m := &machine{addr: addr, serial: filepath.Join(dir, "serial")}
	m.start(t, img, disk, mac)
	pinned, _, _, _, err := ssh.ParseAuthorizedKey(hostPub)
	if err != nil {
		t.Fatal(err)
	}
	m.login(t, &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(pinned), Timeout: 30 * time.Second})
	m.tell(t, img.Name+": ssh")
	return m
}

func (m *machine) tell(t *testing.T, what string) {
	t.Helper()
	t.Logf("%s after %.1fs (processor %.1fs)", what, time.Since(m.started).Seconds(), m.cpu(t))
}

func (m *machine) start(t *testing.T, img images.Image, disk string, mac net.HardwareAddr) {
	t.Helper()
	m.tap = fmt.Sprintf("tap%d", mac[5])
	ip(t, "tuntap add dev "+m.tap+" mode tap")
	ip(t, "link set "+m.tap+" master br0 up")
	mem := "512"
	if strings.HasPrefix(img.Name, "wiki-web") {
		mem = "768"
	}
	m.cmd = exec.Command("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "qemu64", "-smp", "1", "-m", mem,
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "file:"+m.serial,
		"-kernel", img.Kernel, "-initrd", img.Initrd, "-append", img.Cmdline,
		"-drive", "if=virtio,format=qcow2,cache=unsafe,file="+disk,
		"-netdev", "tap,id=n,script=no,downscript=no,ifname="+m.tap, "-device", "virtio-net-pci,netdev=n,mac="+mac.String(),
		"-device", "virtio-rng-pci",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=a,server=on,wait=off,path="+m.serial+".agent",
		"-device", "virtserialport,chardev=a,name=org.qemu.guest_agent.0")
	m.cmd.Stdout, m.cmd.Stderr = t.Output(), t.Output()
	m.started = time.Now()
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			serial, _ := os.ReadFile(m.serial)
			t.Logf("serial console:\n%s", serial)
		}
	})
}

func (m *machine) stop() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
	_ = exec.Command("ip", "link", "del", m.tap).Run()
}

// cpu is the processor time that the emulated machine took so far: it tells more
// than the clock where others work as well.
func (m *machine) cpu(t *testing.T) float64 {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	var user, system float64
	if _, err := fmt.Sscan(strings.Join(strings.Fields(string(rest))[11:13], " "), &user, &system); err != nil {
		t.Fatal(err)
	}
	return (user + system) / 100
}

// timed runs f and logs what it took, by the clock and of these machines' processors.
func timed(t *testing.T, what string, f func(), machines ...*machine) {
	t.Helper()
	var used []string
	before := make([]float64, len(machines))
	for i, m := range machines {
		before[i] = m.cpu(t)
	}
	start := time.Now()
	f()
	for i, m := range machines {
		used = append(used, fmt.Sprintf("%s %.1fs", m.addr, m.cpu(t)-before[i]))
	}
	t.Logf("%s took %.1fs (processors: %s)", what, time.Since(start).Seconds(), strings.Join(used, ", "))
}

func (m *machine) login(t *testing.T, config *ssh.ClientConfig) {
	t.Helper()
	poll(t, 4*time.Minute, "sshd", func() (err error) {
		m.client, err = ssh.Dial("tcp", m.addr+":22", config)
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
	req, err := http.NewRequest(http.MethodGet, "http://"+m.addr+path, nil)
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

// Both small guests must boot, name their version, and keep what is posted.
func TestBootSmall(t *testing.T) {
	built, inside := inNamespaces(t, "small-12", "small-13")
	if !inside {
		return
	}
	for i, version := range []string{"12", "13"} {
		t.Run(version, func(t *testing.T) { bootSmall(t, built["small-"+version], version, fmt.Sprintf("10.20.0.%d", 10+i)) })
	}
}

func bootSmall(t *testing.T, img images.Image, version, addr string) {
	m := boot(t, img, addr)
	poll(t, time.Minute, "http", func() error { _, _, err := m.get("/"); return err })
	m.tell(t, "http")
	resp, err := http.Post("http://"+m.addr+"/", "text/plain", strings.NewReader("a line"))
	if err != nil || resp.StatusCode != http.StatusCreated || resp.Header.Get("X-Version") != version {
		t.Fatalf("post: %v %v", resp, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if _, body, err := m.get("/"); err != nil || body != "a line\n" {
		t.Fatalf("get: %q %v", body, err)
	}
	if got := m.run(t, "cat /var/lib/small/log; hostname"); got != "a line\nguest\n" {
		t.Errorf("log and host name: %q", got)
	}
	m.agentAnswers(t)
	if failed := m.run(t, "systemctl --failed --no-legend"); failed != "" {
		t.Errorf("failed units: %s", failed)
	}
	m.blame(t)
}

// agentAnswers asks the QEMU guest agent through its channel.
func (m *machine) agentAnswers(t *testing.T) {
	t.Helper()
	poll(t, time.Minute, "guest agent", func() error {
		c, err := net.Dial("unix", m.serial+".agent")
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := c.Write([]byte("{\"execute\":\"guest-ping\"}\n")); err != nil {
			return err
		}
		buf := make([]byte, 256)
		n, err := c.Read(buf)
		if err == nil && !strings.Contains(string(buf[:n]), "return") {
			err = fmt.Errorf("agent says %q", buf[:n])
		}
		return err
	})
}

// blame logs where a boot's time went, when asked.
func (m *machine) blame(t *testing.T) {
	t.Helper()
	if os.Getenv("IMAGO_BLAME") != "" {
		t.Log(m.run(t, "systemd-analyze; systemd-analyze critical-chain; systemd-analyze blame | head -30; dmesg | tail -40"))
	}
}
