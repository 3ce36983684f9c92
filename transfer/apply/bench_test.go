package apply

import (
	"fmt"
	"log/slog"
	"os/exec"
	"testing"
	"time"

	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

// benchRows is how many rows of about 230 bytes a benchmark has.
const benchRows = 400000

func benchServers(b *testing.B) (*bench, *dbtest.Server) {
	clone := StartServer(b, "--innodb-buffer-pool-size=512M")
	target := StartServer(b, "--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G", "--innodb-flush-log-at-trx-commit=1")
	w := &bench{t: b, server: clone, c: clone.Connect(b)}
	w.cfg = Config{Set: "bench", Run: "r", From: "old", To: "new",
		Source: Server{"unix", clone.Socket, "root", ""}, Target: Server{"unix", target.Socket, "root", ""}}
	w.exec("CREATE DATABASE old", "USE old", benchTable,
		fmt.Sprintf("INSERT INTO wide SELECT seq, seq*7 %% 100003, CONCAT('user ',seq), REPEAT(CHAR(97+seq%%26),60), REPEAT(MD5(seq),3), '2026-01-02 03:04:05', seq/3, IF(seq%%3,NULL,'x') FROM seq_1_to_%d", benchRows))
	return w, target
}

const benchTable = "CREATE TABLE wide (id BIGINT PRIMARY KEY AUTO_INCREMENT, a INT NOT NULL, name VARCHAR(64) NOT NULL, b VARCHAR(100), c TEXT, d DATETIME, e DOUBLE, f CHAR(1)) CHARACTER SET utf8mb4"

// BenchmarkInitial sets the first copy against 'mariadb-dump | mariadb', in turns.
func BenchmarkInitial(b *testing.B) {
	w, target := benchServers(b)
	c := target.Connect(b)
	for b.Loop() {
		target.Exec(b, c, "DROP DATABASE IF EXISTS new", "CREATE DATABASE new")
		began := time.Now()
		out, err := exec.Command("sh", "-c", fmt.Sprintf("mariadb-dump --no-defaults -uroot -S %s --single-transaction old | mariadb --no-defaults -uroot -S %s new", w.server.Socket, target.Socket)).CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		dump := benchRows / time.Since(began).Seconds()

		target.Exec(b, c, "DROP DATABASE new", "CREATE DATABASE new", "DROP DATABASE IF EXISTS imago", "USE new", benchTable)
		e, err := Open(b.Context(), w.cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		began = time.Now()
		r := start(b, e)
		for !r.Progress().CopyDone {
			select {
			case <-r.sched.ended:
				b.Fatal(r.wait())
			case <-time.After(5 * time.Millisecond):
			}
		}
		copied := time.Since(began)
		if _, err := r.Settle(b.Context(), at(0), nil); err != nil {
			b.Fatal(err)
		}
		verified := time.Since(began)
		r.close()
		b.ReportMetric(dump, "dump-rows/s")
		b.ReportMetric(benchRows/copied.Seconds(), "copy-rows/s")
		b.ReportMetric(benchRows/verified.Seconds(), "verified-rows/s")
		b.ReportMetric(benchRows/copied.Seconds()/dump, "copy/dump")
	}
}

// BenchmarkStream applies changes of one row each, several in a transaction.
func BenchmarkStream(b *testing.B) {
	w, target := benchServers(b)
	c := target.Connect(b)
	target.Exec(b, c, "CREATE DATABASE new", "USE new", benchTable)
	e, err := Open(b.Context(), w.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	r := start(b, e)
	r.settleAt(0)
	line := func(id int, a int) rows.Row {
		return row(fmt.Sprint(id), fmt.Sprint(a), fmt.Sprint("user ", id), "0123456789012345678901234567890123456789012345678901234567890123456789",
			"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890", "2026-01-02 03:04:05", "1.5", "NULL")
	}
	run := func(name string, per int, change func(i int) rows.Change) {
		const changes = 90000
		var txns []*rows.Txn
		for i := 0; i < changes; i += per {
			var list []rows.Change
			for j := range per {
				list = append(list, change(i+j))
			}
			txns = append(txns, w.txn(list...))
		}
		began := time.Now()
		r.send(txns...)
		r.settleAt(w.seq)
		b.ReportMetric(changes/time.Since(began).Seconds(), name+"/s")
	}
	for b.Loop() {
		base := 10_000_000 + w.seq*10
		run("insert", 5, func(i int) rows.Change { return w.ins("wide", line(base+i, 1)) })
		run("update", 5, func(i int) rows.Change { return w.upd("wide", line(base+i, 1), line(base+i, 2)) })
		run("mixed", 3, func(i int) rows.Change {
			switch i % 3 {
			case 0:
				return w.upd("wide", line(base+i, 2), line(base+i, 3))
			case 1:
				return w.ins("wide", line(base+1000000+i, 1))
			}
			return w.del("wide", line(base+i, 2))
		})
	}
}

func (r *running) settleAt(n int) {
	if _, err := r.Settle(r.t.Context(), at(n), nil); err != nil {
		r.t.Fatal(err)
	}
}
