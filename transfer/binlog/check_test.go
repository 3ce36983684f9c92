package binlog

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// faults are the texts of all faults in an error.
func faults(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("no faults but %v", err)
	}
	var list []string
	for _, e := range joined.Unwrap() {
		var f *Fault
		if !errors.As(e, &f) {
			t.Fatalf("no fault but %v", e)
		}
		list = append(list, e.Error())
	}
	return list
}

// one finds the fault that matches, and only that.
func one(t *testing.T, err error, pattern string) {
	t.Helper()
	list := faults(t, err)
	if len(list) != 1 || !regexp.MustCompile(pattern).MatchString(list[0]) {
		t.Errorf("faults %q, want one like %q", list, pattern)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := startServer(t, "", append([]string{"--innodb-flush-log-at-timeout=2"}, logged...)...)
	conn := s.connect(t)
	run(t, conn, "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY)", "INSERT INTO shop.t VALUES (1)")

	report, err := Check(t.Context(), s.config())
	if err != nil {
		t.Fatal(err)
	}
	if report.Flavor != "mariadb" || !report.Durable || report.Position.GTID == "" || !report.Process || report.Tables != 1 ||
		report.FlushEvery != 0 || report.SyncBinlog != "1" || report.FlushLog != "1" {
		t.Errorf("report %+v", report)
	}

	global := []struct{ set, back, fault string }{
		{"binlog_format='STATEMENT'", "binlog_format='ROW'", `^binlog_format is STATEMENT, must be ROW \(SET GLOBAL binlog_format='ROW'`},
		{"binlog_format='MIXED'", "binlog_format='ROW'", `^binlog_format is MIXED, must be ROW`},
		{"binlog_row_image='MINIMAL'", "binlog_row_image='FULL'", `^binlog_row_image is MINIMAL, must be FULL \(SET GLOBAL`},
		{"binlog_row_image='NOBLOB'", "binlog_row_image='FULL'", `^binlog_row_image is NOBLOB`},
		{"binlog_expire_logs_seconds=600", "binlog_expire_logs_seconds=0", `kept for 10m0s only, must be at least 1h0m0s \(SET GLOBAL binlog_expire_logs_seconds`},
	}
	for _, g := range global {
		run(t, conn, "SET GLOBAL "+g.set)
		_, err := Check(t.Context(), s.config())
		one(t, err, g.fault)
		run(t, conn, "SET GLOBAL "+g.back)
	}
	run(t, conn, "SET GLOBAL binlog_format='MIXED'", "SET GLOBAL binlog_row_image='MINIMAL'", "CREATE TABLE shop.m (id INT) ENGINE=Aria")
	if _, err := Check(t.Context(), s.config()); len(faults(t, err)) != 3 {
		t.Errorf("not all faults at once: %v", err)
	}
	cfg := s.config()
	cfg.Skip = []string{"m"}
	if _, err := Check(t.Context(), cfg); len(faults(t, err)) != 2 {
		t.Errorf("a table that is left out counts: %v", err)
	}
	run(t, conn, "SET GLOBAL binlog_format='ROW'", "SET GLOBAL binlog_row_image='FULL'")
	cfg.Skip = []string{"m", "no_such"}
	_, err = Check(t.Context(), cfg)
	one(t, err, `"no_such"`)

	run(t, conn, "SET GLOBAL innodb_flush_log_at_trx_commit=2")
	cfg.Skip = []string{"m"}
	if report, err := Check(t.Context(), cfg); err != nil || report.Durable || report.FlushEvery < 3*time.Second || len(report.Notes) == 0 {
		t.Errorf("flush at each second: %+v, %v", report, err)
	}
	run(t, conn, "SET GLOBAL innodb_flush_log_at_trx_commit=1", "SET GLOBAL sync_binlog=0")
	if report, err := Check(t.Context(), cfg); err != nil || report.Durable || report.FlushEvery != 0 {
		t.Errorf("the log when the kernel likes: %+v, %v", report, err)
	}
	p, durable, wait, err := LoggedPosition(t.Context(), conn)
	if err != nil || durable || wait != 0 || p != position(t, conn) {
		t.Errorf("%s, durable %v, wait %v, %v", p.GTID, durable, wait, err)
	}
	run(t, conn, "SET GLOBAL sync_binlog=1")
	checkPrivileges(t, s, cfg)
}

func checkPrivileges(t *testing.T, s *server, cfg Config) {
	conn := s.connect(t)
	cfg.User, cfg.Password = "reader", "it's"
	all := []string{"REPLICATION SLAVE", "BINLOG MONITOR", "PROCESS"}
	run(t, conn, "CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'it''s'", "GRANT SELECT ON shop.* TO reader@'127.0.0.1'")
	grant := `(GRANT REPLICATION SLAVE, BINLOG MONITOR, PROCESS ON *.* TO 'reader'@'127.0.0.1';)`
	for _, missing := range all {
		for _, p := range all {
			if p != missing {
				run(t, conn, "GRANT "+p+" ON *.* TO reader@'127.0.0.1'")
			}
		}
		report, err := Check(t.Context(), cfg)
		if missing == "PROCESS" {
			if err != nil || report.Process || len(report.Notes) != 1 {
				t.Errorf("without PROCESS: %+v %v", report, err)
			}
		} else {
			one(t, err, regexp.QuoteMeta("user 'reader'@'127.0.0.1' lacks "+missing+" "+grant))
		}
		run(t, conn, "REVOKE "+strings.Join(all, ", ")+" ON *.* FROM reader@'127.0.0.1'")
	}
	_, err := Check(t.Context(), cfg)
	if len(faults(t, err)) != 1 || !strings.Contains(err.Error(), grant) {
		t.Errorf("without any: %v", err)
	}
	// The text that was printed is all that is needed.
	text := regexp.MustCompile(`\((GRANT [^;]*);\)`).FindStringSubmatch(err.Error())
	if text == nil {
		t.Fatalf("no statement in %q", err)
	}
	run(t, conn, text[1])
	if report, err := Check(t.Context(), cfg); err != nil || !report.Process {
		t.Errorf("with what was asked for: %+v %v", report, err)
	}
	run(t, conn, "REVOKE SELECT ON shop.* FROM reader@'127.0.0.1'")
	_, err = Check(t.Context(), cfg)
	list := faults(t, err)
	if !slices.ContainsFunc(list, func(f string) bool {
		return strings.Contains(f, "lacks SELECT (GRANT SELECT ON `shop`.* TO 'reader'@'127.0.0.1';)")
	}) {
		t.Errorf("without SELECT: %q", list)
	}

	cfg.Password = "wrong"
	if _, err := Check(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "Access denied") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestCheckWithoutLog(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	conn := s.connect(t)
	run(t, conn, "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY)")
	_, err := Check(t.Context(), s.config())
	list := faults(t, err)
	if len(list) != 2 || !strings.HasPrefix(list[0], "log_bin is OFF, must be ON") || !strings.HasPrefix(list[1], "binlog_format is MIXED") {
		t.Errorf("faults %q", list)
	}
}

func TestCheckFilter(t *testing.T) {
	t.Parallel()
	s := startServer(t, "", append([]string{"--binlog-ignore-db=shop"}, logged...)...)
	conn := s.connect(t)
	run(t, conn, "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY)", "CREATE DATABASE other", "CREATE TABLE other.t (id INT)")
	_, err := Check(t.Context(), s.config())
	one(t, err, `database "shop" is left out of the log`)
}
