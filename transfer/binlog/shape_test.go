package binlog

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imago.dev/imago/transfer/rows"
)

// TestShapes: tables whose log has more or less than their columns.
func TestShapes(t *testing.T) {
	t.Parallel()
	s := startServer(t, "", logged...)
	conn := s.connect(t)
	run(t, conn, "CREATE DATABASE shop",
		"CREATE TABLE shop.generated (id INT PRIMARY KEY, v INT AS (id+1) VIRTUAL, s INT AS (id+2) STORED, t TEXT AS (REPEAT('x',id)) VIRTUAL, last INT, KEY (v))",
		"CREATE TABLE shop.invisible (id INT PRIMARY KEY, hidden INT INVISIBLE DEFAULT 7, last INT)",
		"CREATE TABLE shop.hashed (id INT PRIMARY KEY, b BLOB, UNIQUE (b))",
		"CREATE TABLE shop.nullable (a INT, b INT NOT NULL, c VARCHAR(3) NOT NULL, UNIQUE KEY n (a), UNIQUE KEY bc (b, c), UNIQUE KEY z (b, c, a))",
		"CREATE TABLE shop.wide (id INT PRIMARY KEY, "+columns(40)+")",
		"CREATE TABLE shop.packed (id INT PRIMARY KEY, c VARCHAR(100) COMPRESSED, d TEXT COMPRESSED, e INT)",
		"CREATE TABLE shop.`größe` (`id ``x` INT PRIMARY KEY, `ü` INT) CHARACTER SET latin1",
		"CREATE SEQUENCE shop.seq", "CREATE TABLE shop.versioned (id INT PRIMARY KEY) WITH SYSTEM VERSIONING",
		"CREATE TABLE shop.my (id INT PRIMARY KEY) ENGINE=MyISAM", "CREATE VIEW shop.view_of AS SELECT * FROM shop.wide")
	schema := readSchema(t, conn, "shop")
	from := position(t, conn)
	run(t, conn, "INSERT INTO shop.generated (id,last) VALUES (3,9)", "UPDATE shop.generated SET last=10",
		"INSERT INTO shop.invisible (id,last) VALUES (1,2)",
		"INSERT INTO shop.hashed VALUES (1,'x')", "UPDATE shop.hashed SET b='y'",
		"INSERT INTO shop.nullable VALUES (NULL,1,'a')",
		"INSERT INTO shop.wide (id,c3,c38) VALUES (1,3,38)",
		"INSERT INTO shop.`größe` VALUES (1,2)",
		"INSERT INTO shop.packed VALUES (1,'x','y',3)", "INSERT INTO shop.versioned VALUES (1)", "SELECT NEXTVAL(shop.seq)", "INSERT INTO shop.my VALUES (1)")
	cfg := s.config()
	cfg.Skip = []string{"packed", "seq", "versioned", "my"}
	list, err := follow(t, s, cfg, from, schema)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, txn := range list {
		got = append(got, show(txn))
	}
	null := func(n int) string { return strings.Repeat(",NULL", n) }
	want := []string{"insert generated 3,NULL,NULL,NULL,9", "update generated 3,NULL,NULL,NULL,9 3,NULL,NULL,NULL,10",
		"insert invisible 1,7,2", "insert hashed 1,x", "update hashed 1,x 1,y", "insert nullable NULL,1,a",
		"insert wide 1" + null(3) + ",3" + null(34) + ",38" + null(1), "insert größe 1,2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	unfit := map[string]string{}
	for _, table := range schema.Tables {
		unfit[table.Table] = table.Unfit
	}
	for table, word := range map[string]string{"packed": "COMPRESSED", "seq": "sequence", "versioned": "system-versioned", "my": "MyISAM"} {
		if !strings.Contains(unfit[table], word) {
			t.Errorf("table %s is unfit because %q, want a word of %q", table, unfit[table], word)
		}
	}
	for _, table := range []string{"generated", "invisible", "hashed", "nullable", "wide"} {
		if unfit[table] != "" {
			t.Errorf("table %s is unfit because %q", table, unfit[table])
		}
	}
	if _, known := unfit["view_of"]; known {
		t.Error("a view is among the tables")
	}
	n := schema.Table(rows.Name{Database: "shop", Table: "nullable"})
	if diff := cmp.Diff([]int{1, 2}, n.Key); diff != "" {
		t.Errorf("the key of a table without a primary key: %s", diff)
	}
	if len(n.Unique) != 2 {
		t.Errorf("unique keys %v", n.Unique)
	}

	_, err = follow(t, s, s.config(), from, schema)
	if err == nil || !strings.Contains(err.Error(), "shop.packed") || errors.Is(err, ErrDDL) {
		t.Errorf("rows of an unfit table: %v", err)
	}
}

func columns(n int) string {
	var list []string
	for i := range n {
		list = append(list, "c"+string(rune('0'+i/10))+string(rune('0'+i%10))+" INT")
	}
	return strings.ReplaceAll(strings.Join(list, ","), "c0", "c")
}
