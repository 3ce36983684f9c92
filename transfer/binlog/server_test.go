package binlog

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// A server is a mariadbd of a test's own, killed at its end.
type server struct {
	dir, socket string
	port        int
	args        []string
	cmd         *exec.Cmd
}

// unavailable skips a test that lacks its environment, but not where all of it must run.
func unavailable(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// logged are the settings of a production whose changes can be followed.
var logged = []string{"--log-bin=bin", "--binlog-format=ROW", "--server-id=1", "--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1"}

// startServer makes a new server in dir, or in a folder of its own.
func startServer(t testing.TB, dir string, args ...string) *server {
	t.Helper()
	for _, tool := range []string{"mariadbd", "mariadb-install-db"} {
		if _, err := exec.LookPath(tool); err != nil {
			unavailable(t, "%s is not here: %v", tool, err)
		}
	}
	if dir == "" {
		var err error
		// Not t.TempDir: the path of a socket must be short.
		if dir, err = os.MkdirTemp("", "imago-db"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	if err := os.MkdirAll(dir+"/tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal",
		"--datadir="+dir+"/data", "--user=root", "--skip-test-db")
	install.Env = append(os.Environ(), "TMPDIR="+dir+"/tmp")
	out, err := install.CombinedOutput()
	if err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	s := &server{dir: dir, socket: dir + "/s", port: freePort(t), args: args}
	s.start(t)
	return s
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs the server on its files.
func (s *server) start(t testing.TB) {
	t.Helper()
	logFile, err := os.OpenFile(s.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = logFile.Close() }()
	args := append([]string{"--no-defaults", "--datadir=" + s.dir + "/data", "--socket=" + s.socket, "--port=" + strconv.Itoa(s.port),
		"--bind-address=127.0.0.1", "--pid-file=" + s.dir + "/pid", "--user=root", "--innodb-buffer-pool-size=32M",
		// A server that starts removes the temporary tables that it finds there,
		// those of another server that runs as well.
		"--tmpdir=" + s.dir + "/tmp",
		"--innodb-log-file-size=32M", "--skip-name-resolve=0"}, s.args...)
	s.cmd = exec.Command("mariadbd", args...)
	s.cmd.Stdout, s.cmd.Stderr = logFile, logFile
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := s.cmd
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	for deadline := time.Now().Add(30 * time.Second); ; {
		conn, err := client.Connect(s.socket, "root", "", "")
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("mariadbd ended: %v\n%s", err, s.log(t))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("mariadbd does not answer: %v\n%s", err, s.log(t))
		}
	}
}

// kill ends the server as a crash would.
func (s *server) kill(t testing.TB) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.gone(t)
}

// gone waits for the server's end.
func (s *server) gone(t testing.TB) {
	t.Helper()
	for range 1500 { // the waiter has it
		if err := s.cmd.Process.Signal(syscall.Signal(0)); errors.Is(err, os.ErrProcessDone) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("mariadbd does not end")
}

func (s *server) log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// connect makes a connection as root, with the session of package rows.
func (s *server) connect(t testing.TB) *client.Conn {
	t.Helper()
	conn, err := client.Connect(s.socket, "root", "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := rows.Begin(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// config is how a test follows the database "shop".
func (s *server) config() Config {
	return Config{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), User: "root", Database: "shop"}
}

// run executes statements.
func run(t testing.TB, conn *client.Conn, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if _, err := conn.Execute(q); err != nil {
			t.Fatalf("%.200s: %v", q, err)
		}
	}
}

// ask is the one value of a query.
func ask(t testing.TB, conn *client.Conn, query string) string {
	t.Helper()
	v, err := selectOne(conn, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// follow reads the stream from a position until the one of the server's now, and
// returns the transactions with changes.
func follow(t testing.TB, s *server, cfg Config, from rows.Position, schema *rows.Schema) ([]*rows.Txn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	src, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	until, err := src.Position(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if reached, err := Reached(from, until); err != nil || reached {
		return nil, err
	}
	var list []*rows.Txn
	done := errors.New("done")
	err = src.Stream(ctx, from, schema, func(txn *rows.Txn) error {
		if len(txn.Changes) > 0 {
			list = append(list, txn)
		}
		reached, err := Reached(txn.Position, until)
		if err != nil {
			return err
		}
		if reached {
			return done
		}
		return nil
	})
	if errors.Is(err, done) {
		err = nil
	}
	return list, err
}

// position is where the server's log stands.
func position(t testing.TB, conn *client.Conn) rows.Position {
	t.Helper()
	p, err := loggedPosition(conn, "mariadb")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readSchema(t testing.TB, conn *client.Conn, database string) *rows.Schema {
	t.Helper()
	schema, err := rows.ReadSchema(t.Context(), conn, database)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// show is a transaction in short, such as "insert t 1,a".
func show(txn *rows.Txn) string {
	var lines []string
	for _, ch := range txn.Changes {
		op := map[rows.Op]string{rows.Insert: "insert", rows.Update: "update", rows.Delete: "delete"}[ch.Op]
		line := op + " " + ch.Table.Table
		for _, r := range []rows.Row{ch.Before, ch.After} {
			if r == nil {
				continue
			}
			cells := make([]string, len(r))
			for i, c := range r {
				cells[i] = string(c)
				if c == nil {
					cells[i] = "NULL"
				}
			}
			line += " " + strings.Join(cells, ",")
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}
