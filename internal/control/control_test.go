package control

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCalls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	if err := Ask(t.Context(), path, "echo", nil, nil); !errors.Is(err, ErrNobody) {
		t.Fatalf("nobody there: %v", err)
	}
	s, err := Serve(path, map[string]Call{
		"echo": func(_ context.Context, body json.RawMessage) (any, error) { return body, nil },
		"no":   func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("not today") },
	})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("others may open it: %v, %v", st.Mode(), err)
	}
	var got map[string]int
	if err := Ask(t.Context(), path, "echo", map[string]int{"a": 7}, &got); err != nil || got["a"] != 7 {
		t.Errorf("got %v, %v", got, err)
	}
	if err := Ask(t.Context(), path, "no", nil, nil); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Errorf("a refusal came as %v", err)
	}
	if err := Ask(t.Context(), path, "unknown", nil, nil); err == nil {
		t.Error("an unknown call passed")
	}
	if _, err := Serve(path, nil); err == nil {
		t.Error("two listen at one socket")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("the socket stays")
	}
}

func TestSocketOfTheDeadIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Serve(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
