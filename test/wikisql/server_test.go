package wikisql

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
)

// server is a MariaDB of this test's own, without a network.
type server struct{ socket string }

func startServer(t *testing.T) *server {
	t.Helper()
	for _, tool := range []string{"mariadbd", "mariadb-install-db"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	install := exec.Command("mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-use-native-aio=0")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("make a data directory: %v\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{socket: filepath.Join(dir, "s")}
	args := []string{"--no-defaults", "--datadir=" + data, "--socket=" + s.socket, "--pid-file=" + filepath.Join(dir, "pid"), "--skip-networking",
		"--log-bin=" + filepath.Join(dir, "binlog"), "--binlog-format=ROW", "--server-id=11", "--sync-binlog=0", "--innodb-use-native-aio=0",
		"--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-buffer-pool-size=64M"}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	cmd := exec.Command("mariadbd", args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	deadline := time.Now().Add(30 * time.Second)
	for {
		c, err := net.Dial("unix", s.socket)
		if err == nil {
			_ = c.Close()
			return s
		}
		if time.Now().After(deadline) {
			out, _ := os.ReadFile(log.Name())
			t.Fatalf("mariadbd does not answer: %v\n%s", err, out)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *server) connect(t *testing.T, database string) *client.Conn {
	t.Helper()
	c, err := client.ConnectWithContext(t.Context(), s.socket, "root", "", database, 10*time.Second)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// load runs a dump into a new database.
func (s *server) load(t *testing.T, database string, dumps ...string) {
	t.Helper()
	exe(t, s.connect(t, ""), "CREATE DATABASE "+database+" CHARACTER SET binary")
	for _, dump := range dumps {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		script := fmt.Sprintf("{ echo 'SET foreign_key_checks=0;'; zcat testdata/%s.sql.gz; } | mariadb --no-defaults --socket=%s --user=root --default-character-set=binary %s", dump, s.socket, database)
		if out, err := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("load %s: %v\n%s", dump, err, out)
		}
	}
}

func exe(t *testing.T, c *client.Conn, query string) {
	t.Helper()
	if _, err := c.Execute(query); err != nil {
		t.Fatalf("%.600s: %v", query, err)
	}
}

// ask gives an answer's rows as strings; "NULL" is NULL.
func ask(t *testing.T, c *client.Conn, query string) [][]string {
	t.Helper()
	r, err := c.Execute(query)
	if err != nil {
		t.Fatalf("%.600s: %v", query, err)
	}
	defer r.Close()
	var out [][]string
	for i := range r.Values {
		row := make([]string, len(r.Values[i]))
		for j := range row {
			if null, _ := r.IsNull(i, j); null {
				row[j] = "NULL"
			} else if text, err := r.GetString(i, j); err != nil {
				t.Fatal(err)
			} else {
				row[j] = strings.Clone(text) // it lies in the result's buffer
			}
		}
		out = append(out, row)
	}
	return out
}
