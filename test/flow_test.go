package test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// TestFlow upgrades a database that is written to all the time: the first rows and
// every change are brought over through kill -9 of imago and of the agent, a frozen
// target and a cut link, and compared by queries of this test's own.
func TestFlow(t *testing.T) {
	h := store.get(t)
	// Its machines would slow the other labs' down.
	t.Cleanup(func() {
		if err := store.end(); err != nil {
			t.Errorf("end the lab: %v", err)
		}
	})
	w := h.startWriters(t, 4)
	w.reach(t, 20, false)
	t.Run("check names what is missing", func(t *testing.T) { h.badSource(t) })
	h.do(t, h.plan, "clone").want(t, 0)
	t.Run("first pass, killed again and again", func(t *testing.T) { h.killedFirstPass(t) })
	t.Run("catch-up under faults", func(t *testing.T) { h.soak(t, soakTime()) })
	t.Run("equal when nobody writes", func(t *testing.T) {
		w.stop(t)
		h.do(t, h.plan, "catchup").want(t, 0)
		h.sameRows(t)
	})
	w = h.startWriters(t, 4)
	w.reach(t, 10, false)
	h.do(t, h.plan, "test").want(t, 0)
	h.do(t, h.plan, "switch").want(t, 0)
	w.reach(t, 20, true)
	w.stop(t)
	t.Run("every acknowledged write is there once", func(t *testing.T) { h.ledgers(t, w) })
	t.Run("a rollback knows what it would lose", func(t *testing.T) {
		r := h.do(t, h.plan, "rollback").want(t, exitLoss, "rows of ledger", "--accept-loss")
		n := 0
		for _, e := range w.books(t) {
			if e.New && e.Acked {
				n++
			}
		}
		if !strings.Contains(r.errOut, fmt.Sprintf("rows of ledger: %d new", n)) {
			t.Errorf("clients wrote %d lines; imago says\n%s", n, r.errOut)
		}
	})
	st := h.status(t)
	rep := h.report(t, st.Run)
	if len(rep.Data.Sets) != 1 || rep.Data.Sets[0].Verified == 0 || rep.Data.Sets[0].Late || rep.Switch == nil {
		t.Errorf("report: %+v, %+v", rep.Data.Sets, rep.Switch)
	}
	t.Logf("hold %.0f ms, of it %.0f ms until no request was in flight, last changes %.0f ms", rep.Switch.HoldMS, rep.Switch.DrainedMS, rep.Switch.LastChangesMS)
}

// soakTime is how long faults are made: IMAGO_SOAK, or half a minute.
func soakTime() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("IMAGO_SOAK")); err == nil {
		return d
	}
	return 30 * time.Second
}

// oldSQL runs SQL on production's server.
func (h *host) oldSQL(t *testing.T, sql string) string {
	t.Helper()
	args, err := h.lab.SSH("store-db")
	if err != nil {
		t.Fatal(err)
	}
	return h.must(t, "ssh", append(args, "mariadb", "-N", "-B", "--default-character-set=binary", "store", "-e", shellWord(sql))...)
}

// newSQL runs SQL on the new server, in the universe.
func (h *host) newSQL(t *testing.T, sql string) string {
	t.Helper()
	return h.must(t, "ip", "netns", "exec", h.universe(t), "mariadb", "-N", "-B", "--skip-ssl", "--default-character-set=binary", "-h", "10.20.0.12", "-ustore", "-plab-store-4711", "store", "-e", sql)
}

func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// universe is the network namespace of the universe.
func (h *host) universe(t *testing.T) string {
	t.Helper()
	for _, r := range h.status(t).Resources {
		if r.Kind == "netns" {
			return r.Name
		}
	}
	t.Fatal("the run has no universe")
	return ""
}

// badSource breaks what the change stream needs, one thing after the other.
func (h *host) badSource(t *testing.T) {
	for _, c := range []struct{ breakIt, mend, says string }{
		{"REVOKE REPLICATION SLAVE ON *.* FROM 'imago'@'10.20.0.%'", "GRANT REPLICATION SLAVE ON *.* TO 'imago'@'10.20.0.%'", "GRANT"},
		{"SET GLOBAL binlog_format = STATEMENT", "SET GLOBAL binlog_format = ROW", "binlog_format"},
		{"SET GLOBAL binlog_row_image = MINIMAL", "SET GLOBAL binlog_row_image = FULL", "binlog_row_image"},
		{"CREATE TABLE keyless (a INT)", "DROP TABLE keyless", "keyless"},
	} {
		h.oldSQL(t, c.breakIt)
		r := h.do(t, h.plan, "check")
		h.oldSQL(t, c.mend)
		r.want(t, exitRefused, c.says)
	}
	h.do(t, h.plan, "check").want(t, 0)
}

// killedFirstPass kills imago and the agent while rows are copied, and goes on.
func (h *host) killedFirstPass(t *testing.T) {
	for i := range 3 {
		r := h.start(t, h.plan, "convert")
		r.sees(t, "rows of store flow from")
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
		if i == 2 {
			h.inNew(t, "pkill -9 -f 'imago-agent.* transfer' || true")
			<-r.done
			continue
		}
		r.kill(t)
	}
	h.do(t, h.plan, "convert").want(t, 0)
}

// inNew runs a script in the new version's VM.
func (h *host) inNew(t *testing.T, script string) {
	t.Helper()
	h.run(t, "ip", "netns", "exec", h.universe(t), "ssh", "-i", h.lab.Dir+"/id_ed25519", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "ConnectTimeout=20", "root@10.20.0.12", script)
}

// soak follows production for a while and makes faults.
func (h *host) soak(t *testing.T, long time.Duration) {
	domain := ""
	for _, r := range h.status(t).Resources {
		if r.Kind == "domain" && strings.HasSuffix(r.Name, "-db") {
			domain = r.Name
		}
	}
	end, faults := time.Now().Add(long), 0
	for time.Now().Before(end) || faults < 4 {
		r := h.start(t, h.plan, "catchup", "--follow")
		r.sees(t, "following production")
		time.Sleep(time.Duration(500+rand.IntN(2500)) * time.Millisecond)
		switch faults % 4 {
		case 0:
			r.kill(t)
		case 1:
			h.inNew(t, "pkill -9 -f 'imago-agent.* transfer' || true")
		case 2:
			h.must(t, "virsh", "-q", "suspend", domain)
			time.Sleep(3 * time.Second)
			h.must(t, "virsh", "-q", "resume", domain)
		case 3:
			h.cutLink(t, domain)
		}
		faults++
		h.endFollow(t, r)
	}
	t.Logf("%d faults", faults)
}

// cutLink takes the new server's network away for a moment.
func (h *host) cutLink(t *testing.T, domain string) {
	mac := ""
	for _, line := range strings.Split(h.must(t, "virsh", "-q", "domiflist", domain), "\n") {
		if f := strings.Fields(line); len(f) == 5 {
			mac = f[4]
		}
	}
	h.must(t, "virsh", "-q", "domif-setlink", domain, mac, "down")
	time.Sleep(4 * time.Second)
	h.must(t, "virsh", "-q", "domif-setlink", domain, mac, "up")
}

// endFollow ends a follower, if the fault has not, as a person would.
func (h *host) endFollow(t *testing.T, r *running) {
	select {
	case <-r.done:
		return
	case <-time.After(2 * time.Second):
	}
	h.run(t, "kill", "-INT", r.pid)
	select {
	case <-r.done:
	case <-time.After(2 * time.Minute):
		r.kill(t)
		t.Errorf("catchup --follow did not end after SIGINT:\n%s", r.out.String())
	}
}

// sameRows compares every row of production with the new version, by queries that
// are none of imago's.
func (h *host) sameRows(t *testing.T) {
	const kinds = "SELECT id, t, tu, s, su, m, mu, i, iu, b, bu, d, CAST(f AS DOUBLE), e, bits+0, HEX(c), HEX(CONVERT(v USING utf8mb4)), HEX(CONVERT(u USING utf8mb4)), MD5(CONVERT(txt USING utf8mb4)), HEX(bin), HEX(vb), MD5(bl), dt, tm, dtm, UNIX_TIMESTAMP(ts), y, en+0, se+0, MD5(j), ip, HEX(g), twice, HEX(CONVERT(stored USING utf8mb4)) FROM kinds ORDER BY id"
	for _, c := range []struct{ name, old, fresh string }{
		{"customers", "SELECT id, HEX(CONVERT(SUBSTRING_INDEX(name, ' ', 1) USING utf8mb4)), HEX(CONVERT(SUBSTRING(name, 1 + LOCATE(' ', name)) USING utf8mb4)), email, NULLIF(since, '0000-00-00') FROM customer ORDER BY id",
			"SELECT id, HEX(given_name), HEX(family_name), email, since FROM client ORDER BY id"},
		{"totals", "SELECT c.id, (SELECT COUNT(*) FROM orders o WHERE o.customer = c.id), (SELECT COALESCE(SUM(total), 0) + 0.00 FROM orders o WHERE o.customer = c.id) FROM customer c ORDER BY c.id",
			"SELECT client, orders, total FROM client_total ORDER BY client"},
		{"orders", "SELECT id, customer, total, UNIX_TIMESTAMP(placed) * 1000, HEX(note) FROM orders ORDER BY id", "SELECT id, customer, total, UNIX_TIMESTAMP(placed) * 1000, HEX(note) FROM orders ORDER BY id"},
		{"lines", "SELECT orders, line, HEX(sku), pieces, price, amount FROM order_line ORDER BY 1, 2", "SELECT orders, line, HEX(sku), pieces, price, amount FROM order_line ORDER BY 1, 2"},
		{"ledger", "SELECT client, serial, UNIX_TIMESTAMP(at) FROM ledger ORDER BY 1, 2", "SELECT client, serial, UNIX_TIMESTAMP(at) FROM ledger ORDER BY 1, 2"},
		{"kinds", kinds, kinds},
	} {
		old, fresh := h.oldSQL(t, c.old), h.newSQL(t, c.fresh)
		if c.name == "orders" { // the new column has more digits
			fresh = strings.ReplaceAll(fresh, ".000000\t", ".000\t")
		}
		if old == fresh && len(old) > 0 {
			t.Logf("%s: %d rows, sha256 %x", c.name, strings.Count(old, "\n"), sha256.Sum256([]byte(old)))
			continue
		}
		t.Errorf("%s differ (%d and %d rows): %s", c.name, strings.Count(old, "\n"), strings.Count(fresh, "\n"), firstDifference(old, fresh))
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d: %.300q against %.300q", i, x[i], y[i])
		}
	}
	return "one has more"
}

// ledgers looks for every acknowledged write in the new version.
func (h *host) ledgers(t *testing.T, w *writers) {
	there := map[string]bool{}
	for _, line := range strings.Split(h.newSQL(t, "SELECT CONCAT(client, '/', serial) FROM ledger"), "\n") {
		there[line] = true
	}
	acked, lost, failed := 0, 0, 0
	for _, e := range w.books(t) {
		if !e.Acked {
			failed++
			t.Logf("not acknowledged: %+v", e)
			continue
		}
		acked++
		if !there[fmt.Sprintf("%s/%d", e.Client, e.Serial)] {
			lost++
			t.Errorf("lost: %+v", e)
		}
	}
	t.Logf("%d acknowledged, %d lost, %d not acknowledged", acked, lost, failed)
}
