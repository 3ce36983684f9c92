package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestVerification changes the target behind the engine's back.
func TestVerification(t *testing.T) {
	t.Parallel()
	server := StartServer(t)
	fill := func(t *testing.T, schema string) *bench {
		b := newBench(t, server, schema)
		b.exec("USE {old}", "INSERT INTO people SELECT seq, CONCAT('n',seq), CONCAT('m',seq), NULL, seq, 'x' FROM seq_1_to_3000")
		b.cfg.ChunkRows = 100
		return b
	}
	for _, c := range []struct {
		name, sql, says string
		schema          string
	}{
		{"changed", "UPDATE {new}.people SET note='y' WHERE id=77", "id=77", people},
		{"missing", "DELETE FROM {new}.people WHERE id=1500", "id=1500", people},
		{"added", "INSERT INTO {new}.people VALUES (5000,'x','zz',NULL,NULL,NULL)", "id=5000", people},
		{"null", "UPDATE {new}.people SET note=NULL WHERE id=3000", "id=3000", people},
		{"case", "UPDATE {new}.people SET name='N9' WHERE id=9", "id=9", people},
		{"space", "UPDATE {new}.people SET name='n9 ' WHERE id=9", "id=9", people},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := fill(t, c.schema)
			// The copy is done and the comparison, but for the early samples, is to come.
			b.cfg.Workers = 1
			r := b.open()
			r.SetRate(0, 0)
			waitUntil(t, func() bool {
				r.SetRate(-1, -1)
				time.Sleep(time.Millisecond)
				r.SetRate(0, 0)
				return r.Progress().CopyDone
			})
			if !r.Progress().CloneNeeded {
				t.Skip("it was compared already")
			}
			b.exec("UPDATE imago.chunks SET verified=0 WHERE id=" + fmt.Sprint(r.id))
			r.cancel()
			_ = r.wait()
			b.exec(c.sql)
			r = b.open()
			err := r.wait()
			if !errors.Is(err, ErrDifferent) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "people") {
				t.Fatalf("error %v", err)
			}
			if r.Progress().Error == "" {
				t.Error("the progress does not tell")
			}
		})
	}
	t.Run("other order", func(t *testing.T) {
		// A range of keys is another one in the new collation; rows are counted.
		old := "CREATE TABLE words (w VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci PRIMARY KEY, v INT)"
		b := newBench(t, server)
		b.exec("USE {old}", old, "USE {new}", "CREATE TABLE words (w VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, v INT)",
			"USE {old}", "INSERT INTO words SELECT CONCAT(CHAR(97+seq%26), CHAR(0xC0+seq%20 USING latin1), IF(seq%2,'A','b'), seq), seq FROM seq_1_to_2000")
		b.cfg.ChunkRows = 50
		r := b.open()
		var i int
		for i = 1; i < 500; i++ {
			r.send(b.txn(b.ins("words", row(fmt.Sprintf("%c\xe9new%d", 'a'+i%26, i), "1"))))
		}
		r.settle(b.seq)
		if got := b.rows("SELECT COUNT(*) FROM {new}.words"); got[0] != "2499" {
			t.Errorf("%s rows", got[0])
		}
		if got := b.rows("SELECT COUNT(*) FROM {new}.words n JOIN {old}.words o ON n.w = CONVERT(o.w USING utf8mb4) COLLATE utf8mb4_bin AND n.v=o.v"); got[0] != "2000" {
			t.Errorf("%s rows are the same", got[0])
		}
		r.close()
		b.exec("UPDATE imago.tables SET verified=0 WHERE id="+fmt.Sprint(r.id), "INSERT INTO {new}.words VALUES ('stranger',1)")
		r = b.open()
		if err := r.wait(); !errors.Is(err, ErrDifferent) || !strings.Contains(err.Error(), "2500 rows") {
			t.Errorf("a stranger: %v", err)
		}
	})
	t.Run("nothing compared", func(t *testing.T) {
		b := newBench(t, server, people)
		r := b.open()
		r.settle(0)
		b.exec("INSERT INTO {new}.people VALUES (1,'x','y',NULL,NULL,NULL)")
		if _, err := r.Settle(t.Context(), at(0), nil); !errors.Is(err, ErrNothingCompared) {
			t.Errorf("%v", err)
		}
	})
	t.Run("rate", func(t *testing.T) {
		b := fill(t, people)
		r := b.open()
		r.SetRate(0, -1)
		time.Sleep(50 * time.Millisecond)
		before := r.Progress().RowsCopied
		time.Sleep(50 * time.Millisecond)
		if got := r.Progress().RowsCopied; got != before {
			t.Errorf("it copies at rate 0: %d, %d", before, got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if before < 3000 {
			if _, err := r.Settle(ctx, at(0), nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not c") {
				t.Errorf("settled: %v", err)
			}
		}
		// The stream goes on meanwhile.
		r.send(b.txn(b.upd("people", row("3000", "n3000", "m3000", "NULL", "3000", "x"), row("3000", "n", "m3000", "NULL", "3000", "x"))))
		waitUntil(t, func() bool { return r.Progress().Position == at(1) })
		began := time.Now()
		r.SetRate(6000, -1)
		r.settle(1)
		if d := time.Since(began); d < 300*time.Millisecond && before < 500 {
			t.Errorf("3000 rows, copied and compared at 6000 a second, took %v", d)
		}
		if got := b.rows("SELECT name FROM {new}.people WHERE id=3000"); got[0] != "n" {
			t.Errorf("the change is lost: %q", got)
		}
	})
	t.Run("lone change", func(t *testing.T) {
		b := fill(t, people)
		r := b.open()
		r.settle(0)
		var worst, sum time.Duration
		const n = 50
		for i := range n {
			began := time.Now()
			r.send(b.txn(b.ins("people", row(fmt.Sprint(10000+i), "a", fmt.Sprint("new", i), "NULL", "NULL", "NULL"))))
			if _, err := r.Applied(t.Context(), uint64(i+1)); err != nil {
				t.Fatal(err)
			}
			d := time.Since(began)
			worst, sum = max(worst, d), sum+d
			time.Sleep(time.Millisecond)
		}
		t.Logf("mean %v, worst %v", sum/n, worst)
		if sum/n > 20*time.Millisecond {
			t.Errorf("a lone change takes %v", sum/n)
		}
	})
}

func waitUntil(t *testing.T, what func() bool) {
	t.Helper()
	for range 3000 {
		if what() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatal("it did not come to that")
}
