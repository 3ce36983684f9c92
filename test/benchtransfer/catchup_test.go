package benchtransfer

import (
	"fmt"
	"os"
	"strings"
	"time"

	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/binlog"
	"imago.dev/imago/transfer/rows"
)

// logged is a production's database whose log both a transfer and replicas follow.
type logged struct {
	*servers
	log    *binlog.Source
	schema *rows.Schema
	x      *transfer
	next   int // id of the next row
}

// loggedRows is how many rows the log's table begins with.
const loggedRows = 100000

// prepareLog lets all followers reach the same place and stop there.
func prepareLog(s *servers) *logged {
	t := s.t
	s.prod.Exec(t, s.pc, "CREATE DATABASE log", "USE log", wideTable, fillWide(loggedRows))
	l := &logged{servers: s, next: 1000000}
	l.log, l.schema = s.log("log")
	s.empty(wideTable)
	l.x = open(t, apply.Config{Set: "log", Run: "r", From: "log", To: "new", Start: position(t, l.log), Source: onSocket(s.prod), Target: onSocket(s.target)}, -1)
	for i := range s.replicas {
		s.replicas[i].Exec(t, s.rc[i], "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT="+s.port+", MASTER_USER='r', MASTER_PASSWORD='r', MASTER_USE_GTID=slave_pos")
		l.native(i, position(t, l.log))
	}
	l.ours(position(t, l.log))
	return l
}

// native lets a stopped replica go as far as a position, and says how long it took.
func (l *logged) native(i int, at rows.Position) time.Duration {
	l.t.Helper()
	began := time.Now()
	l.replicas[i].Exec(l.t, l.rc[i], "START SLAVE")
	l.awaitReplica(i, at)
	took := time.Since(began)
	l.replicas[i].Exec(l.t, l.rc[i], "STOP SLAVE")
	return took
}

func (l *logged) awaitReplica(i int, at rows.Position) {
	l.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); l.replicas[i].Rows(l.t, l.rc[i], "SELECT @@gtid_slave_pos")[0] != at.GTID; time.Sleep(3 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("the replica is not at %s: %s", at.GTID, l.replicas[i].Rows(l.t, l.rc[i], "SHOW SLAVE STATUS"))
		}
	}
}

// ours does the same with the transfer; what it applied is compared, too.
func (l *logged) ours(at rows.Position) time.Duration {
	l.t.Helper()
	began := time.Now()
	stop := l.x.follow(l.log, l.schema)
	l.x.settle(at)
	took := time.Since(began)
	stop()
	return took
}

// close compares all followers with production and ends the transfer.
func (l *logged) close() {
	const sum = "SELECT COUNT(*), BIT_XOR(CRC32(CONCAT_WS('|',id,a,name,b,c,d,e,f))) FROM "
	at := position(l.t, l.log)
	l.ours(at)
	got := map[string][]string{"production": l.prod.Rows(l.t, l.pc, sum+"log.wide"), "the transfer's target": l.target.Rows(l.t, l.tc, sum+"new.wide")}
	for i := range l.replicas {
		l.native(i, at)
		got[fmt.Sprint("replica ", i+1)] = l.replicas[i].Rows(l.t, l.rc[i], sum+"log.wide")
	}
	equal(l.t, got)
	_ = l.x.stop()
}

// measureCatchUp makes a backlog and lets one replica, the transfer and the other
// replica work it off in turns, the replicas first and last by turns.
func measureCatchUp(l *logged) {
	t := l.t
	tab := &table{title: "2. Catch-up of a backlog"}
	tab.add("", "native rows/s", "imago rows/s", "ratio", "A/A")
	for _, load := range []struct {
		name string
		rows int
		sql  func(round int) string
	}{
		{"transactions of 1 row", 6000, func(int) string {
			return "BEGIN NOT ATOMIC FOR i IN 1..3000 DO INSERT INTO log.wide (a,name,b,c) VALUES (i,'n','" + strings.Repeat("b", 60) + "','" + strings.Repeat("c", 90) + "');" +
				" UPDATE log.wide SET a=a+1 WHERE id=i*3; END FOR; END"
		}},
		{"transactions of 5 rows", 15000, func(round int) string {
			return fmt.Sprintf("BEGIN NOT ATOMIC FOR i IN 1..3000 DO START TRANSACTION; UPDATE log.wide SET a=a+1 WHERE id IN (i,i+30000);"+
				" INSERT INTO log.wide (a,name) VALUES (i,'n'),(i,'m'); DELETE FROM log.wide WHERE id=%d+i; COMMIT; END FOR; END", 50000+round*3000)
		}},
		{"one bulk UPDATE", 45000, func(int) string { return "UPDATE log.wide SET a=a+1 WHERE id<=45000" }},
	} {
		var native, ours, ratios, aa []float64
		for round := range repeats {
			l.prod.Exec(t, l.pc, load.sql(round))
			at := position(t, l.log)
			rate := func(d time.Duration) float64 { return float64(load.rows) / d.Seconds() }
			first, last := round%2, 1-round%2
			a := rate(l.native(first, at))
			x := rate(l.ours(at))
			b := rate(l.native(last, at))
			native, ours = append(native, a, b), append(ours, x)
			ratios, aa = append(ratios, x/((a+b)/2)), append(aa, a/b)
		}
		tab.add(load.name, figure(native, ""), figure(ours, ""), verdict(ratios, aa), interval(aa))
	}
	tab.note("native: START SLAVE on a replica that stood before the backlog, until it is applied. imago: until it is applied and compared. Both commit durably.")
	tab.print(os.Stdout)
}
