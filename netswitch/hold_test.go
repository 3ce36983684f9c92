package netswitch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A world has both versions of an HTTP service, clients, and a book of what was
// served by whom.
type world struct {
	*lab
	u       *Universe
	m       *VIPMap
	serving atomic.Value // the side whose handlers may begin

	mu       sync.Mutex
	served   map[string][]string // request id -> side, client address
	wrong    []string
	failed   []string
	requests int
	longest  time.Duration
}

func newWorld(t testing.TB) *world {
	l := newLab(t)
	w := &world{lab: l, u: l.open(), served: map[string][]string{}}
	l.publish(w.u)
	w.m = l.install()
	w.serving.Store(Old)
	for _, side := range []Side{Old, New} {
		srv := &http.Server{Handler: w.handler(side)}
		ln := listenIn(t, side.String(), "10.20.0.10:80")
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
	}
	return w
}

func (w *world) complain(list *[]string, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(*list) < 20 {
		*list = append(*list, fmt.Sprintf(format, args...))
	}
}

// handler answers with its side and the request's id. The path says how: at once,
// late, in chunks, large.
func (w *world) handler(side Side) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if now := w.serving.Load(); now != side {
			w.complain(&w.wrong, "%s serves %s while %s is in force", side, r.URL, now)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.complain(&w.wrong, "%s reads %s: %v", side, r.URL, err)
			return
		}
		id := r.URL.Query().Get("id")
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		w.mu.Lock()
		w.served[id] = append(w.served[id], side.String()+" "+host)
		w.mu.Unlock()
		answer := fmt.Sprintf("%s %s %d ", side, id, len(body))
		switch r.URL.Path {
		case "/slow":
			d, _ := time.ParseDuration(r.URL.Query().Get("for"))
			time.Sleep(d)
			io.WriteString(rw, answer)
		case "/chunked":
			for _, part := range strings.SplitAfter(answer, " ") {
				io.WriteString(rw, part)
				rw.(http.Flusher).Flush()
			}
		case "/large":
			io.WriteString(rw, answer)
			rw.Write(bytes.Repeat([]byte("x"), 200_000))
		default:
			io.WriteString(rw, answer)
		}
	}
}

// client is one HTTP client in the clients' namespace that never repeats a request.
func (w *world) client(keepAlive bool) *http.Client {
	tr := &http.Transport{DialContext: dialFrom("client"), DisableKeepAlives: !keepAlive, MaxIdleConnsPerHost: 1}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 60 * time.Second}
}

// request sends one request and returns the side that answered.
func (w *world) request(c *http.Client, method, path, id string, size int) (string, error) {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	var body io.Reader
	if method == http.MethodPost {
		// A plain reader: the transport cannot rewind it, so it cannot repeat the request.
		body = io.LimitReader(neverEnding('p'), int64(size))
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://198.51.100.1"+path+sep+"id="+id, body)
	if err != nil {
		return "", err
	}
	if body != nil {
		req.ContentLength = int64(size)
	}
	begun := time.Now()
	var local net.Addr
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { local = i.Conn.LocalAddr() },
	}))
	resp, err := c.Do(req)
	if err != nil {
		return "", fmt.Errorf("%w (from %v, after %v)", err, local, time.Since(begun))
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	w.mu.Lock()
	w.requests++
	w.longest = max(w.longest, time.Since(begun))
	w.mu.Unlock()
	side, rest, _ := strings.Cut(string(b), " ")
	if want := fmt.Sprintf("%s %d ", id, size); !strings.HasPrefix(rest, want) {
		return side, fmt.Errorf("answer %.60q, want %q", b, want)
	}
	return side, nil
}

type neverEnding byte

func (n neverEnding) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(n)
	}
	return len(b), nil
}

// load keeps n clients busy until stop is closed.
func (w *world) load(stop <-chan struct{}, wg *sync.WaitGroup, n int, keepAlive bool) {
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := w.client(keepAlive)
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("%t-%d-%d", keepAlive, i, k)
				method, path, size := http.MethodGet, "/", 0
				switch k % 7 {
				case 1, 3:
					method, size = http.MethodPost, 100
				case 2:
					path = "/chunked"
				case 4:
					path = "/slow?for=3ms"
				case 5:
					method, size = http.MethodPost, 70_000
				case 6:
					path = "/large"
				}
				if _, err := w.request(c, method, path, id, size); err != nil {
					w.complain(&w.failed, "%s %s %s: %v", method, path, id, err)
				}
			}
		}()
	}
}

func (w *world) holdSpec(deadline time.Duration) HoldSpec {
	return HoldSpec{ID: w.spec.ID, Services: w.services(), Queue: 77, Deadline: deadline, Log: w.spec.Log}
}

// change moves the clients over with a hold and returns what it did.
func (w *world) change(to Side, pause time.Duration) (DrainReport, HoldStats, error) {
	ctx := context.Background()
	h, err := StartHold(ctx, w.holdSpec(30*time.Second))
	if err != nil {
		return DrainReport{}, HoldStats{}, err
	}
	report, err := h.Drain(ctx)
	if err != nil {
		return report, h.Stats(), errors.Join(err, h.Release(ctx))
	}
	w.serving.Store(Absent) // nobody may serve now
	time.Sleep(pause)
	w.serving.Store(to)
	if err := w.m.Flip(ctx, to); err != nil {
		return report, h.Stats(), errors.Join(err, h.Release(ctx))
	}
	if _, err := DropOldFlows(ctx, w.services(), to); err != nil {
		return report, h.Stats(), errors.Join(err, h.Release(ctx))
	}
	return report, h.Stats(), h.Release(ctx)
}

func (w *world) verify(min int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.failed {
		w.t.Errorf("failed: %s", s)
	}
	for _, s := range w.wrong {
		w.t.Errorf("wrong: %s", s)
	}
	for id, by := range w.served {
		if len(by) != 1 || !strings.HasSuffix(by[0], " 198.51.100.7") {
			w.t.Errorf("%s was served by %v", id, by)
		}
	}
	if w.requests < min {
		w.t.Errorf("only %d requests: this proves little", w.requests)
	}
	w.t.Logf("%d requests, longest %v", w.requests, w.longest)
}

func TestFlipsUnderLoad(t *testing.T) {
	flips := 24
	if testing.Short() {
		flips = 4
	}
	w := newWorld(t)
	stop, wg := make(chan struct{}), &sync.WaitGroup{}
	w.load(stop, wg, 8, true)
	w.load(stop, wg, 8, false)
	to := New
	for i := range flips {
		time.Sleep(150 * time.Millisecond) // some traffic in between
		begun := time.Now()
		report, stats, err := w.change(to, 0)
		if err != nil {
			t.Errorf("flip %d to %s: %v", i, to, err)
			break
		}
		t.Logf("flip %d to %s took %v: %+v %+v", i, to, time.Since(begun), report, stats)
		if to == New {
			to = Old
		} else {
			to = New
		}
	}
	close(stop)
	wg.Wait()
	w.verify(flips * 20)
}
