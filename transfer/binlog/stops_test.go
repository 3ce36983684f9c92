package binlog

import (
	"errors"
	"strings"
	"testing"

	"imago.dev/imago/transfer/rows"
)

// TestStops: what a real server writes into its log that must end the stream, or
// must not.
func TestStops(t *testing.T) {
	t.Parallel()
	s := startServer(t, "", append([]string{"--local-infile=1", "--max-allowed-packet=64M"}, logged...)...)
	conn := s.connect(t)
	run(t, conn, "CREATE DATABASE shop", "CREATE DATABASE other")
	cases := []struct {
		name       string
		statements []string
		want       error
		word       string
	}{
		{"add column", []string{"ALTER TABLE shop.t ADD c INT"}, ErrDDL, "ALTER TABLE shop.t ADD c INT; the copy"},
		{"add column elsewhere", []string{"ALTER TABLE other.t ADD c INT", "INSERT INTO shop.t VALUES (5,'x')"}, nil, ""},
		{"add column to a table left out", []string{"ALTER TABLE shop.left_out ADD c INT"}, nil, ""},
		{"truncate", []string{"TRUNCATE shop.t"}, ErrDDL, "TRUNCATE"},
		{"drop", []string{"DROP TABLE shop.t"}, ErrDDL, "DROP TABLE"},
		{"rename", []string{"RENAME TABLE shop.t TO shop.u"}, ErrDDL, "RENAME"},
		{"new table", []string{"CREATE TABLE shop.u (id INT)"}, ErrDDL, "CREATE TABLE shop.u"},
		{"new table with rows", []string{"CREATE TABLE shop.u SELECT * FROM shop.t"}, ErrDDL, "u"},
		{"trigger", []string{"CREATE TRIGGER shop.g BEFORE INSERT ON shop.t FOR EACH ROW SET NEW.v='x'"}, ErrDDL, "TRIGGER"},
		{"index", []string{"CREATE INDEX i ON shop.t (v)"}, ErrDDL, "INDEX"},
		{"drop database", []string{"DROP DATABASE shop"}, ErrDDL, "DROP DATABASE"},
		{"temporary table", []string{"CREATE TEMPORARY TABLE shop.tmp SELECT * FROM shop.t", "INSERT INTO shop.tmp VALUES (9,'z')", "INSERT INTO shop.t SELECT id+10, v FROM shop.tmp", "DROP TEMPORARY TABLE shop.tmp"}, nil, ""},
		{"user", []string{"CREATE OR REPLACE USER x@y IDENTIFIED BY 'x'", "GRANT ALL ON shop.* TO x@y", "FLUSH PRIVILEGES", "DROP USER x@y"}, nil, ""},
		{"maintenance", []string{"ANALYZE TABLE shop.t", "OPTIMIZE TABLE shop.t", "CHECK TABLE shop.t", "FLUSH TABLES", "FLUSH BINARY LOGS"}, nil, ""},
		{"view and routine", []string{"CREATE VIEW shop.v AS SELECT * FROM shop.t", "DROP VIEW shop.v", "USE shop", "CREATE PROCEDURE p() UPDATE t SET v='p'", "CALL p()", "DROP PROCEDURE p"}, nil, ""},
		{"same table again", []string{"CREATE TABLE IF NOT EXISTS shop.t (id INT)"}, nil, ""},
		{"statement", []string{"SET binlog_format='STATEMENT'", "UPDATE shop.t SET v='s'", "SET binlog_format='ROW'"}, ErrStatement, "UPDATE shop.t SET v='s'; set binlog_format=ROW"},
		{"statement with variables", []string{"SET binlog_format='STATEMENT'", "SET @x='s'", "UPDATE shop.t SET v=@x WHERE RAND()<2", "SET binlog_format='ROW'"}, ErrStatement, "UPDATE"},
		{"statement in a transaction", []string{"SET binlog_format='STATEMENT'", "BEGIN", "INSERT INTO shop.t VALUES (7,'s')", "COMMIT", "SET binlog_format='ROW'"}, ErrStatement, "INSERT"},
		{"minimal image", []string{"SET binlog_row_image='MINIMAL'", "UPDATE shop.t SET v='m'", "SET binlog_row_image='FULL'"}, ErrStatement, "binlog_row_image must be FULL"},
		{"xa", []string{"XA START 'x'", "INSERT INTO shop.t VALUES (8,'x')", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"}, ErrUnknownEvent, "XA"},
		{"xa elsewhere", []string{"XA START 'x'", "INSERT INTO other.t (id) VALUES (8)", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"}, nil, ""},
		{"xa rolled back", []string{"XA START 'x'", "INSERT INTO other.t (id) VALUES (8)", "XA END 'x'", "XA PREPARE 'x'", "XA ROLLBACK 'x'"}, nil, ""},
		{"one phase", []string{"XA START 'x'", "INSERT INTO shop.t VALUES (8,'x')", "XA END 'x'", "XA COMMIT 'x' ONE PHASE"}, nil, ""},
		{"same number of columns, another type", []string{"ALTER TABLE shop.left_out ADD c INT", "SET sql_log_bin=0", "ALTER TABLE shop.t MODIFY v INT", "SET sql_log_bin=1", "INSERT INTO shop.t VALUES (11,11)"}, ErrDDL, `column "v" of table shop.t`},
		{"unseen column", []string{"SET sql_log_bin=0", "ALTER TABLE shop.t ADD c INT", "SET sql_log_bin=1", "INSERT INTO shop.t VALUES (11,'x',1)"}, ErrDDL, "3 columns in the log and 2 in the schema"},
		{"unseen table", []string{"SET sql_log_bin=0", "CREATE TABLE shop.unseen (id INT)", "SET sql_log_bin=1", "INSERT INTO shop.unseen VALUES (11)"}, ErrDDL, "shop.unseen is new"},
		{"mixed engines rolled back", []string{"BEGIN", "INSERT INTO shop.t VALUES (12,'r')", "INSERT INTO shop.aria VALUES (1)", "ROLLBACK", "INSERT INTO shop.t VALUES (13,'kept')"}, nil, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			conn := s.connect(t)
			run(t, conn, "SET sql_mode=''", "DROP DATABASE IF EXISTS shop", "DROP DATABASE IF EXISTS other", "CREATE DATABASE shop", "CREATE DATABASE other",
				"CREATE TABLE shop.t (id INT PRIMARY KEY, v VARCHAR(20))", "CREATE TABLE shop.left_out (id INT PRIMARY KEY)", "CREATE TABLE other.t (id INT PRIMARY KEY)",
				"CREATE TABLE shop.aria (id INT) ENGINE=Aria", "INSERT INTO shop.t VALUES (1,'a')")
			schema := readSchema(t, conn, "shop")
			from := position(t, conn)
			run(t, conn, "SET sql_mode=''")
			run(t, conn, c.statements...)
			run(t, conn, "DO 1")
			cfg := s.config()
			cfg.Skip = []string{"left_out", "aria"}
			list, err := follow(t, s, cfg, from, schema)
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.word) {
				t.Errorf("%q does not say %q", err, c.word)
			}
			for _, txn := range list {
				if err == nil && strings.Contains(show(txn), "12,r") {
					t.Errorf("what was rolled back comes through: %s", show(txn))
				}
			}
			if c.want == nil && len(list) == 0 && strings.Contains(strings.Join(c.statements, ";"), "INSERT INTO shop.t") {
				t.Error("no change came through")
			}
		})
	}
}

// TestCompressed: log_bin_compress is read.
func TestCompressed(t *testing.T) {
	t.Parallel()
	s := startServer(t, "", append([]string{"--log-bin-compress=1", "--log-bin-compress-min-len=10", "--max-allowed-packet=64M"}, logged...)...)
	conn := s.connect(t)
	run(t, conn, "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY, v LONGTEXT)")
	schema := readSchema(t, conn, "shop")
	from := position(t, conn)
	run(t, conn, "INSERT INTO shop.t VALUES (1,REPEAT('abc',1000)),(2,NULL)", "UPDATE shop.t SET v=REPEAT('x',5000000) WHERE id=1", "DELETE FROM shop.t WHERE id=1",
		"CREATE PROCEDURE shop.p() SELECT '"+strings.Repeat("y", 5000)+"'")
	list, err := follow(t, s, s.config(), from, schema)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || string(list[0].Changes[0].After[1]) != strings.Repeat("abc", 1000) ||
		string(list[1].Changes[0].After[1]) != strings.Repeat("x", 5000000) || len(list[2].Changes[0].Before[1]) != 5000000 {
		t.Errorf("%d transactions", len(list))
	}
	run(t, conn, "ALTER TABLE shop.t ADD c INT COMMENT '"+strings.Repeat("y", 500)+"'")
	if _, err := follow(t, s, s.config(), from, schema); !errors.Is(err, ErrDDL) {
		t.Errorf("a compressed statement: %v", err)
	}
	cfg := s.config()
	cfg.MaxTxnBytes = 1 << 20
	if _, err := follow(t, s, cfg, from, schema); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a transaction that is too large: %v", err)
	}
}

// TestEnumError: the value that MySQL gives a wrong ENUM has no literal; writing it
// fails aloud rather than becoming another.
func TestEnumError(t *testing.T) {
	t.Parallel()
	s := startServer(t, "", logged...)
	conn := s.connect(t)
	run(t, conn, "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY, e ENUM('a','b'))")
	schema := readSchema(t, conn, "shop")
	from := position(t, conn)
	run(t, conn, "SET sql_mode=''", "INSERT INTO shop.t VALUES (1,'wrong')")
	list, err := follow(t, s, s.config(), from, schema)
	if err != nil {
		t.Fatal(err)
	}
	cell := list[0].Changes[0].After[1]
	if cell == nil || len(cell) != 0 || string(selectRows(t, conn, schema.Tables[0])["1"][1]) != "" {
		t.Errorf("the value is %q", cell)
	}
	run(t, conn, rows.SessionSQL()...)
	insert := rows.AppendLiteral([]byte("INSERT INTO shop.t VALUES (2,"), &schema.Tables[0].Columns[1], cell)
	if _, err := conn.Execute(string(insert) + ")"); err == nil {
		t.Error("it could be written")
	}
}
