package guestagent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const big = 50 << 20

func randomFile(t *testing.T, file string, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	rand.Read(b)
	if err := os.WriteFile(file, b, 0o640); err != nil {
		t.Fatal(err)
	}
	return b
}

func wantFile(t *testing.T, file string, want []byte, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes, want %d; %v", file, len(got), len(want), err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != mode {
		t.Fatalf("%s has mode %v, want %v; %v", file, info.Mode(), mode, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
}

// mover carries a file in one of the three ways.
type mover func(ctx context.Context, s *Session, from, to string, opts FileOptions, progress func(Progress)) error

var movers = map[string]mover{
	"upload": func(ctx context.Context, s *Session, from, to string, opts FileOptions, progress func(Progress)) error {
		return s.Upload(ctx, from, to, opts, progress)
	},
	"download": func(ctx context.Context, s *Session, from, to string, opts FileOptions, progress func(Progress)) error {
		return s.Download(ctx, from, to, opts, progress)
	},
	"copy": func(ctx context.Context, s *Session, from, to string, opts FileOptions, progress func(Progress)) error {
		return CopyBetween(ctx, s, from, s, to, opts, progress)
	},
}

func TestFilesBothWays(t *testing.T) {
	s := newSessionForTest(t)
	for name, move := range movers {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{0, 1, resumeBlock, 3*resumeBlock + 17} {
				dir := t.TempDir()
				from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to", "x y'\"$")
				want := randomFile(t, from, size)
				when := time.Unix(1700000000, 123456789)
				if err := errors.Join(os.Chown(from, 33, 34), os.Chtimes(from, when, when)); err != nil {
					t.Fatal(err)
				}
				var last Progress
				opts := FileOptions{KeepMode: true, KeepOwner: true, KeepTime: true, MakeParents: true}
				if err := move(context.Background(), s, from, to, opts, func(p Progress) { last = p }); err != nil {
					t.Fatal(err)
				}
				wantFile(t, to, want, 0o640)
				info, _ := os.Stat(to)
				if st := info.Sys().(*syscall.Stat_t); st.Uid != 33 || st.Gid != 34 || !info.ModTime().Equal(when) {
					t.Fatalf("owner %d:%d, time %s", st.Uid, st.Gid, info.ModTime())
				}
				if last != (Progress{Done: int64(size), Total: int64(size)}) {
					t.Fatalf("last progress %+v for %d bytes", last, size)
				}
			}
		})
		t.Run(name+" replaces, with private mode by default", func(t *testing.T) {
			dir := t.TempDir()
			from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
			randomFile(t, to, 100)
			want := randomFile(t, from, 200)
			if err := move(context.Background(), s, from, to, FileOptions{}, nil); err != nil {
				t.Fatal(err)
			}
			wantFile(t, to, want, 0o600)
		})
		t.Run(name+" refuses", func(t *testing.T) {
			dir := t.TempDir()
			from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
			if err := move(context.Background(), s, from, to, FileOptions{}, nil); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a missing source: %v", err)
			}
			randomFile(t, from, 200)
			if err := move(context.Background(), s, from, to, FileOptions{MaxBytes: 199}, nil); !errors.Is(err, ErrTooLarge) {
				t.Errorf("a large source: %v", err)
			}
			if err := move(context.Background(), s, from, filepath.Join(to, "missing", "x"), FileOptions{}, nil); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a missing directory: %v", err)
			}
			if err := move(context.Background(), s, dir, to, FileOptions{}, nil); err == nil {
				t.Error("a directory was carried as a file")
			}
		})
		t.Run(name+" notices that the source changed", func(t *testing.T) {
			dir := t.TempDir()
			from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
			randomFile(t, from, 8<<20)
			var grown atomic.Bool
			opts := FileOptions{Throttle: func(context.Context, int) error {
				if grown.CompareAndSwap(false, true) {
					f, err := os.OpenFile(from, os.O_WRONLY, 0)
					if err != nil {
						return err
					}
					defer f.Close()
					_, err = f.WriteAt(make([]byte, 8<<20), 0)
					return err
				}
				return nil
			}}
			err := move(context.Background(), s, from, to, opts, nil)
			// Both sums may see the new content alike; a wrong target never stands.
			if got, _ := os.ReadFile(to); err == nil && !bytes.Equal(got, make([]byte, 8<<20)) {
				t.Fatal("a mixture of two contents was accepted")
			} else if err != nil && !errors.Is(err, ErrChanged) {
				t.Fatal(err)
			}
		})
	}
}

func TestInterruptedTransferIsResumed(t *testing.T) {
	for name, move := range movers {
		t.Run(name, func(t *testing.T) {
			g := startGuest(t, newEd25519(t))
			s := g.connect(g.target())
			dir := t.TempDir()
			from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
			want := randomFile(t, from, big)
			pid := sessionProcess(t, s)
			var done atomic.Int64
			// The sshd dies in the middle.
			opts := FileOptions{Throttle: func(_ context.Context, n int) error {
				if done.Add(int64(n)) > big/2 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
				return nil
			}}
			if err := move(context.Background(), s, from, to, opts, nil); !errors.Is(err, ErrConnectionLost) {
				t.Fatalf("got %v", err)
			}
			if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal("an unfinished file has the final name")
			}
			part := filepath.Join(dir, ".to.imago-part")
			spoil(t, part)
			var first, last Progress
			s = g.connect(g.target())
			if err := move(context.Background(), s, from, to, FileOptions{}, func(p Progress) {
				if first.Total == 0 {
					first = p
				}
				last = p
			}); err != nil {
				t.Fatal(err)
			}
			wantFile(t, to, want, 0o600)
			// 20 MiB were whole before the byte that was spoiled.
			if first.Resumed != 20<<20 || last.Done != big {
				t.Fatalf("resumed at %d, ended at %+v", first.Resumed, last)
			}
			first = Progress{}
			if name == "download" {
				return
			}
			if err := move(context.Background(), s, from, to, FileOptions{}, func(p Progress) { first = p }); err != nil || first.Resumed != big {
				t.Fatalf("a second time: %+v, %v", first, err)
			}
		})
	}
}

// spoil changes one byte just after 20 MiB, as a hole would.
func spoil(t *testing.T, part string) {
	t.Helper()
	info, err := os.Stat(part)
	if err != nil || info.Size() < 21<<20 {
		t.Fatalf("nothing to resume from: %v, %v", info, err)
	}
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, 20<<20+5); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, 20<<20+5); err != nil {
		t.Fatal(err)
	}
}

func TestTransferEndsWithItsContext(t *testing.T) {
	s := newSessionForTest(t)
	for name, move := range movers {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
			randomFile(t, from, 8<<20)
			ctx, cancel := context.WithCancelCause(context.Background())
			stop := errors.New("stop")
			opts := FileOptions{Throttle: func(ctx context.Context, _ int) error {
				cancel(stop)
				<-ctx.Done()
				return context.Cause(ctx)
			}}
			begin := time.Now()
			if err := move(ctx, s, from, to, opts, nil); !errors.Is(err, stop) || time.Since(begin) > 5*time.Second {
				t.Fatalf("got %v after %s", err, time.Since(begin))
			}
		})
	}
	if _, err := s.Run(context.Background(), Step{Name: "after", Script: "true"}, nil); err != nil {
		t.Fatalf("the session is unusable: %v", err)
	}
}

func TestStagedFileIsNeverWrittenThroughALink(t *testing.T) {
	s := newSessionForTest(t)
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	want := randomFile(t, victim, 10)
	sub := filepath.Join(dir, "sub")
	if err := errors.Join(os.Mkdir(sub, 0o755), os.Symlink(victim, filepath.Join(sub, ".to.imago-part"))); err != nil {
		t.Fatal(err)
	}
	content := randomFile(t, filepath.Join(dir, "from"), 1000)
	if err := s.Upload(context.Background(), filepath.Join(dir, "from"), filepath.Join(sub, "to"), FileOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	wantFile(t, victim, want, 0o640)
	wantFile(t, filepath.Join(sub, "to"), content, 0o600)
}
