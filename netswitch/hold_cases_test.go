package netswitch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func startHold(t testing.TB, spec HoldSpec) *Hold {
	t.Helper()
	h, err := StartHold(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Release(context.Background()) })
	return h
}

type answer struct {
	side string
	err  error
	took time.Duration
}

// start sends a request and delivers its answer later.
func (w *world) start(c *http.Client, method, path, id string, size int) <-chan answer {
	out := make(chan answer, 1)
	begun := time.Now()
	go func() {
		side, err := w.request(c, method, path, id, size)
		out <- answer{side, err, time.Since(begun)}
	}()
	return out
}

func want(t testing.TB, got answer, side Side) {
	t.Helper()
	if got.err != nil || got.side != side.String() {
		t.Errorf("answered by %q after %v, %v; want %s", got.side, got.took, got.err, side)
	}
}

func TestLongHoldKeepsNewClientsWaiting(t *testing.T) {
	w := newWorld(t)
	h := startHold(t, w.holdSpec(30*time.Second))
	var waiting []<-chan answer
	for i := range 8 {
		waiting = append(waiting, w.start(w.client(false), http.MethodPost, "/", fmt.Sprint("p", i), 10))
	}
	eventually(t, "all held", func() bool { return h.Stats().HeldNew == 8 })
	if _, err := h.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Longer than two repeated SYNs, of which only the newest may survive.
	eventually(t, "3.5 s of hold", func() bool { return h.Stats().LongestWait > 3500*time.Millisecond })
	w.serving.Store(New)
	if err := w.m.Flip(t.Context(), New); err != nil {
		t.Fatal(err)
	}
	released := time.Now()
	if err := h.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range waiting {
		want(t, <-c, New)
	}
	if d := time.Since(released); d > 900*time.Millisecond {
		t.Errorf("answers came %v after the release: SYNs were lost", d)
	}
	if s := h.Stats(); s.HeldNew != 8 || s.LongestWait < 3500*time.Millisecond {
		t.Errorf("%+v", s)
	}
	w.verify(8)
}

func TestDeadlineReleasesToOld(t *testing.T) {
	w := newWorld(t)
	h := startHold(t, w.holdSpec(700*time.Millisecond))
	got := w.start(w.client(false), http.MethodGet, "/", "a", 0)
	<-h.Over()
	a := <-got
	want(t, a, Old)
	if a.took < 400*time.Millisecond {
		t.Errorf("was not held: %v", a.took)
	}
	if _, err := h.Drain(t.Context()); !errors.Is(err, ErrHoldOver) || !errors.Is(err, ErrNotDrained) {
		t.Errorf("drain after the end: %v", err)
	}
	if err := h.Release(t.Context()); err != nil {
		t.Errorf("release after the end: %v", err)
	}
	if s := sh(t, "", "nft list tables"); strings.Contains(s, "hold") {
		t.Errorf("left: %s", s)
	}
	w.verify(1)
}

// A request in flight is answered by the old side whatever it takes, and an error
// names it when it takes too long.
func TestDrainWaitsForSlowRequest(t *testing.T) {
	w := newWorld(t)
	c := w.client(true)
	if _, err := w.request(c, http.MethodGet, "/", "warm", 0); err != nil {
		t.Fatal(err)
	}
	h := startHold(t, w.holdSpec(30*time.Second))
	slow := w.start(c, http.MethodPost, "/slow?for=2500ms", "slow", 50_000)
	served := func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.served["slow"]) == 1 }
	eventually(t, "request at the old side", served)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := h.Drain(ctx)
	var busy *DrainError
	if !errors.As(err, &busy) || len(busy.Busy) != 1 || busy.Busy[0].Client.Addr().String() != "198.51.100.7" ||
		!errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waits for its answer") {
		t.Fatalf("drain: %v", err)
	}
	report, err := h.Drain(t.Context())
	if err != nil || report.InFlight != 1 || report.Slowest < 2*time.Second {
		t.Errorf("%+v, %v", report, err)
	}
	want(t, <-slow, Old)
	if s := h.Stats(); s.ClosedAfterAnswer != 1 || s.ClosedIdle != 0 || s.Forced != 0 {
		t.Errorf("%+v", s)
	}
	w.serving.Store(New)
	if err := errors.Join(w.m.Flip(t.Context(), New), h.Release(t.Context())); err != nil {
		t.Fatal(err)
	}
	if side, err := w.request(c, http.MethodPost, "/", "after", 5); err != nil || side != "new" {
		t.Errorf("next request: %q, %v", side, err)
	}
	w.verify(3)
}

// Watched before the hold, a long request that began before it is not cut off,
// silent as its connection is.
func TestWatchKnowsLongRequestFromBeforeTheHold(t *testing.T) {
	w := newWorld(t)
	spec := w.holdSpec(30 * time.Second)
	spec.Quiet = 300 * time.Millisecond
	h, err := Watch(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Release(context.Background()) })
	if side, err := w.request(w.client(false), http.MethodGet, "/", "unheld", 0); err != nil || side != "old" {
		t.Fatalf("while watched: %q, %v", side, err)
	}
	slow := w.start(w.client(true), http.MethodPost, "/slow?for=1500ms", "slow", 10)
	eventually(t, "request at the old side", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.served["slow"]) == 1 })
	if err := h.Begin(); err != nil {
		t.Fatal(err)
	}
	report, err := h.Drain(t.Context())
	if err != nil || report.Slowest < 500*time.Millisecond {
		t.Errorf("%+v, %v", report, err)
	}
	want(t, <-slow, Old)
	w.verify(2)
}

// Idle keep-alive connections from before the hold, whose numbers nobody knows, are
// closed in order, and their clients come back as new ones.
func TestIdleConnectionsAreClosed(t *testing.T) {
	w := newWorld(t)
	var clients []*http.Client
	for i := range 5 {
		c := w.client(true)
		clients = append(clients, c)
		if _, err := w.request(c, http.MethodGet, "/", fmt.Sprint("before", i), 0); err != nil {
			t.Fatal(err)
		}
	}
	h := startHold(t, w.holdSpec(30*time.Second))
	report, err := h.Drain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s := h.Stats(); s.ClosedIdle != 5 || report.Closed != 5 || s.Forced != 0 {
		t.Errorf("%+v %+v", report, s)
	}
	w.serving.Store(New)
	if err := w.m.Flip(t.Context(), New); err != nil {
		t.Fatal(err)
	}
	if n, err := DropOldFlows(t.Context(), w.services(), New); err != nil || n < 5 {
		t.Errorf("dropped %d, %v", n, err)
	}
	if err := h.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, c := range clients {
		if side, err := w.request(c, http.MethodPost, "/", fmt.Sprint("after", i), 9); err != nil || side != "new" {
			t.Errorf("client %d: %q, %v", i, side, err)
		}
	}
	w.verify(10)
	eventually(t, "old side's connections closed", func() bool {
		return !strings.Contains(sh(t, "old", "ss -Htn state established"), ":80")
	})
}

// rawConn speaks to the VIP byte by byte.
func rawConn(t testing.TB) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := dialFrom("client")(t.Context(), "tcp", "198.51.100.1:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, bufio.NewReader(c)
}

func TestShapesOfHTTP(t *testing.T) {
	for name, tc := range map[string]struct {
		send    string
		answers int
		method  string
	}{
		"head":      {"HEAD /?id=h HTTP/1.1\r\nHost: x\r\n\r\n", 1, "HEAD"},
		"pipelined": {"GET /?id=p1 HTTP/1.1\r\nHost: x\r\n\r\nGET /chunked?id=p2 HTTP/1.1\r\nHost: x\r\n\r\n", 2, "GET"},
		"http/1.0":  {"GET /?id=z HTTP/1.0\r\n\r\n", 1, "GET"},
		"continue":  {"POST /?id=c HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab", 1, "POST"},
		"chunked":   {"POST /?id=k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 1, "POST"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c, r := rawConn(t)
			fmt.Fprint(c, "GET /?id=first HTTP/1.1\r\nHost: x\r\n\r\n")
			readAnswer(t, r, "GET")
			h := startHold(t, w.holdSpec(10*time.Second))
			fmt.Fprint(c, tc.send)
			var last *http.Response
			for range tc.answers {
				last = readAnswer(t, r, tc.method)
			}
			if !last.Close {
				t.Error("the last answer does not say close")
			}
			if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
				t.Errorf("after the answer: %q, %v; want an orderly end", b, err)
			}
			c.Close()
			if _, err := h.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			if s := h.Stats(); s.ClosedIdle+s.Forced > 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func readAnswer(t testing.TB, r *bufio.Reader, method string) *http.Response {
	t.Helper()
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode >= 200 {
			return resp
		}
	}
}

// A stream that is not HTTP is closed when it has been quiet, not before.
func TestOpaqueStreamIsClosedWhenQuiet(t *testing.T) {
	l := newLab(t)
	u := l.open()
	l.publish(u)
	services := l.services()
	services[0].App = Opaque
	if _, err := InstallVIPMap(t.Context(), "t1", services, l.spec.Log); err != nil {
		t.Fatal(err)
	}
	ln := listenIn(t, "old", "10.20.0.10:80")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	c, r := rawConn(t)
	echo := func(line string) {
		fmt.Fprint(c, line)
		if got, err := r.ReadString('\n'); err != nil || got != line {
			t.Fatalf("echo: %q, %v", got, err)
		}
	}
	echo("hello\n")
	h := startHold(t, HoldSpec{ID: "t1", Services: services, Queue: 78, Deadline: 20 * time.Second, Log: l.spec.Log, Quiet: 600 * time.Millisecond})
	for i := range 6 {
		echo(fmt.Sprint("still talking ", i, "\n"))
		time.Sleep(200 * time.Millisecond) // the client's own pace, below the quiet
	}
	if s := h.Stats(); s.ClosedIdle != 0 {
		t.Fatalf("closed while talking: %+v", s)
	}
	if _, err := h.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the drain: %q, %v", b, err)
	}
	// What comes late meets a closed server, and never the old side.
	fmt.Fprint(c, "late\n")
	eventually(t, "late data refused", func() bool {
		_, err := c.Write([]byte("x"))
		return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
	})
	if s := h.Stats(); s.ClosedIdle != 1 || s.Forced != 1 {
		t.Errorf("%+v", s)
	}
}

func TestDatagramsAreHeld(t *testing.T) {
	l := newLab(t)
	u := l.open()
	services := l.services()
	services[0].Proto, services[0].App = UDP, Opaque
	if err := u.Publish(t.Context(), []Publication{{TransitPort: 8080, To: netip.MustParseAddrPort("10.20.0.10:80"), Proto: UDP}}); err != nil {
		t.Fatal(err)
	}
	m, err := InstallVIPMap(t.Context(), "t1", services, l.spec.Log)
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"old", "new"} {
		in(t, ns, func() error {
			pc, err := net.ListenPacket("udp4", "10.20.0.10:80")
			if err != nil {
				return err
			}
			t.Cleanup(func() { pc.Close() })
			go func() {
				b := make([]byte, 64)
				for {
					_, from, err := pc.ReadFrom(b)
					if err != nil {
						return
					}
					_, _ = pc.WriteTo([]byte(ns), from)
				}
			}()
			return nil
		})
	}
	var c net.Conn
	in(t, "client", func() (err error) { c, err = net.Dial("udp4", "198.51.100.1:80"); return err })
	defer c.Close()
	query := func() {
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
	}
	read := func(want string) {
		t.Helper()
		b := make([]byte, 16)
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := c.Read(b); err != nil || string(b[:n]) != want {
			t.Fatalf("got %q, %v; want %q", b[:n], err, want)
		}
	}
	query()
	read("old")
	h := startHold(t, HoldSpec{ID: "t1", Services: services, Queue: 79, Deadline: 20 * time.Second, Log: l.spec.Log, Quiet: 50 * time.Millisecond})
	query()
	eventually(t, "held", func() bool { return h.Stats().HeldDatagrams == 1 })
	if _, err := h.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Flip(t.Context(), New); err != nil {
		t.Fatal(err)
	}
	if n, err := DropOldFlows(t.Context(), services, New); err != nil || n != 1 {
		t.Errorf("dropped %d, %v", n, err)
	}
	if err := h.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	read("new")
}

func TestQueueInUseIsRefused(t *testing.T) {
	w := newWorld(t)
	startHold(t, w.holdSpec(10*time.Second))
	spec := w.holdSpec(10 * time.Second)
	spec.ID = "t2"
	if _, err := StartHold(t.Context(), spec); !errors.Is(err, errQueueTaken) {
		t.Errorf("second hold on the queue: %v", err)
	}
}

const holderEnv = "IMAGO_NETSWITCH_HOLDER"

// TestHolderProcess is not a test: it is the process that TestKilledHolder kills.
func TestHolderProcess(t *testing.T) {
	if os.Getenv(holderEnv) == "" {
		t.Skip("runs as a child of TestKilledHolder")
	}
	l := &lab{t: t, spec: UniverseSpec{ID: "t1", Transit: netip.MustParsePrefix("100.127.255.0/30")}}
	_, err := StartHold(t.Context(), HoldSpec{ID: "t1", Services: l.services(), Queue: 77, Deadline: time.Minute, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, "HOLDING")
	select {}
}

// When the process that holds dies, its clients go on: the held ones by their next
// SYN, the new ones at once.
func TestKilledHolder(t *testing.T) {
	w := newWorld(t)
	keep := w.client(true)
	if _, err := w.request(keep, http.MethodGet, "/", "warm", 0); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("/proc/self/exe", "-test.run=^TestHolderProcess$", "-test.v")
	// In this process' namespaces, so that settleIn is not repeated by the child.
	holder.Env = append(os.Environ(), holderEnv+"=1")
	stderr, err := holder.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	waitLine(t, stderr, "HOLDING")
	held := w.start(w.client(false), http.MethodPost, "/", "held", 10)
	eventually(t, "SYN in the queue", func() bool { st, err := readQueue(77); return err == nil && st.waiting > 0 })
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	killed := time.Now()
	if side, err := w.request(w.client(false), http.MethodPost, "/", "new", 10); err != nil || side != "old" || time.Since(killed) > time.Second {
		t.Errorf("new client: %q, %v after %v", side, err, time.Since(killed))
	}
	if side, err := w.request(keep, http.MethodPost, "/", "kept", 10); err != nil || side != "old" {
		t.Errorf("open connection: %q, %v", side, err)
	}
	want(t, <-held, Old)
	w.verify(4)
	// The table that the dead process left does no harm, and goes with the rest.
	if s := sh(t, "", "nft list tables"); !strings.Contains(s, holdTable("t1")) {
		t.Errorf("the test lost its subject: %s", s)
	}
	if err := RemoveAll(t.Context(), w.spec); err != nil {
		t.Fatal(err)
	}
	if s := sh(t, "", "nft list tables"); strings.Contains(s, "imago") {
		t.Errorf("left: %s", s)
	}
}

func waitLine(t testing.TB, r io.Reader, want string) {
	t.Helper()
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		if strings.Contains(sc.Text(), want) {
			return
		}
	}
	t.Fatalf("%q never came", want)
}
