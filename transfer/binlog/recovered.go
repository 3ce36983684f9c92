package binlog

import (
	"context"
	"fmt"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// RecoveredPosition is asked on the clone, after its server has recovered from the
// cut and before anybody writes there: from this place on, production's log has all
// that the clone's tables lack. It may have more (what the engine wrote but the
// log's file had not on disk yet), so what follows must be applied idempotently up
// to a position that production had after the cut.
//
// durable is false if the engine may lack transactions that the clone's log has:
// the server does not write its engine's log at each commit
// (innodb_flush_log_at_trx_commit is not 1). Then p is too late, and the stream must
// begin at a position that production was asked for before the cut: at least
// Report.FlushEvery before it. The same holds if production runs with another
// setting than the clone's files say; Report.Durable knows.
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
	return p, flushedAtCommit(settings), nil
}

// flushedAtCommit tells whether the engine's log is on disk when a transaction goes
// into the binary log.
func flushedAtCommit(settings variables) bool {
	switch settings["innodb_flush_log_at_trx_commit"] {
	case "1", "3":
		return true
	}
	return false
}
