package apply

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/transfer/rows"
)

const people = `CREATE TABLE people (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50) NOT NULL, mail VARCHAR(50) UNIQUE, born DATE, score DOUBLE, note TEXT)`

func TestIdentity(t *testing.T) {
	t.Parallel()
	server := StartServer(t)
	t.Run("copy and stream", func(t *testing.T) {
		b := newBench(t, server, people)
		var values []string
		for i := range 12000 {
			values = append(values, fmt.Sprintf("(%d,'n%d','m%d','2026-01-02',%d.5,NULL)", i+1, i+1, i+1, i))
		}
		b.exec("INSERT INTO {old}.people VALUES " + strings.Join(values, ","))
		b.cfg.ChunkRows = 1000
		r := b.open()
		line := func(id int, mail string) rows.Row {
			return row(fmt.Sprint(id), fmt.Sprintf("n%d", id), mail, "2026-01-02", fmt.Sprintf("%d.5", id-1), "NULL")
		}
		for i := 1; i <= 12000; i += 7 {
			r.send(b.txn(b.upd("people", line(i, fmt.Sprintf("m%d", i)), line(i, fmt.Sprintf("x%d", i)))))
		}
		// Two rows swap a unique value.
		r.send(b.txn(b.upd("people", line(2, "m2"), line(2, "tmp")), b.upd("people", line(3, "m3"), line(3, "m2")), b.upd("people", line(2, "tmp"), line(2, "m3"))))
		r.send(b.txn(b.del("people", line(4, "m4")), b.ins("people", line(20000, "m4")), b.upd("people", line(5, "m5"), line(20001, "m5"))))
		v := r.settle(b.seq)
		if v.Rows < 9000 || v.Changes < 1700 {
			t.Errorf("too little was compared: %+v", v)
		}
		b.exec("UPDATE {old}.people SET mail=CONCAT('x',id) WHERE id%7=1", "UPDATE {old}.people SET mail='tmp' WHERE id=2", "UPDATE {old}.people SET mail='m2' WHERE id=3",
			"UPDATE {old}.people SET mail='m3' WHERE id=2", "DELETE FROM {old}.people WHERE id=4",
			"INSERT INTO {old}.people VALUES (20000,'n20000','m4','2026-01-02',19999.5,NULL)", "UPDATE {old}.people SET id=20001,name='n20001',score=20000.5 WHERE id=5")
		b.same("SELECT * FROM {db}.people ORDER BY id")
		p := r.Progress()
		if !p.CopyDone || p.CloneNeeded || p.Position != at(b.seq) {
			t.Errorf("progress: %+v", p)
		}
		began := time.Now()
		r.send(b.txn(b.ins("people", line(30000, "last"))))
		if _, err := r.Settle(t.Context(), at(b.seq), map[string]uint64{"people": 40000}); err != nil {
			t.Fatal(err)
		}
		t.Logf("the last change took %v", time.Since(began))
		b.exec("INSERT INTO {new}.people (name) VALUES ('new')")
		if got := b.rows("SELECT MAX(id) FROM {new}.people"); got[0] != "40000" {
			t.Errorf("the next id is %s", got[0])
		}
		r.close()
	})
	t.Run("large rows", func(t *testing.T) {
		b := newBench(t, server, "CREATE TABLE big (id INT PRIMARY KEY, v LONGBLOB)")
		b.exec("USE {old}", "INSERT INTO big SELECT seq, IF(seq%7=0, REPEAT(CHAR(0,seq,39),2400000), 'small') FROM seq_1_to_30")
		large := func(n int) string { return strings.Repeat("x'", n) }
		r := b.open()
		r.send(b.txn(b.ins("big", row("100", large(4000000))), b.ins("big", row("101", "small")), b.ins("big", row("102", large(5000000))), b.ins("big", row("103", large(600000)))))
		r.send(b.txn(b.upd("big", row("102", large(5000000)), row("102", large(4500000))), b.upd("big", row("101", "small"), row("101", large(4500000)))))
		r.settle(2)
		b.exec("INSERT INTO {old}.big VALUES (100,REPEAT('x\\'',4000000)),(101,REPEAT('x\\'',4500000)),(102,REPEAT('x\\'',4500000)),(103,REPEAT('x\\'',600000))")
		b.same("SELECT id, MD5(v), LENGTH(v) FROM {db}.big ORDER BY id")
		r.send(b.txn(b.ins("big", row("200", large(9000000)))))
		if err := r.wait(); err == nil || !strings.Contains(err.Error(), "max_allowed_packet") {
			t.Errorf("a row that does not fit: %v", err)
		}
	})
	for _, c := range []struct {
		name   string
		change func(b *bench) rows.Change
		err    error
		says   string
	}{
		{"insert there", func(b *bench) rows.Change { return b.ins("people", row("1", "a", "b", "NULL", "NULL", "NULL")) }, ErrConflict, "people"},
		{"update none", func(b *bench) rows.Change {
			return b.upd("people", row("9", "a", "b", "NULL", "NULL", "NULL"), row("9", "a", "c", "NULL", "NULL", "NULL"))
		}, ErrConflict, "id=9"},
		{"update name of none", func(b *bench) rows.Change {
			return b.upd("people", row("9", "a", "b", "NULL", "NULL", "NULL"), row("9", "x", "b", "NULL", "NULL", "NULL"))
		}, ErrConflict, "id=9"},
		{"delete none", func(b *bench) rows.Change { return b.del("people", row("9", "a", "b", "NULL", "NULL", "NULL")) }, ErrConflict, "id=9"},
		{"unique", func(b *bench) rows.Change { return b.ins("people", row("9", "a", "m", "NULL", "NULL", "NULL")) }, ErrConflict, "mail"},
		{"shape", func(b *bench) rows.Change { return b.ins("people", row("9", "a")) }, nil, "definition changed"},
		{"table", func(b *bench) rows.Change { return b.ins("nobody", row("9", "a")) }, nil, "not transferred"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, server, people)
			b.exec("INSERT INTO {old}.people VALUES (1,'a','m',NULL,NULL,NULL)")
			r := b.open()
			r.settle(0)
			r.send(b.txn(c.change(b)))
			err := r.wait()
			if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want %v with %q", err, c.err, c.says)
			}
			t.Log(err)
			if got := b.rows("SELECT * FROM {new}.people"); len(got) != 1 {
				t.Errorf("rows: %q", got)
			}
			if _, err := r.Settle(t.Context(), at(1), nil); err == nil {
				t.Error("settled after a conflict")
			}
		})
	}
}
