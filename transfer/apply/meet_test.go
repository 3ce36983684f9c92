package apply

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/transfer/rows"
)

// TestCopyMeetsStream is about keys that the copy and the stream both come to.
func TestCopyMeetsStream(t *testing.T) {
	t.Parallel()
	server := StartServer(t)
	line := func(id, v int) rows.Row { return row(fmt.Sprint(id), fmt.Sprint(v)) }
	fill := func(t *testing.T, n int) *bench {
		b := newBench(t, server, "CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL)")
		b.exec("USE {old}", fmt.Sprintf("INSERT INTO t SELECT seq, 0 FROM seq_1_to_%d", n))
		return b
	}
	t.Run("a chunk waits for changes being written", func(t *testing.T) {
		b := fill(t, 100)
		e := b.prepare()
		e.SetRate(0, 0)
		r := start(t, e)
		b.exec("BEGIN", fmt.Sprintf("SELECT * FROM imago.positions WHERE id=%d FOR UPDATE", e.id))
		r.send(b.txn(b.upd("t", line(50, 0), line(50, 1))))
		waitUntil(t, func() bool { e.sched.mu.Lock(); defer e.sched.mu.Unlock(); return e.sched.active != nil })
		e.SetRate(-1, -1)
		waitUntil(t, func() bool { return e.Progress().ChunksKnown > 0 })
		time.Sleep(100 * time.Millisecond)
		if got := b.rows(fmt.Sprintf("SELECT COUNT(*) FROM imago.chunks WHERE id=%d", e.id)); got[0] != "0" {
			t.Error("the chunk was committed, without the key that is only about to be written")
		}
		b.exec("COMMIT")
		r.settle(1)
		if got := b.rows("SELECT COUNT(*), SUM(v) FROM {new}.t"); got[0] != "100|1" {
			t.Errorf("rows: %v", got)
		}
	})
	t.Run("a change waits for its chunk", func(t *testing.T) {
		b := fill(t, 100)
		// A lock on a key of the chunk keeps the copy in flight.
		b.exec("BEGIN", "INSERT INTO {new}.t VALUES (60,7)")
		e := b.open()
		waitUntil(t, func() bool { p := e.Progress(); return p.ChunksKnown > p.ChunksDone })
		time.Sleep(50 * time.Millisecond)
		e.send(b.txn(b.upd("t", line(10, 0), line(10, 1))), b.txn(b.ins("t", line(1000, 1))))
		time.Sleep(50 * time.Millisecond)
		if p := e.Progress(); p.Position != at(0) || p.Rescheduled == 0 {
			t.Errorf("position %v, %d rescheduled", p.Position, p.Rescheduled)
		}
		b.exec("ROLLBACK")
		e.settle(b.seq)
		if got := b.rows("SELECT COUNT(*), SUM(v) FROM {new}.t"); got[0] != "101|2" {
			t.Errorf("rows: %v", got)
		}
	})
	for _, key := range []string{"INT", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"} {
		t.Run("all at once, "+strings.ToLower(key[:3]), func(t *testing.T) {
			const n = 20000
			b := fill(t, n)
			b.exec("ALTER TABLE {old}.t MODIFY id "+key, "ALTER TABLE {new}.t MODIFY id "+key)
			b.cfg.ChunkRows, b.cfg.Workers, b.cfg.BatchRows = 200, 3, 50
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
			values := make([]int, n+1)
			there := make([]bool, n+1)
			for i := range there {
				there[i] = i > 0
			}
			e := b.open()
			for !e.Progress().CopyDone {
				var list []rows.Change
				for range 1 + r.IntN(5) {
					id := 1 + r.IntN(n)
					v := values[id] + 1
					switch {
					case !there[id]:
						list = append(list, b.ins("t", line(id, v)))
						there[id] = true
					case r.IntN(3) == 0:
						list = append(list, b.del("t", line(id, values[id])))
						there[id] = false
						v--
					default:
						list = append(list, b.upd("t", line(id, values[id]), line(id, v)))
					}
					values[id] = v
				}
				e.send(b.txn(list...))
			}
			v := e.settle(b.seq)
			p := e.Progress()
			t.Logf("%d changes, %d rescheduled, %+v", p.Changes, p.Rescheduled, v)
			var want []string
			for id := 1; id <= n; id++ {
				if there[id] {
					want = append(want, fmt.Sprintf("%d|%d", id, values[id]))
				}
			}
			if got := b.rows("SELECT id, v FROM {new}.t ORDER BY CAST(id AS UNSIGNED)"); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%d rows, %d were expected, or others", len(got), len(want))
			}
		})
	}
}
