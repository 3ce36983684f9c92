package apply_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/binlog"
	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

const catchUpTable = "CREATE TABLE wide (id BIGINT PRIMARY KEY AUTO_INCREMENT, a INT NOT NULL, name VARCHAR(64) NOT NULL, b VARCHAR(100), c TEXT, d DATETIME, e DOUBLE, f CHAR(1)) CHARACTER SET utf8mb4"

// freePort is a port of the loopback that nobody has at this moment.
func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// BenchmarkCatchUp lets a native replica, single-threaded, and the engine catch up
// with the same log.
func BenchmarkCatchUp(b *testing.B) {
	port := freePort(b)
	durable := []string{"--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=512M", "--innodb-log-file-size=512M"}
	source := apply.StartServer(b, "--innodb-buffer-pool-size=512M", "--log-bin=bin", "--server-id=1", "--binlog-format=row", "--skip-networking=0", "--bind-address=127.0.0.1", "--port="+port)
	replica := apply.StartServer(b, append(durable, "--server-id=2", "--skip-slave-start=0")...)
	target := apply.StartServer(b, durable...)
	sc, rc, tc := source.Connect(b), replica.Connect(b), target.Connect(b)
	source.Exec(b, sc, "CREATE USER r@'%' IDENTIFIED BY 'r'", "GRANT ALL ON *.* TO r@'%'", "CREATE DATABASE old", "USE old", catchUpTable,
		"INSERT INTO wide SELECT seq, 1, CONCAT('user ',seq), REPEAT(CHAR(97+seq%26),60), REPEAT(MD5(seq),3), '2026-01-02 03:04:05', seq/3, NULL FROM seq_1_to_100000")
	replica.Exec(b, rc, "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT="+port+", MASTER_USER='r', MASTER_PASSWORD='r', MASTER_USE_GTID=slave_pos", "START SLAVE")
	target.Exec(b, tc, "CREATE DATABASE new", "USE new", catchUpTable)

	ctx := context.Background()
	in := binlog.Config{Address: "127.0.0.1:" + port, User: "r", Password: "r", Database: "old"}
	log, err := binlog.Open(ctx, in)
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	begin, err := log.Position(ctx)
	if err != nil {
		b.Fatal(err)
	}
	schema, err := rows.ReadSchema(ctx, sc, "old")
	if err != nil {
		b.Fatal(err)
	}
	cfg := apply.Config{Set: "b", Run: "r", From: "old", To: "new", Start: begin,
		Source: apply.Server{Network: "unix", Address: source.Socket, User: "root"}, Target: apply.Server{Network: "unix", Address: target.Socket, User: "root"}}
	e, err := apply.Open(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	txns := make(chan *rows.Txn, 1024)
	done := make(chan error, 1)
	run, stop := context.WithCancel(ctx)
	defer stop()
	go func() { done <- e.Run(run, txns) }()
	if _, err := e.Settle(ctx, begin, nil); err != nil {
		b.Fatal(err)
	}
	caughtUp := func(want string) func() bool {
		return func() bool { return replica.Rows(b, rc, "SELECT @@gtid_slave_pos")[0] == want }
	}
	wait := func(what func() bool) {
		for !what() {
			time.Sleep(2 * time.Millisecond)
		}
	}
	wait(caughtUp(begin.GTID))

	for b.Loop() {
		for _, load := range []struct {
			name, sql string
			rows      int
		}{
			{"insert1", "BEGIN NOT ATOMIC FOR i IN 1..20000 DO INSERT INTO wide (a,name,b,c) VALUES (i,'n','" + strings.Repeat("b", 60) + "','" + strings.Repeat("c", 90) + "'); END FOR; END", 20000},
			{"update1", "BEGIN NOT ATOMIC FOR i IN 1..20000 DO UPDATE wide SET a=a+1 WHERE id=i*3; END FOR; END", 20000},
			{"txn5", "BEGIN NOT ATOMIC FOR i IN 1..8000 DO START TRANSACTION; UPDATE wide SET a=a+1 WHERE id IN (i,i+30000); INSERT INTO wide (a,name) VALUES (i,'n'),(i,'m'); DELETE FROM wide WHERE id=50000+i; COMMIT; END FOR; END", 40000},
			{"bulkinsert", "INSERT INTO wide (a,name,b,c) SELECT seq, 'n', REPEAT('b',60), REPEAT('c',90) FROM seq_1_to_60000", 60000},
			{"bulkupdate", "UPDATE wide SET a=a+1 WHERE id<=50000", 50000},
		} {
			replica.Exec(b, rc, "STOP SLAVE SQL_THREAD")
			if load.name == "txn5" {
				source.Exec(b, sc, "INSERT IGNORE INTO wide (id,a,name) SELECT seq,1,'again' FROM seq_50001_to_58000")
			}
			from, err := log.Position(ctx)
			if err != nil {
				b.Fatal(err)
			}
			source.Exec(b, sc, "SET autocommit=1", load.sql)
			at, err := log.Position(ctx)
			if err != nil {
				b.Fatal(err)
			}
			_ = from
			// The replica has all of the log beside it, as the engine has.
			wait(func() bool {
				return replica.Rows(b, rc, "SELECT @@gtid_slave_pos")[0] != "" && strings.Contains(strings.Join(replica.Rows(b, rc, "SHOW SLAVE STATUS"), ""), at.GTID)
			})
			began := time.Now()
			replica.Exec(b, rc, "START SLAVE SQL_THREAD")
			wait(caughtUp(at.GTID))
			native := float64(load.rows) / time.Since(began).Seconds()

			began = time.Now()
			enough := errors.New("enough")
			err = log.Stream(ctx, e.Position(), schema, func(t *rows.Txn) error {
				txns <- t
				if reached, err := binlog.Reached(t.Position, at); err != nil || reached {
					return errors.Join(enough, err)
				}
				return nil
			})
			if !errors.Is(err, enough) {
				b.Fatal(err)
			}
			if _, err := e.Settle(ctx, at, nil); err != nil {
				b.Fatal(err)
			}
			ours := float64(load.rows) / time.Since(began).Seconds()
			b.Logf("%s: native %.0f rows/s, imago %.0f rows/s: %.2f", load.name, native, ours, ours/native)
			b.ReportMetric(ours/native, load.name+"-ratio")
		}
	}
	stop()
	<-done
	differs2(b, source, target)
}

func differs2(b *testing.B, source, target *dbtest.Server) {
	q := "SELECT COUNT(*), BIT_XOR(CRC32(CONCAT_WS('|',id,a,name,b,c,d,e,f))) FROM %s.wide"
	x := source.Rows(b, source.Connect(b), fmt.Sprintf(q, "old"))
	y := target.Rows(b, target.Connect(b), fmt.Sprintf(q, "new"))
	if x[0] != y[0] {
		b.Errorf("source %s, target %s", x, y)
	}
}
