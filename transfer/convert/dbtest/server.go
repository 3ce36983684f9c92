// Package dbtest runs private MariaDB servers for tests. A server lives in a
// directory of its own, listens on nothing but a socket there, and ends with its test,
// or with the test's process.
package dbtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// Server is a running server; its user is root without a password.
type Server struct {
	Socket string
	// Client is the program that reads SQL scripts.
	client string
}

// Start runs a server with more options until the test ends. Without the server's
// programs the test is skipped, or fails where CI says that it must not be.
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	// A socket's path may have only 108 bytes.
	dir, err := os.MkdirTemp("", "imago-db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	server := program(t, "mariadbd", "/usr/sbin/mariadbd")
	install := program(t, "mariadb-install-db", "/usr/bin/mariadb-install-db")
	s := &Server{Socket: filepath.Join(dir, "s"), client: program(t, "mariadb", "/usr/bin/mariadb")}
	data, tmp := filepath.Join(dir, "data"), filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(install, "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root", "--datadir="+data).CombinedOutput()
	if err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	args := append([]string{
		"--no-defaults",
		// A server that starts clears the directory of all servers that share it.
		"--tmpdir=" + tmp,
		"--user=root", "--datadir=" + data, "--socket=" + s.Socket, "--skip-networking", "--pid-file=" + filepath.Join(dir, "pid"),
		"--innodb-flush-log-at-trx-commit=0", "--sync-binlog=0", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M", "--skip-name-resolve",
	}, options...)
	s.run(t, exec.Command(server, args...), filepath.Join(dir, "log"))
	return s
}

func program(t testing.TB, name, path string) string {
	t.Helper()
	if found, err := exec.LookPath(name); err == nil {
		return found
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// run starts the server in a thread that lasts as long as it does: the kernel ends
// a child when the thread that made it ends.
func (s *Server) run(t testing.TB, cmd *exec.Cmd, log string) {
	t.Helper()
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = f.Close()
	})
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("unix", s.Socket)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ended:
			said, _ := os.ReadFile(log)
			t.Fatalf("mariadbd ended: %s", said)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("mariadbd does not answer: %v", err)
		}
	}
}

// Connect opens a connection that has begun as the transfer's do, and reads what
// is committed, without locks.
func (s *Server) Connect(t testing.TB) *client.Conn {
	t.Helper()
	c := s.Plain(t)
	if err := rows.Begin(c); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, c, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
	return c
}

// Plain opens a connection as an application does, in utf8mb4.
func (s *Server) Plain(t testing.TB) *client.Conn {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.Socket)
	}
	c, err := client.ConnectWithDialer(context.Background(), "unix", s.Socket, "root", "", "", dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s.Exec(t, c, "SET NAMES utf8mb4")
	return c
}

// Exec runs statements one by one.
func (s *Server) Exec(t testing.TB, c *client.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := c.Execute(sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// Script runs a file of SQL in a database, by the server's own client.
func (s *Server) Script(t testing.TB, database, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(s.client, "--no-defaults", "--socket="+s.Socket, "--user=root", "--default-character-set=utf8mb4", "--batch", "--comments", database)
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", file, err, out)
	}
}

// Rows runs a query and gives its rows as lines, with NULL written out.
func (s *Server) Rows(t testing.TB, c *client.Conn, sql string) []string {
	t.Helper()
	var lines []string
	err := rows.Query(c, sql, func(values [][]byte) error {
		cells := make([]string, len(values))
		for i, v := range values {
			cells[i] = string(v)
			if v == nil {
				cells[i] = "NULL"
			}
		}
		lines = append(lines, strings.Join(cells, "|"))
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return lines
}

// Copy makes a database of exact, filled copies of another's tables, as the
// transfer keeps them on the target.
func (s *Server) Copy(t testing.TB, c *client.Conn, from, to string) {
	t.Helper()
	s.Exec(t, c, "CREATE DATABASE "+rows.QuoteName(to))
	for _, table := range s.Rows(t, c, fmt.Sprintf("SELECT table_name FROM information_schema.tables WHERE table_schema='%s' AND table_type='BASE TABLE' ORDER BY 1", from)) {
		a, b := rows.Name{Database: from, Table: table}.SQL(), rows.Name{Database: to, Table: table}.SQL()
		s.Exec(t, c, "CREATE TABLE "+b+" LIKE "+a)
		generated := s.Rows(t, c, fmt.Sprintf("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema='%s' AND table_name='%s' AND generation_expression<>''", from, table))
		if generated[0] == "0" {
			s.Exec(t, c, "INSERT INTO "+b+" SELECT * FROM "+a)
		}
	}
}

// Dump writes the tables of a database, as they are now, to a file that Script reads.
func (s *Server) Dump(t testing.TB, database, file string) {
	t.Helper()
	cmd := exec.Command(program(t, "mariadb-dump", "/usr/bin/mariadb-dump"), "--no-defaults", "--socket="+s.Socket, "--user=root",
		"--single-transaction", "--default-character-set=binary", "--hex-blob", "--skip-triggers", "--skip-tz-utc", "--result-file="+file, database)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-dump: %v\n%s", err, out)
	}
}
