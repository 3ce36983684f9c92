package guestagent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestPipe(t *testing.T) {
	s := newSessionForTest(t)
	open := func(t *testing.T, script string) *Pipe {
		p, err := s.Pipe(t.Context(), Step{Name: "talk", Script: script})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
	t.Run("bytes both ways", func(t *testing.T) {
		p := open(t, "exec cat")
		want := make([]byte, 3<<20)
		_, _ = rand.Read(want)
		go func() { _, _ = p.Write(want) }()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(p, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("not what was written, %v", err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write([]byte("x")); err == nil {
			t.Fatal("written after its end")
		}
	})
	t.Run("an end with an error", func(t *testing.T) {
		p := open(t, "echo half; echo 'out of luck' >&2; exit 3")
		got, err := io.ReadAll(p)
		var failed *StepError
		if !errors.As(err, &failed) || failed.Exit != 3 || string(got) != "half\n" || !strings.Contains(err.Error(), "out of luck") {
			t.Fatalf("%q, %v", got, err)
		}
	})
	t.Run("its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p, err := s.Pipe(ctx, Step{Name: "talk", Script: "exec cat"})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := io.ReadAll(p); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		<-p.Done()
	})
}
