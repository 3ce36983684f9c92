package binlog

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// RecoveredPosition is asked on the clone, after its server has recovered from the
// cut and before anybody writes there.
//
// If durable is true, p is exactly the state of the clone's tables: both the log and
// the engine were on the disk at each commit (sync_binlog and
// innodb_flush_log_at_trx_commit are 1), and recovery has made them agree.
//
// If it is false, the engine may have more than the log (sync_binlog is not 1) or
// less (innodb_flush_log_at_trx_commit is not 1), so p must not be used as a start:
// begin at a place that LoggedPosition gave on production before the cut, by so long
// as it said there, and apply idempotently up to one that production had after it.
//
// The clone knows only what its files say. Production may run with other settings
// (SET GLOBAL); so its word, by LoggedPosition or Report.Durable, must be asked, too,
// and durable counts only if both say so.
func RecoveredPosition(ctx context.Context, conn *client.Conn) (p rows.Position, durable bool, err error) {
	stop := interrupt(ctx, conn)
	defer stop()
	flavor := rows.Flavor(conn.GetServerVersion())
	settings, err := readVariables(conn)
	if err == nil {
		p, durable, err = recovered(conn, flavor, settings)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return rows.Position{}, false, fmt.Errorf("ask the clone where its files stand: %w", err)
	}
	return p, durable, nil
}

func recovered(conn *client.Conn, flavor string, settings variables) (p rows.Position, durable bool, err error) {
	if !settings.on("log_bin") {
		return p, false, &Fault{What: "log_bin is OFF on the clone", Want: "ON", Do: "start it with production's settings"}
	}
	if flavor == "mariadb" {
		// The position that follows would be ours, not production's.
		commits, err := readStatus(conn, "Binlog_commits")
		if err != nil {
			return p, false, err
		}
		if commits != "0" {
			return p, false, fmt.Errorf("%w: %s transactions since it started; stop what writes there (events, cron, an application) and clone again",
				ErrCloneWritten, commits)
		}
	}
	if p, err = loggedPosition(conn, flavor); err != nil {
		return p, false, err
	}
	if p.GTID == "" {
		return p, false, fmt.Errorf("its log has no GTID: nothing was ever written to it, or gtid_mode is off")
	}
	return p, durableAtCommit(settings), nil
}

// LoggedPosition is asked on production: the place of its last commit; whether all
// before it is on the disk now; if not, how long after this answer it is, at the
// latest.
func LoggedPosition(ctx context.Context, conn *client.Conn) (p rows.Position, durable bool, wait time.Duration, err error) {
	stop := interrupt(ctx, conn)
	defer stop()
	settings, err := readVariables(conn)
	if err == nil {
		p, err = loggedPosition(conn, rows.Flavor(conn.GetServerVersion()))
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return rows.Position{}, false, 0, fmt.Errorf("ask production where its log stands: %w", err)
	}
	return p, durableAtCommit(settings), flushEvery(settings), nil
}

// durableAtCommit tells whether both logs are on the disk when a commit returns.
func durableAtCommit(settings variables) bool {
	return settings["sync_binlog"] == "1" && flushedAtCommit(settings)
}

// flushedAtCommit tells whether the engine's log is on the disk before a transaction
// goes into the binary log.
func flushedAtCommit(settings variables) bool {
	switch settings["innodb_flush_log_at_trx_commit"] {
	case "1", "3":
		return true
	}
	return false
}

// flushEvery is the age at which a commit is on the engine's disk for sure.
func flushEvery(settings variables) time.Duration {
	if flushedAtCommit(settings) {
		return 0
	}
	seconds, _ := strconv.Atoi(settings["innodb_flush_log_at_timeout"])
	// The server's clock for this counts whole seconds and is looked at once in
	// each; the write itself takes its time, too.
	return time.Duration(max(seconds, 1))*time.Second + 3*time.Second
}
