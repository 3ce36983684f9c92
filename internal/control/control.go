package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// ErrNobody says that no imago listens at the socket.
var ErrNobody = errors.New("no imago is at work")

// maxBody bounds what either end reads, in bytes.
const maxBody = 1 << 20

// Call is what the other end asks for; it returns what to answer, as JSON.
type Call func(ctx context.Context, body json.RawMessage) (any, error)

// Server answers calls until Close.
type Server struct {
	path string
	http *http.Server
	wg   sync.WaitGroup
	err  error
}

// Serve listens at a path, which has at most 107 bytes, for calls by name. A
// socket that a dead process left there is replaced.
func Serve(path string, calls map[string]Call) (*Server, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen at %s: another imago does", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen at %s: %w", path, err), l.Close())
	}
	mux := http.NewServeMux()
	for name, call := range calls {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) { answer(w, r, call) })
	}
	s := &Server{path: path, http: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
	s.wg.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.err = err
		}
	})
	return s, nil
}

func answer(w http.ResponseWriter, r *http.Request, call Call) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	got, err := call(r.Context(), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(got) // the other end sees a cut answer itself
}

// Close stops listening, waits for calls in progress and removes the socket.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	s.wg.Wait()
	if rm := os.Remove(s.path); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return errors.Join(err, s.err)
}

// Ask calls the imago that listens at a path. in and out may be nil. ErrNobody is
// returned when none does.
func Ask(ctx context.Context, path, call string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://imago/"+call, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNobody
	}
	if err != nil {
		return fmt.Errorf("ask the imago at work: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return fmt.Errorf("ask the imago at work: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the imago at work refused: %s", bytes.TrimSpace(text))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the imago at work answered nonsense: %w", err)
	}
	return nil
}
