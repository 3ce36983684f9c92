package guestagent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// guest is a real sshd on loopback.
type guest struct {
	t       *testing.T
	addr    string
	dir     string
	cmd     *exec.Cmd
	hostKey ssh.PublicKey
	client  ssh.Signer
	log     *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func writeKey(t *testing.T, file string, key any) ssh.Signer {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func newEd25519(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
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

// startGuest runs an sshd with the host key given, ended with the test.
func startGuest(t *testing.T, hostKey any, config ...string) *guest {
	t.Helper()
	needNamespaces(t)
	g := &guest{t: t, dir: t.TempDir(), addr: freePort(t), log: new(syncBuffer)}
	g.hostKey = writeKey(t, filepath.Join(g.dir, "host"), hostKey).PublicKey()
	g.client = writeKey(t, filepath.Join(g.dir, "client"), newEd25519(t))
	authorized := filepath.Join(g.dir, "authorized")
	if err := os.WriteFile(authorized, ssh.MarshalAuthorizedKey(g.client.PublicKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(g.addr)
	conf := fmt.Sprintf("ListenAddress %s\nPort %s\nHostKey %s\nAuthorizedKeysFile %s\n", host, port, filepath.Join(g.dir, "host"), authorized) +
		"UsePAM no\nStrictModes no\nPidFile none\nPermitRootLogin prohibit-password\n"
	if !slices.ContainsFunc(config, func(line string) bool { return strings.HasPrefix(line, "Subsystem ") }) {
		conf += "Subsystem sftp /usr/lib/openssh/sftp-server\n"
	}
	for _, line := range config {
		conf = line + "\n" + conf // the first value wins
	}
	file := filepath.Join(g.dir, "conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	g.cmd = exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", file)
	g.cmd.Stderr = g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.cmd.Process.Kill()
		g.cmd.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", g.log)
		}
	})
	eventually(t, 10*time.Second, "sshd listens", func() bool {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return g
}

func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(limit); !ok(); {
		if time.Now().After(until) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (g *guest) target() Target {
	return Target{Name: "guest-a", Addr: g.addr, User: "root", Signer: g.client, HostKeys: []ssh.PublicKey{g.hostKey}}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// connect connects and deploys the agent.
func (g *guest) connect(target Target) *Session {
	g.t.Helper()
	s, err := Connect(context.Background(), target, quiet())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { s.Close() })
	if err := s.Deploy(context.Background(), agentBinary(g.t)); err != nil {
		g.t.Fatal(err)
	}
	return s
}

func newSessionForTest(t *testing.T) *Session {
	t.Helper()
	g := startGuest(t, newEd25519(t))
	return g.connect(g.target())
}

var builtAgent = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "imago-agent-test")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "imago.dev/imago/cmd/imago-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the agent: %w: %s", err, said)
	}
	return os.ReadFile(out)
})

func agentBinary(t *testing.T) []byte {
	t.Helper()
	b, err := builtAgent()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
