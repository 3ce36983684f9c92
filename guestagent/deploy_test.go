package guestagent

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestDeploy(t *testing.T) {
	g := startGuest(t, newEd25519(t))
	s, err := Connect(context.Background(), g.target(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	if _, err := s.Run(ctx, Step{Name: "early", Script: "true"}, nil); !errors.Is(err, ErrNoAgent) {
		t.Fatalf("before deploy: %v", err)
	}
	deploy := func() os.FileInfo {
		t.Helper()
		if err := s.Deploy(ctx, agentBinary(t)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(s.agentPath())
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Fatalf("%v, %v", info, err)
		}
		return info
	}
	first := deploy()
	if !strings.HasPrefix(s.agentPath(), "/run/imago/agent-") {
		t.Fatalf("deployed at %s", s.agentPath())
	}
	if again := deploy(); !again.ModTime().Equal(first.ModTime()) || !os.SameFile(first, again) {
		t.Fatal("an equal agent was uploaded again")
	}
	t.Run("a damaged one of the same size is replaced", func(t *testing.T) {
		b := append([]byte(nil), agentBinary(t)...)
		b[len(b)/2] ^= 1
		if err := os.WriteFile(s.agentPath(), b, 0o700); err != nil {
			t.Fatal(err)
		}
		deploy()
		if got, _ := os.ReadFile(s.agentPath()); string(got) != string(agentBinary(t)) {
			t.Fatal("the damaged agent stayed")
		}
	})
	t.Run("what does not start is refused", func(t *testing.T) {
		if err := s.Deploy(ctx, []byte("#!/no/such/interpreter\n")); err == nil || !strings.Contains(err.Error(), "start it") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("removed", func(t *testing.T) {
		deploy()
		at := s.agentPath()
		if err := s.RemoveAgent(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(at); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s is still there", at)
		}
	})
}

func TestDeployWhereRunIsNoexecOrTaken(t *testing.T) {
	s := newSessionForTest(t)
	ctx := context.Background()
	if err := s.RemoveAgent(ctx); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ prepare, undo string }{
		"noexec":          {"mkdir -p /run/imago && mount -t tmpfs -o noexec tmpfs /run/imago", "umount /run/imago"},
		"somebody else's": {"rm -rf /run/imago && mkdir /run/imago && chown 65534 /run/imago", "rm -rf /run/imago"},
		"a link":          {"rm -rf /run/imago && ln -s /tmp /run/imago", "rm /run/imago"},
	} {
		t.Run(name, func(t *testing.T) {
			script(t, "/", c.prepare)
			defer script(t, "/", c.undo)
			if err := s.Deploy(ctx, agentBinary(t)); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(s.agentPath(), "/var/tmp/imago-root/") {
				t.Fatalf("deployed at %s", s.agentPath())
			}
			if _, err := s.Run(ctx, Step{Name: "x", Script: "true"}, nil); err != nil {
				t.Fatal(err)
			}
			if err := s.RemoveAgent(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat("/var/tmp/imago-root"); !errors.Is(err, os.ErrNotExist) {
				t.Fatal("the directory is still there")
			}
		})
	}
}

func TestNoSFTPIsExplained(t *testing.T) {
	g := startGuest(t, newEd25519(t), "Subsystem sftp /no/such/server")
	s, err := Connect(context.Background(), g.target(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Deploy(ctx, agentBinary(t)); err == nil || !strings.Contains(err.Error(), "SFTP") {
		t.Fatalf("got %v", err)
	}
}

func TestTheAgentIsSmall(t *testing.T) {
	needNamespaces(t)
	// Most of it is the database client, for the mode transfer.
	if n := len(agentBinary(t)); n > 10<<20 {
		t.Errorf("%d bytes", n)
	}
}
