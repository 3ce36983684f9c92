package binlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"golang.org/x/sys/unix"

	"imago.dev/imago/transfer/rows"
)

// A cutMode is how eagerly production writes to its disk.
type cutMode struct {
	name              string
	syncBinlog, flush int
	durable           bool
	cuts              int
}

var cutModes = []cutMode{
	{"both at each commit", 1, 1, true, 3},
	{"the log when the kernel likes: the engine is ahead", 0, 1, false, 3},
	{"the engine each second: it is behind", 1, 0, false, 3},
	{"neither", 0, 2, false, 2},
}

// TestPowerCut takes the power from a server under load, at random instants: its
// files lie on an ext4 whose disk is a file on XFS, and a reflink of that file is
// exactly what had reached the disk at one instant. A second server recovers from
// each such copy. Its rows, and production's log from the place that
// RecoveredPosition tells, must give production's rows, with every change after the
// overlap fitting exactly.
func TestPowerCut(t *testing.T) {
	if os.Getenv("IMAGO_CUT") != "" {
		powerCut(t, os.Getenv("IMAGO_CUT"))
		return
	}
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	if os.Geteuid() != 0 {
		unavailable(t, "needs root to mount")
	}
	for _, tool := range []string{"mkfs.xfs", "mkfs.ext4", "mount", "mariadbd"} {
		if _, err := exec.LookPath(tool); err != nil {
			unavailable(t, "%s is not here: %v", tool, err)
		}
	}
	dir, err := os.MkdirTemp("", "imago-cut")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// A mount namespace of its own, so that all mounts and their loop devices go
	// with the process, however it ends.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestPowerCut$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), "IMAGO_CUT="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if bytes.Contains(out, []byte("cannot mount:")) {
		unavailable(t, "%s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("cuts compared")) {
		t.Fatalf("nothing was compared:\n%s", out)
	}
	t.Logf("%s", out)
}

// sh runs a program.
func sh(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

func mountImage(t *testing.T, image, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop"+options, image, dir).CombinedOutput(); err != nil {
		t.Fatalf("cannot mount: %v %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// blank makes an image of so many bytes.
func blank(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// cutNow copies the disk as it is at this instant.
func cutNow(t *testing.T, image, to string) {
	t.Helper()
	src, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	dst, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())), dst.Close()); err != nil {
		t.Fatalf("copy the disk at an instant: %v", err)
	}
}

func powerCut(t *testing.T, dir string) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("cannot mount: %v", err)
	}
	blank(t, dir+"/store", 8<<30)
	sh(t, "mkfs.xfs", "-q", "-m", "reflink=1", dir+"/store")
	mountImage(t, dir+"/store", dir+"/xfs", "")
	disk := dir + "/xfs/disk"
	blank(t, disk, 1<<30)
	sh(t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", disk)
	mountImage(t, disk, dir+"/p", "")

	s := startServer(t, dir+"/p", append([]string{"--innodb-log-file-size=16M"}, logged...)...)
	conn := s.connect(t)
	run(t, conn, "CREATE DATABASE shop", "CREATE TABLE shop.account (id INT PRIMARY KEY, amount INT NOT NULL, note VARCHAR(200))",
		"CREATE TABLE shop.entry (id BIGINT AUTO_INCREMENT PRIMARY KEY, account INT NOT NULL, amount INT NOT NULL, body BLOB)",
		"INSERT INTO shop.account SELECT seq, 1000, NULL FROM shop.seq_1_to_200")
	var all cutCounts
	for _, mode := range cutModes {
		n := cutMany(t, s, conn, dir, mode)
		all.compared += n.compared
		all.ahead += n.ahead
		all.behind += n.behind
		if mode.syncBinlog == 1 && mode.flush == 1 && n.ahead > 0 {
			t.Errorf("%s: the engine is ahead of the log in %d cuts", mode.name, n.ahead)
		}
	}
	if all.behind == 0 {
		t.Error("the engine was never seen behind the log: the cuts prove nothing about that")
	}
	if all.ahead == 0 {
		t.Error("the engine was never seen ahead of the log: the cuts prove nothing about that")
	}
	t.Logf("%d cuts compared; the engine ahead of the log in %d, behind in %d", all.compared, all.ahead, all.behind)
}

// cutCounts are how many clones came right, and how many would not have without
// the overlap or without the earlier position.
type cutCounts struct{ compared, ahead, behind int }

// cutMany cuts under one mode, and compares each.
func cutMany(t *testing.T, s *server, conn *client.Conn, dir string, mode cutMode) (n cutCounts) {
	t.Helper()
	run(t, conn, fmt.Sprintf("SET GLOBAL sync_binlog=%d", mode.syncBinlog), fmt.Sprintf("SET GLOBAL innodb_flush_log_at_trx_commit=%d", mode.flush))
	report, err := Check(t.Context(), s.config())
	if err != nil {
		t.Fatal(err)
	}
	if report.Durable != mode.durable {
		t.Errorf("%s: durable is %v", mode.name, report.Durable)
	}
	src, err := Open(t.Context(), s.config())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	schema := readSchema(t, conn, "shop")

	stopLoad := load(t, s)
	time.Sleep(200 * time.Millisecond)
	early, err := src.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(report.FlushEvery)
	type cut struct {
		image string
		until rows.Position
	}
	var cuts []cut
	for i := range mode.cuts {
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		c := cut{image: fmt.Sprintf("%s/xfs/cut-%d-%d-%d", dir, mode.syncBinlog, mode.flush, i)}
		cutNow(t, dir+"/xfs/disk", c.image)
		if c.until, err = src.Position(t.Context()); err != nil {
			t.Fatal(err)
		}
		cuts = append(cuts, c)
	}
	time.Sleep(100 * time.Millisecond)
	transactions := stopLoad()
	want := readAll(t, conn, schema)

	for i, c := range cuts {
		where := filepath.Join(dir, fmt.Sprintf("c-%d-%d-%d", mode.syncBinlog, mode.flush, i))
		clone, recovered, durable := recoverClone(t, c.image, where, mode, schema)
		if durable != mode.durable {
			t.Errorf("%s: the clone's position is durable: %v", mode.name, durable)
		}
		start, until := recovered, recovered
		if !durable {
			start, until = early, c.until
		}
		if err := replay(t, s, schema, clone, start, until, want); err != nil {
			t.Errorf("%s, cut %d, clone recovered at %s, begun at %s, overlap until %s: %v", mode.name, i, recovered.GTID, start.GTID, until.GTID, err)
		}
		n.compared++
		// The same without the rules that this tests: without the overlap, and
		// without the earlier position.
		if err := replay(t, s, schema, clone, recovered, recovered, want); err != nil && mode.flush == 1 {
			n.ahead++
		}
		if err := replay(t, s, schema, clone, recovered, c.until, want); err != nil {
			n.behind++
			if mode.flush == 1 {
				t.Errorf("%s: the engine was behind: %v", mode.name, err)
			}
		}
	}
	t.Logf("%s: %d transactions of load, %d cuts, the engine ahead in %d, behind in %d", mode.name, transactions, len(cuts), n.ahead, n.behind)
	return n
}

// load writes until it is stopped, and tells how much.
func load(t *testing.T, s *server) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for w := range 4 {
		conn := s.connect(t)
		wg.Add(1)
		go func() {
			defer wg.Done()
			n := 0
			for ctx.Err() == nil {
				err := transaction(conn, w*50, rand.New(rand.NewPCG(uint64(w), rand.Uint64())))
				if err != nil && serverError(err) != mysql.ER_LOCK_DEADLOCK {
					t.Errorf("load: %v", err)
					return
				}
				n++
			}
			mu.Lock()
			total += n
			mu.Unlock()
		}()
	}
	return func() int {
		cancel()
		wg.Wait()
		return total
	}
}

// transaction moves an amount between two of the writer's accounts.
func transaction(conn *client.Conn, base int, r *rand.Rand) error {
	from, to, amount := base+1+r.IntN(50), base+1+r.IntN(50), r.IntN(100)
	statements := []string{
		"BEGIN",
		fmt.Sprintf("UPDATE shop.account SET amount=amount-%d, note=REPEAT('n',%d) WHERE id=%d", amount, r.IntN(200), from),
		fmt.Sprintf("UPDATE shop.account SET amount=amount+%d WHERE id=%d", amount, to),
		fmt.Sprintf("INSERT INTO shop.entry (account, amount, body) VALUES (%d,%d,REPEAT('b',%d)),(%d,%d,NULL)", from, -amount, r.IntN(3000), to, amount),
		fmt.Sprintf("DELETE FROM shop.entry WHERE account=%d ORDER BY id LIMIT 1", from),
		"COMMIT",
	}
	if r.IntN(10) == 0 {
		statements[5] = "ROLLBACK"
	}
	for _, q := range statements {
		if _, err := conn.Execute(q); err != nil {
			return err
		}
	}
	return nil
}

// contents are rows by table and key.
type contents map[rows.Name]map[string]rows.Row

func keyText(t *rows.Table, r rows.Row) string {
	var b []byte
	for _, c := range t.KeyOf(r) {
		b = append(append(b, c...), 0)
	}
	return string(b)
}

func readAll(t *testing.T, conn *client.Conn, schema *rows.Schema) contents {
	t.Helper()
	all := make(contents)
	run(t, conn, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
	for _, table := range schema.Tables {
		all[table.Name] = selectRows(t, conn, table)
		byKey := make(map[string]rows.Row)
		for _, r := range all[table.Name] {
			byKey[keyText(table, r)] = r
		}
		all[table.Name] = byKey
	}
	run(t, conn, "COMMIT")
	return all
}

// recoverClone starts a server on the copied disk, after a crash as it believes.
func recoverClone(t *testing.T, image, where string, mode cutMode, schema *rows.Schema) (contents, rows.Position, bool) {
	t.Helper()
	mountImage(t, image, where, "")
	s := &server{dir: where, socket: where + "/s", port: freePort(t), args: []string{"--innodb-log-file-size=16M", "--log-bin=bin", "--binlog-format=ROW", "--server-id=1",
		fmt.Sprintf("--sync-binlog=%d", mode.syncBinlog), fmt.Sprintf("--innodb-flush-log-at-trx-commit=%d", mode.flush)}}
	s.start(t)
	conn := s.connect(t)
	p, durable, err := RecoveredPosition(t.Context(), conn)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.log(t))
	}
	all := readAll(t, conn, schema)
	// A clone that somebody wrote to says nothing about production.
	run(t, conn, "UPDATE shop.account SET amount=0 WHERE id=1")
	if _, _, err := RecoveredPosition(t.Context(), conn); !errors.Is(err, ErrCloneWritten) {
		t.Errorf("a clone that was written to: %v", err)
	}
	s.kill(t)
	return all, p, durable
}

// replay brings the clone's rows forward with production's log, and compares them.
func replay(t *testing.T, s *server, schema *rows.Schema, clone contents, from, overlap rows.Position, want contents) error {
	t.Helper()
	list, err := follow(t, s, s.config(), from, schema)
	if err != nil {
		return err
	}
	have := make(contents)
	for name, table := range clone {
		have[name] = make(map[string]rows.Row, len(table))
		for k, r := range table {
			have[name][k] = r
		}
	}
	for _, txn := range list {
		idempotent, err := Reached(overlap, txn.Position)
		if err != nil {
			return err
		}
		for i := range txn.Changes {
			if err := applyTo(have, schema, &txn.Changes[i], idempotent); err != nil {
				return fmt.Errorf("transaction %s: %w", txn.ID, err)
			}
		}
	}
	return sameContents(have, want)
}

func applyTo(have contents, schema *rows.Schema, ch *rows.Change, idempotent bool) error {
	table := schema.Table(ch.Table)
	current := have[ch.Table]
	if ch.Before != nil {
		k := keyText(table, ch.Before)
		if found := current[k]; !idempotent && !sameRow(found, ch.Before) {
			return fmt.Errorf("%s %s: production changed %.60q, the clone has %.60q", ch.Table, k, ch.Before, found)
		}
		delete(current, k)
	}
	if ch.After != nil {
		k := keyText(table, ch.After)
		if _, exists := current[k]; exists && !idempotent {
			return fmt.Errorf("%s %s: production inserted it and the clone has it", ch.Table, k)
		}
		current[k] = ch.After
	}
	return nil
}

func sameRow(a, b rows.Row) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) || (a[i] == nil) != (b[i] == nil) {
			return false
		}
	}
	return true
}

func sameContents(have, want contents) error {
	total := 0
	for name, table := range want {
		if len(have[name]) != len(table) {
			return fmt.Errorf("table %s has %d rows, production %d", name, len(have[name]), len(table))
		}
		for k, r := range table {
			if !sameRow(have[name][k], r) {
				return fmt.Errorf("table %s, row %s: %.60q, production has %.60q", name, k, have[name][k], r)
			}
			total++
		}
	}
	if total == 0 {
		return errors.New("no row was compared")
	}
	return nil
}
