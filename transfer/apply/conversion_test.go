package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/rows"
)

func TestConversions(t *testing.T) {
	t.Parallel()
	server := StartServer(t)
	item := func(id int, what string) rows.Row { return row(fmt.Sprint(id), what) }
	fill := func(t *testing.T, n int) *bench {
		b := newBench(t, server)
		b.exec("USE {old}", "CREATE TABLE items (id INT PRIMARY KEY, what VARCHAR(30) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin)", "USE {new}",
			"CREATE TABLE things (id INT PRIMARY KEY, what VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, size INT NOT NULL)",
			fmt.Sprintf("INSERT INTO {old}.items SELECT seq, CONCAT('w',seq) FROM seq_1_to_%d", n))
		b.cfg.ChunkRows = 50
		b.cfg.Conversions = []convert.Conversion{{Into: "things", Key: []string{"id"}, From: []convert.From{{Table: "items", Key: []string{"id"}}},
			Select: "SELECT id, what, CHAR_LENGTH(what) AS size FROM {old}.items"}}
		return b
	}
	want := func(t *testing.T, b *bench) {
		t.Helper()
		old := b.rows("SELECT id, what, CHAR_LENGTH(what) FROM imago_old_{new}.items ORDER BY id")
		if now := b.rows("SELECT * FROM {new}.things ORDER BY id"); strings.Join(old, "\n") != strings.Join(now, "\n") {
			t.Errorf("things are not the converted items:\n%.500q\n%.500q", old, now)
		}
	}
	t.Run("rejected", func(t *testing.T) {
		b := fill(t, 500)
		b.exec("UPDATE {old}.items SET what='far too long for it' WHERE id IN (7, 300)")
		r := b.open()
		fails := func(n int) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := r.Settle(ctx, at(b.seq), nil)
			var rejected *RejectedError
			if !errors.Is(err, ErrRejected) || !errors.As(err, &rejected) || rejected.Count != n {
				t.Fatalf("settled with %d rejected objects: %v", n, err)
			}
			list, err := r.Rejected(t.Context())
			if err != nil || len(list) != n || n > 0 && (list[0].Conversion != "things" || !strings.Contains(list[0].Reason, "what")) {
				t.Fatalf("rejected: %+v, %v", list, err)
			}
			if p := r.Progress(); p.Rejected != uint64(n) {
				t.Errorf("progress has %d rejected", p.Rejected)
			}
		}
		fails(2)
		// The stream brings one more, and repairs one.
		r.send(b.txn(b.ins("items", item(1000, "this is too long, too"))), b.txn(b.upd("items", item(7, "far too long for it"), item(7, "short"))))
		fails(2)
		if err := r.Retry(t.Context()); err != nil {
			t.Fatal(err)
		}
		fails(2)
		// The state is as it was after an end.
		r.close()
		r = b.open()
		fails(2)
		// A person makes room and has them converted again.
		b.exec("ALTER TABLE {new}.things MODIFY what VARCHAR(30) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL")
		r.close()
		r = b.open()
		fails(2)
		if err := r.Retry(t.Context()); err != nil {
			t.Fatal(err)
		}
		v := r.settle(b.seq)
		if v.Objects < 500 {
			t.Errorf("only %d objects were compared", v.Objects)
		}
		want(t, b)
		// A rejected object whose row goes is no object any more.
		r.send(b.txn(b.ins("items", item(2000, "NULL"))))
		fails(1)
		r.send(b.txn(b.del("items", item(2000, "NULL"))))
		r.settle(b.seq)
		want(t, b)
		r.close()
	})
	t.Run("changed meanwhile", func(t *testing.T) {
		b := fill(t, 3000)
		r := b.open()
		r.SetRate(6000, -1)
		for i := 1; i <= 1500; i++ {
			switch i % 3 {
			case 0:
				r.send(b.txn(b.upd("items", item(i, fmt.Sprint("w", i)), item(i, fmt.Sprint("x", i)))))
			case 1:
				r.send(b.txn(b.del("items", item(i, fmt.Sprint("w", i)))))
			case 2:
				r.send(b.txn(b.ins("items", item(10000+i, "new")), b.upd("items", item(i, fmt.Sprint("w", i)), item(20000+i, "moved"))))
			}
			if i%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		// Now its first pass, and then its comparison, are under way.
		waitUntil(t, func() bool { return r.Progress().CopyDone })
		for i := 0; r.Progress().Unverified > 0; i++ {
			id := 1501 + i%1500
			old, now := fmt.Sprint("w", id), fmt.Sprint("v", id)
			if i/1500%2 == 1 {
				old, now = now, old
			}
			r.send(b.txn(b.upd("items", item(id, old), item(id, now))))
			time.Sleep(time.Millisecond)
		}
		r.settle(b.seq)
		want(t, b)
		if got := b.rows("SELECT COUNT(*) FROM {new}.things"); got[0] != "3000" {
			t.Errorf("%s things", got[0])
		}
		r.close()
	})
	t.Run("tampered", func(t *testing.T) {
		b := fill(t, 300)
		r := b.open()
		r.settle(0)
		r.close()
		b.exec("UPDATE {new}.things SET size=99 WHERE id=120", fmt.Sprintf("UPDATE imago.conversions SET verified=0, compared_to=NULL WHERE id=%d", r.id))
		r = b.open()
		if err := r.wait(); !errors.Is(err, ErrDifferent) || !strings.Contains(err.Error(), "id=120") {
			t.Errorf("%v", err)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		b := fill(t, 1)
		b.exec("DELETE FROM {old}.items")
		r := b.open()
		r.settle(0)
		r.send(b.txn(b.ins("items", item(1, "one"))))
		v := r.settle(1)
		if v.Objects != 1 {
			t.Errorf("proof %+v", v)
		}
		r.close()
		r = b.open() // and the state knows that something was compared
		r.settle(1)
		r.close()
	})
}
