package apply

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"imago.dev/imago/transfer/rows"
)

var family = []string{
	"CREATE TABLE p (id INT PRIMARY KEY, code VARCHAR(10) NOT NULL UNIQUE)",
	"CREATE TABLE k (id INT, code VARCHAR(10) NOT NULL, boss INT, PRIMARY KEY (id, code), KEY (id), FOREIGN KEY (code) REFERENCES p (code) ON DELETE CASCADE ON UPDATE CASCADE)",
	"CREATE TABLE g (id INT PRIMARY KEY, k INT, code VARCHAR(10), FOREIGN KEY (k, code) REFERENCES k (id, code) ON DELETE SET NULL ON UPDATE CASCADE)",
	"CREATE TABLE tree (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES tree (id) ON DELETE CASCADE)",
}

// TestCascades lets the server do what foreign keys do on the old side, where the
// log would not tell, and the engine on the new one.
func TestCascades(t *testing.T) {
	t.Parallel()
	server := StartServer(t)
	fill := func(t *testing.T) *bench {
		b := newBench(t, server, family...)
		b.exec("USE {old}", "INSERT INTO p SELECT seq, CONCAT('c',seq) FROM seq_1_to_200", "INSERT INTO k SELECT seq, CONCAT('c',1+seq%200), NULL FROM seq_1_to_1000",
			"INSERT INTO g SELECT seq, 1+seq%1000, CONCAT('c',1+(1+seq%1000)%200) FROM seq_1_to_3000", "INSERT INTO tree SELECT seq, IF(seq=1,NULL,seq DIV 2) FROM seq_1_to_500")
		b.cfg.ChunkRows = 37
		return b
	}
	// live are changes with what production's log says of them.
	type step struct {
		sql     string
		changes []rows.Change
	}
	steps := func(b *bench) []step {
		var out []step
		for i := 1; i <= 40; i++ {
			c, n := fmt.Sprint("c", i), fmt.Sprint(i)
			switch i % 4 {
			case 0:
				out = append(out, step{"DELETE FROM {old}.p WHERE id=" + n, []rows.Change{b.del("p", row(n, c))}})
			case 1:
				out = append(out, step{fmt.Sprintf("UPDATE {old}.p SET code='new%d' WHERE id=%d", i, i), []rows.Change{b.upd("p", row(n, c), row(n, fmt.Sprint("new", i)))}})
			case 2:
				out = append(out, step{fmt.Sprintf("DELETE FROM {old}.tree WHERE id=%d", 500-i), []rows.Change{b.del("tree", row(fmt.Sprint(500-i), fmt.Sprint((500-i)/2)))}})
			case 3:
				// A child comes and its parent goes, in one transaction.
				out = append(out, step{fmt.Sprintf("INSERT INTO {old}.k VALUES (%d,'%s',NULL)", 5000+i, c), []rows.Change{b.ins("k", row(fmt.Sprint(5000+i), c, "NULL"))}},
					step{"DELETE FROM {old}.p WHERE id=" + n, []rows.Change{b.del("p", row(n, c))}})
			}
		}
		return append(out, step{"DELETE FROM {old}.tree WHERE id=3", []rows.Change{b.del("tree", row("3", "1"))}})
	}
	same := func(b *bench) {
		b.t.Helper()
		for _, q := range []string{"p ORDER BY id", "k ORDER BY id, code", "g ORDER BY id", "tree ORDER BY id"} {
			b.same("SELECT * FROM {db}." + q)
		}
	}
	onOld := func(b *bench, list []step) {
		b.exec("SET foreign_key_checks=1")
		for _, s := range list {
			b.exec(s.sql)
		}
		b.exec("SET foreign_key_checks=0")
	}
	t.Run("while copying", func(t *testing.T) {
		b := fill(t)
		list := steps(b)
		r := b.open()
		for _, s := range list {
			r.send(b.txn(s.changes...))
		}
		v := r.settle(b.seq)
		r.close()
		if v.Rows == 0 {
			t.Error("nothing was compared")
		}
		onOld(b, list)
		same(b)
		if got := b.rows("SELECT COUNT(*) FROM {new}.g WHERE k IS NULL"); got[0] == "0" {
			t.Error("no key was set to NULL: the test shows nothing")
		}
	})
	t.Run("in one group", func(t *testing.T) {
		b := fill(t)
		list := steps(b)
		var all []rows.Change
		for _, s := range list {
			all = append(all, s.changes...)
		}
		r := b.open()
		r.settle(0)
		r.send(b.txn(all...))
		r.settle(b.seq)
		r.close()
		onOld(b, list)
		same(b)
	})
	// The clone may have some of the overlap's changes: all of it must come to the
	// same end.
	for _, ahead := range []int{0, 7, 20, 41} {
		t.Run(fmt.Sprint("overlap ", ahead), func(t *testing.T) {
			b := fill(t)
			list := steps(b)
			onOld(b, list[:ahead])
			r := b.open2(len(list))
			for _, s := range list {
				r.send(b.txn(s.changes...))
			}
			r.settle(b.seq)
			r.close()
			onOld(b, list[ahead:])
			same(b)
		})
	}
	t.Run("checks off", func(t *testing.T) {
		b := fill(t)
		r := b.open()
		r.settle(0)
		txn := b.txn(b.del("p", row("50", "c50")))
		txn.ForeignKeyChecksOff = true
		r.send(txn)
		r.settle(1)
		r.close()
		b.exec("DELETE FROM {old}.p WHERE id=50")
		same(b)
	})
	t.Run("lost in the overlap", func(t *testing.T) {
		b := fill(t)
		// g's row 5 is changed, then its k goes with its p, before the clone.
		b.exec("SET foreign_key_checks=1", "UPDATE {old}.g SET k=10, code='c11' WHERE id=5", "DELETE FROM {old}.p WHERE id=11", "SET foreign_key_checks=0")
		r := b.open2(2)
		r.send(b.txn(b.upd("g", row("5", "6", "c7"), row("5", "10", "c11"))), b.txn(b.del("p", row("11", "c11"))))
		if err := r.wait(); !errors.Is(err, ErrCascade) || !strings.Contains(err.Error(), "new clone") {
			t.Errorf("%v", err)
		}
	})
}

// open2 opens with an overlap of so many transactions.
func (b *bench) open2(overlap int) *running {
	b.cfg.OverlapUntil = at(overlap)
	return b.open()
}
