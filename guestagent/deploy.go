package guestagent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// agentPlaces lists where the agent may lie, best first: /run is gone after a
// reboot, but some guests mount it noexec, and only root may write there.
func agentPlaces(user string) []string {
	return []string{"/run/imago", "/var/tmp/imago-" + user}
}

// plainUser is what may be part of a path that a shell sees.
var plainUser = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

func (s *Session) agentPath() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent
}

// Deploy puts the agent's binary into the guest, under a name made of its
// SHA-256, unless the same one is there already, and makes sure it runs. It
// may be called again at any time.
func (s *Session) Deploy(ctx context.Context, binary []byte) error {
	err := s.deploy(ctx, binary)
	if err != nil {
		return fmt.Errorf("deploy the agent in guest %q: %w", s.target.Name, err)
	}
	return nil
}

func (s *Session) deploy(ctx context.Context, binary []byte) error {
	if !plainUser.MatchString(s.target.User) {
		return fmt.Errorf("user name %q is not supported", s.target.User)
	}
	release, err := reserve(ctx, 2, s)
	if err != nil {
		return err
	}
	defer release()
	files, err := s.openFiles(ctx)
	if err != nil {
		return err
	}
	defer files.close()
	sum := sha256.Sum256(binary)
	name := "agent-" + hex.EncodeToString(sum[:6])
	var tried []error
	for _, dir := range agentPlaces(s.target.User) {
		at := path.Join(dir, name)
		err := s.deployAt(ctx, files, at, binary)
		if err == nil {
			s.mu.Lock()
			s.agent = at
			s.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil || s.Err() != nil {
			return err
		}
		tried = append(tried, fmt.Errorf("in %s: %w", dir, err))
	}
	return errors.Join(tried...)
}

func (s *Session) deployAt(ctx context.Context, files *remoteFiles, at string, binary []byte) error {
	err := files.await(ctx, func() error {
		if err := privateDir(files.Client, path.Dir(at)); err != nil {
			return err
		}
		if sameFile(files.Client, at, binary) {
			return nil
		}
		return putBinary(files.Client, at, binary)
	})
	if err != nil {
		return err
	}
	if err := s.tryAgent(ctx, at); err != nil {
		return errors.Join(err, s.undeploy(ctx, files, at))
	}
	return nil
}

// undeploy removes an agent and, when that is empty then, its directory.
func (s *Session) undeploy(ctx context.Context, files *remoteFiles, at string) error {
	return files.await(ctx, func() error {
		if err := files.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// Not empty: another imago's agent lives there.
		_ = files.RemoveDirectory(path.Dir(at))
		return nil
	})
}

// privateDir makes dir, or checks that nobody else can change what is in it.
func privateDir(c *sftp.Client, dir string) error {
	mkErr := c.Mkdir(dir)
	if mkErr == nil {
		return c.Chmod(dir, 0o700)
	}
	info, err := c.Lstat(dir)
	if err != nil {
		return fmt.Errorf("make the directory: %w", mkErr)
	}
	if !info.IsDir() {
		return fmt.Errorf("it is not a directory")
	}
	// Only its owner can set the mode, so success proves that it is ours.
	if err := c.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("it belongs to somebody else: %w", err)
	}
	return ownedBy(c, dir, info)
}

// ownedBy refuses a directory prepared by another user, which root could
// change the mode of all the same. SFTP does not say who we are, but the owner
// of a file we make does.
func ownedBy(c *sftp.Client, dir string, info fs.FileInfo) error {
	probe := path.Join(dir, ".owner")
	if err := c.Remove(probe); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at its owner: %w", err)
	}
	f, err := c.OpenFile(probe, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return fmt.Errorf("look at its owner: %w", err)
	}
	mine, err := f.Stat()
	if err := errors.Join(err, f.Close(), c.Remove(probe)); err != nil {
		return fmt.Errorf("look at its owner: %w", err)
	}
	a, okA := info.Sys().(*sftp.FileStat)
	b, okB := mine.Sys().(*sftp.FileStat)
	if !okA || !okB || a.UID != b.UID {
		return fmt.Errorf("it belongs to another user")
	}
	return nil
}

// sameFile reads the whole file back: a name proves nothing.
func sameFile(c *sftp.Client, at string, binary []byte) bool {
	info, err := c.Lstat(at)
	if err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(binary)) || info.Mode().Perm() != 0o700 {
		return false
	}
	f, err := c.Open(at)
	if err != nil {
		return false
	}
	defer f.Close()
	h := sha256.New()
	if _, err := f.WriteTo(h); err != nil {
		return false
	}
	sum := sha256.Sum256(binary)
	return bytes.Equal(h.Sum(nil), sum[:])
}

func putBinary(c *sftp.Client, at string, binary []byte) error {
	// Its own name each time: two sessions may deploy at once.
	temp := at + "." + rand.Text()
	f, err := c.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	_, err = f.ReadFromWithConcurrency(bytes.NewReader(binary), inFlight)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = c.Chmod(temp, 0o700)
	}
	if err == nil && !sameFile(c, temp, binary) {
		err = fmt.Errorf("the uploaded file is not what was sent")
	}
	if err == nil {
		err = c.PosixRename(temp, at)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("upload: %w", err), c.Remove(temp))
	}
	return nil
}

// tryAgent starts the agent once: the file system may forbid it.
func (s *Session) tryAgent(ctx context.Context, at string) error {
	said := new(headBuffer)
	ch, err := s.open(ctx, func(ch *ssh.Session) error {
		ch.Stdout, ch.Stderr = io.Discard, said
		return ch.Start(at + " version")
	})
	if err != nil {
		return err
	}
	abandon := func() { ch.Close() }
	defer s.spawn(abandon)
	err = s.await(ctx, abandon, ch.Wait)
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("start it: exit status %d: %s", exit.ExitStatus(), said)
	}
	return err
}

// RemoveAgent removes the agent from the guest, and its directory when that is
// empty then. Calls in progress are not disturbed.
func (s *Session) RemoveAgent(ctx context.Context) error {
	at := s.agentPath()
	if at == "" {
		return nil
	}
	release, err := reserve(ctx, 1, s)
	if err != nil {
		return err
	}
	defer release()
	files, err := s.openFiles(ctx)
	if err != nil {
		return fmt.Errorf("remove the agent from guest %q: %w", s.target.Name, err)
	}
	defer files.close()
	if err := s.undeploy(ctx, files, at); err != nil {
		return fmt.Errorf("remove the agent from guest %q: %w", s.target.Name, err)
	}
	s.mu.Lock()
	s.agent = ""
	s.mu.Unlock()
	return nil
}
