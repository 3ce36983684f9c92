package guestagent

import (
	"context"
	"fmt"
	"io"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// inFlight is how many requests of 32 KiB are on their way at once; together
// they fill an SSH channel's window.
const inFlight = 64

// remoteFiles is an SFTP channel of its own, so that ending a call ends what it
// still has in flight. The caller holds a reserved channel.
type remoteFiles struct {
	s  *Session
	ch *ssh.Session
	*sftp.Client
}

func (s *Session) openFiles(ctx context.Context) (*remoteFiles, error) {
	var client *sftp.Client
	ch, err := s.open(ctx, func(ch *ssh.Session) error {
		in, err := ch.StdinPipe()
		if err != nil {
			return err
		}
		out, err := ch.StdoutPipe()
		if err != nil {
			return err
		}
		// sshd may grant the subsystem and only then find no program for it.
		err = ch.RequestSubsystem("sftp")
		if err == nil {
			client, err = sftp.NewClientPipe(out, in,
				sftp.MaxConcurrentRequestsPerFile(inFlight), sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true))
		}
		if err != nil {
			return fmt.Errorf("guest %q offers no SFTP (is `Subsystem sftp` in its sshd_config, and sftp-server installed?): %w", s.target.Name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &remoteFiles{s: s, ch: ch, Client: client}, nil
}

// close ends the channel without waiting for the guest.
func (f *remoteFiles) close() {
	f.s.spawn(f.abandon)
}

func (f *remoteFiles) abandon() { f.ch.Close() }

// await runs one SFTP operation; ctx ends it together with the channel.
func (f *remoteFiles) await(ctx context.Context, op func() error) error {
	return f.s.await(ctx, f.abandon, op)
}

// gate passes bytes on until ctx ends, counts them, and holds them back as long
// as throttle says.
type gate struct {
	ctx      context.Context
	r        io.Reader
	w        io.Writer
	throttle func(ctx context.Context, n int) error
	count    func(n int)
}

func (g *gate) Read(p []byte) (int, error) {
	if err := g.ctx.Err(); err != nil {
		return 0, context.Cause(g.ctx)
	}
	n, err := g.r.Read(p)
	if n > 0 {
		if terr := g.passed(n); terr != nil {
			return n, terr
		}
	}
	return n, err
}

func (g *gate) Write(p []byte) (int, error) {
	if err := g.ctx.Err(); err != nil {
		return 0, context.Cause(g.ctx)
	}
	n, err := g.w.Write(p)
	if err != nil || n == 0 {
		return n, err
	}
	return n, g.passed(n)
}

func (g *gate) passed(n int) error {
	if g.count != nil {
		g.count(n)
	}
	if g.throttle == nil {
		return nil
	}
	return g.throttle(g.ctx, n)
}
