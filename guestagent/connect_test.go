package guestagent

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestHostKeysArePinned(t *testing.T) {
	g := startGuest(t, newEd25519(t))
	other, err := ssh.NewSignerFromKey(newEd25519(t))
	if err != nil {
		t.Fatal(err)
	}
	rsaSigner, err := ssh.NewSignerFromKey(newRSA(t))
	if err != nil {
		t.Fatal(err)
	}
	shown := ssh.FingerprintSHA256(g.hostKey)
	for name, c := range map[string]struct {
		pinned []ssh.PublicKey
		got    string
		text   string
	}{
		"unknown":              {nil, shown, "is unknown"},
		"changed":              {[]ssh.PublicKey{other.PublicKey()}, shown, "is pinned"},
		"only of another kind": {[]ssh.PublicKey{rsaSigner.PublicKey()}, "", "no host key of the kind"},
	} {
		target := g.target()
		target.HostKeys = c.pinned
		s, err := Connect(context.Background(), target, quiet())
		if err == nil {
			s.Close()
			t.Fatalf("%s: connected", name)
		}
		var hk *HostKeyError
		if !errors.As(err, &hk) || hk.Got != c.got || len(hk.Want) != len(c.pinned) || hk.Hint() == "" {
			t.Fatalf("%s: got %v", name, err)
		}
		if !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: message %q", name, err)
		}
	}
	target := g.target()
	target.HostKeys = []ssh.PublicKey{other.PublicKey(), g.hostKey}
	s, err := Connect(context.Background(), target, quiet())
	if err != nil {
		t.Fatalf("one of two pinned keys: %v", err)
	}
	s.Close()
}

func TestRSAHostKeyWithoutSHA1(t *testing.T) {
	g := startGuest(t, newRSA(t))
	s, err := Connect(context.Background(), g.target(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestWrongLoginIsNamed(t *testing.T) {
	g := startGuest(t, newEd25519(t))
	target := g.target()
	stranger, err := ssh.NewSignerFromKey(newEd25519(t))
	if err != nil {
		t.Fatal(err)
	}
	target.Signer = stranger
	if _, err := Connect(context.Background(), target, quiet()); !errors.Is(err, ErrLogin) {
		t.Fatalf("got %v", err)
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	signer, err := ssh.NewSignerFromKey(newEd25519(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err = Connect(ctx, Target{Name: "mute", Addr: l.Addr().String(), User: "root", Signer: signer}, quiet())
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 5*time.Second {
		t.Fatalf("got %v after %s", err, time.Since(begin))
	}
}

// sessionProcess is the sshd process that serves s.
func sessionProcess(t *testing.T, s *Session) int {
	t.Helper()
	pid := 0
	_, err := s.Lines(context.Background(), Step{Name: "pid", Script: "ps -o ppid= -p $(ps -o ppid= -p $$)"}, func(line []byte) error {
		for _, c := range strings.TrimSpace(string(line)) {
			pid = pid*10 + int(c-'0')
		}
		return nil
	})
	if err != nil || pid < 2 {
		t.Fatalf("find the session's sshd: %d, %v", pid, err)
	}
	return pid
}

// pending starts one call of each blocking kind and returns their errors.
func pending(t *testing.T, s *Session) <-chan error {
	t.Helper()
	errs := make(chan error, 2)
	started := make(chan struct{}, 2)
	go func() {
		_, err := s.Run(context.Background(), Step{Name: "sleep", Script: "echo go; sleep 600"}, func(Output) { started <- struct{}{} })
		errs <- err
	}()
	go func() {
		_, err := s.Lines(context.Background(), Step{Name: "stream", Script: "while :; do echo x; sleep 0.1; done"}, func([]byte) error {
			select {
			case started <- struct{}{}:
			default:
			}
			return nil
		})
		errs <- err
	}()
	for range 2 {
		select {
		case <-started:
		case <-time.After(20 * time.Second):
			t.Fatal("the pending calls did not start")
		}
	}
	return errs
}

func wantLost(t *testing.T, errs <-chan error, limit time.Duration) {
	t.Helper()
	begin := time.Now()
	for range 2 {
		select {
		case err := <-errs:
			if !errors.Is(err, ErrConnectionLost) {
				t.Fatalf("got %v", err)
			}
		case <-time.After(limit - time.Since(begin)):
			t.Fatalf("a pending call did not end within %s", limit)
		}
	}
	t.Logf("pending calls ended after %s", time.Since(begin).Round(time.Millisecond))
}

func TestStalledServerEndsPendingCalls(t *testing.T) {
	g := startGuest(t, newEd25519(t))
	s := g.connect(g.target())
	pid := sessionProcess(t, s)
	errs := pending(t, s)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	wantLost(t, errs, 10*time.Second)
	if _, err := s.Run(context.Background(), Step{Name: "later", Script: "true"}, nil); !errors.Is(err, ErrConnectionLost) {
		t.Fatalf("a later call: %v", err)
	}
}

func TestKilledServerEndsPendingCalls(t *testing.T) {
	g := startGuest(t, newEd25519(t))
	s := g.connect(g.target())
	errs := pending(t, s)
	if err := syscall.Kill(sessionProcess(t, s), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantLost(t, errs, 3*time.Second)
}

func TestDroppedPacketsEndPendingCallsOnBothSides(t *testing.T) {
	g := startGuest(t, newEd25519(t))
	target := g.target()
	target.Lease = 4 * time.Second
	s := g.connect(target)
	mark := "imago-lease-" + strings.ReplaceAll(g.addr, ":", "-")
	started := make(chan struct{}, 1)
	errs := make(chan error, 1)
	go func() {
		_, err := s.Run(context.Background(), Step{Name: "long", Argv: []string{"sh", "-c", "echo up; sleep 600; true " + mark}}, func(Output) { started <- struct{}{} })
		errs <- err
	}()
	<-started
	if processes(t, mark) == 0 {
		t.Fatal("the step is not there")
	}
	dropPackets(t, g.addr)
	select {
	case err := <-errs:
		if !errors.Is(err, ErrConnectionLost) {
			t.Fatalf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the call did not end within 10 s")
	}
	eventually(t, 15*time.Second, "the step ends in the guest, which hears nothing", func() bool { return processes(t, mark) == 0 })
}

func TestCloseEndsPendingCalls(t *testing.T) {
	g := startGuest(t, newEd25519(t))
	s := g.connect(g.target())
	errs := pending(t, s)
	s.Close()
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
	}
}
