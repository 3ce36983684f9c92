package guestagent

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestDialUnix(t *testing.T) {
	s := newSessionForTest(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	c, err := s.DialUnix(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
	// Nobody says anything more: only the deadline ends this.
	if err := c.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(got); err == nil {
		t.Fatal("read what nobody wrote")
	}
	if _, err := s.DialUnix(t.Context(), "unix", path+"-none"); err == nil {
		t.Fatal("connected to nothing")
	}
	if _, err := s.DialUnix(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
		t.Fatal("connected over tcp")
	}
}
