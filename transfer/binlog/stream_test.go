package binlog

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStream(t *testing.T) {
	t.Parallel()
	s := startServer(t, "", logged...)
	conn := s.connect(t)
	run(t, conn, "CREATE DATABASE shop", "CREATE DATABASE other", "CREATE TABLE shop.t (id INT UNSIGNED PRIMARY KEY, v VARCHAR(20))",
		"CREATE TABLE shop.left_out (id INT PRIMARY KEY)", "CREATE TABLE other.t (id INT PRIMARY KEY)")
	schema := readSchema(t, conn, "shop")
	from := position(t, conn)
	run(t, conn,
		"INSERT INTO shop.t VALUES (1,'a'),(4294967295,NULL)",
		"INSERT INTO other.t VALUES (1)",
		"BEGIN", "UPDATE shop.t SET v='b' WHERE id=1", "INSERT INTO shop.left_out VALUES (1)", "SAVEPOINT s",
		"INSERT INTO shop.t VALUES (3,'never')", "ROLLBACK TO s", "DELETE FROM shop.t WHERE id=4294967295", "COMMIT",
		"BEGIN", "INSERT INTO shop.t VALUES (9,'never')", "ROLLBACK",
		"GRANT SELECT ON *.* TO x@localhost IDENTIFIED BY 'x'",
		"SET foreign_key_checks=1", "INSERT INTO shop.t VALUES (5,'')",
		"INSERT INTO other.t VALUES (2)")
	cfg := s.config()
	cfg.Skip = []string{"left_out"}
	list, err := follow(t, s, cfg, from, schema)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, txn := range list {
		got = append(got, show(txn))
	}
	want := []string{"insert t 1,a; insert t 4294967295,NULL", "update t 1,a 1,b; delete t 4294967295,NULL", "insert t 5,"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !list[0].ForeignKeyChecksOff || list[2].ForeignKeyChecksOff {
		t.Error("which transactions ran without foreign key checks is wrong")
	}
}
