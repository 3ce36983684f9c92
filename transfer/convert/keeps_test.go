package convert

import (
	"strings"
	"testing"

	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

// TestKeepsColumn asks about pairs of types as a server describes them, and for
// each that is kept whether the server agrees: the extreme values arrive.
func TestKeepsColumn(t *testing.T) {
	s := dbtest.Start(t)
	w := newWorld(t, s)
	for _, c := range []struct {
		old, new string
		keeps    bool
	}{
		{"INT", "INT", true}, {"INT", "BIGINT", true}, {"INT", "INT UNSIGNED", false}, {"INT UNSIGNED", "INT", false}, {"INT UNSIGNED", "BIGINT", true},
		{"BIGINT", "INT", false}, {"TINYINT(1)", "INT(11)", true}, {"SMALLINT UNSIGNED", "MEDIUMINT", true}, {"INT", "DECIMAL(10,0)", true}, {"INT", "DECIMAL(9,0)", false},
		{"INT", "DECIMAL(12,2)", true}, {"BIGINT UNSIGNED", "DECIMAL(20,0) UNSIGNED", true}, {"INT", "DECIMAL(20,0) UNSIGNED", false}, {"INT", "VARCHAR(20)", false}, {"INT", "DOUBLE", false},
		{"INT NOT NULL", "INT", true}, {"INT", "INT NOT NULL", false},
		{"DECIMAL(10,2)", "DECIMAL(12,2)", true}, {"DECIMAL(10,2)", "DECIMAL(10,3)", false}, {"DECIMAL(10,2)", "DECIMAL(11,3)", true}, {"DECIMAL(10,2)", "DOUBLE", false},
		{"FLOAT", "DOUBLE", true}, {"DOUBLE", "FLOAT", false}, {"FLOAT(7,3)", "FLOAT", true}, {"FLOAT", "FLOAT(7,3)", false},
		{"VARCHAR(20) CHARACTER SET latin1", "VARCHAR(20) CHARACTER SET utf8mb4", true}, {"VARCHAR(20)", "VARCHAR(19)", false}, {"VARCHAR(20) CHARACTER SET utf8mb4", "VARCHAR(20) CHARACTER SET latin1", false},
		{"VARCHAR(20) CHARACTER SET utf8mb3", "VARCHAR(20) CHARACTER SET utf8mb4", true}, {"VARCHAR(20) CHARACTER SET utf8mb4", "VARCHAR(20) CHARACTER SET utf8mb3", false},
		{"VARCHAR(20) COLLATE utf8mb4_bin", "VARCHAR(20) COLLATE utf8mb4_general_ci", true}, {"VARCHAR(20) CHARACTER SET cp1251", "TEXT CHARACTER SET utf8mb4", true},
		{"CHAR(10)", "VARCHAR(10)", true}, {"VARCHAR(10)", "CHAR(10)", false}, {"VARCHAR(100)", "TEXT", true}, {"TEXT", "VARCHAR(100)", false}, {"TEXT", "MEDIUMTEXT", true}, {"TINYTEXT CHARACTER SET latin1", "TINYTEXT CHARACTER SET utf8mb4", false},
		{"TEXT CHARACTER SET latin1", "MEDIUMTEXT CHARACTER SET utf8mb4", true}, {"LONGTEXT CHARACTER SET latin1", "LONGTEXT CHARACTER SET utf8mb4", true}, {"VARCHAR(100) CHARACTER SET latin1", "TINYTEXT CHARACTER SET utf8mb4", false}, {"VARCHAR(60) CHARACTER SET latin1", "TINYTEXT CHARACTER SET utf8mb4", true},
		{"VARCHAR(20)", "VARBINARY(80)", false}, {"VARBINARY(20)", "VARBINARY(30)", true}, {"VARBINARY(20)", "BLOB", true}, {"BLOB", "VARBINARY(20)", false}, {"BINARY(4)", "BINARY(8)", false}, {"BINARY(4)", "VARBINARY(4)", true}, {"VARBINARY(4)", "BINARY(4)", false}, {"BLOB", "LONGBLOB", true}, {"BLOB", "TEXT", false},
		{"DATE", "DATETIME", true}, {"DATETIME", "DATE", false}, {"DATETIME", "DATETIME(6)", true}, {"DATETIME(6)", "DATETIME(3)", false}, {"TIMESTAMP", "DATETIME", false}, {"TIMESTAMP NULL", "TIMESTAMP(3) NULL", true}, {"TIME", "TIME(2)", true}, {"YEAR", "YEAR", true}, {"YEAR", "INT", false},
		{"ENUM('a','b')", "ENUM('b','c','a')", true}, {"ENUM('a','b')", "ENUM('a')", false}, {"ENUM('a')", "VARCHAR(10)", false}, {"SET('a','b')", "SET('x','a','b')", true},
		{"BIT(4)", "BIT(8)", true}, {"BIT(8)", "BIT(4)", false}, {"JSON", "JSON", true}, {"UUID", "UUID", true}, {"INET6", "INET6", true}, {"POINT", "POINT", true},
	} {
		w.exec("CREATE OR REPLACE TABLE {old}.c (id INT PRIMARY KEY, v "+c.old+") CHARACTER SET utf8mb4", "CREATE OR REPLACE TABLE {new}.c (id INT PRIMARY KEY, v "+c.new+") CHARACTER SET utf8mb4")
		w.read()
		old, now := w.source.Tables[0], w.target.Tables[0]
		ok, why := Keeps(old, now)
		if ok != c.keeps || ok != (len(why) == 0) {
			t.Errorf("%s to %s: %v, %v", c.old, c.new, ok, why)
		}
		if !ok {
			continue
		}
		for _, v := range []string{"-128", "127", "2147483647", "-2147483648", "4294967295", "18446744073709551615", "99999999.99", "REPEAT('ä',255)", "REPEAT('x',65535)", "REPEAT(' ',4)", "'2026-02-31'", "'838:59:59'", "'a'", "'b'", "'2026-01-01 00:00:00.123456'", "b'1111'", "0.1"} {
			if _, err := w.c.Execute(w.names("REPLACE INTO {old}.c VALUES (1, " + v + ")")); err != nil {
				continue
			}
			w.exec("DELETE FROM {new}.c", "INSERT INTO {new}.c SELECT * FROM {old}.c")
			if w.rows("SELECT COUNT(*) FROM {old}.c o JOIN {new}.c n ON n.v=o.v")[0] != "1" {
				t.Errorf("%s to %s: %s became %v", c.old, c.new, v, w.rows("SELECT v FROM {new}.c"))
			}
		}
	}
}

func TestKeeps(t *testing.T) {
	s := dbtest.Start(t)
	w := newWorld(t, s)
	for _, c := range []struct{ old, new, why string }{
		{"id INT PRIMARY KEY", "id INT PRIMARY KEY, x INT, y INT NOT NULL DEFAULT 1, z INT AS (id+1)", ""},
		{"id INT PRIMARY KEY", "id INT PRIMARY KEY, x INT NOT NULL", `column "x" is new and has no default`},
		{"id INT PRIMARY KEY, x INT", "id INT PRIMARY KEY", `column "x" is gone`},
		{"id INT PRIMARY KEY, g INT AS (id+1)", "id INT PRIMARY KEY", ""},
		{"id INT PRIMARY KEY, g INT AS (id+1)", "id INT PRIMARY KEY, g INT AS (id+2)", ""},
		{"id INT PRIMARY KEY, g INT AS (id+1)", "id INT PRIMARY KEY, g INT", "was generated and is stored now"},
		{"id INT PRIMARY KEY, g INT", "id INT PRIMARY KEY, g INT AS (id+1)", "is generated now"},
		{"id INT PRIMARY KEY", "ID INT PRIMARY KEY", ""},
		{"id INT PRIMARY KEY", "id INT, n INT AUTO_INCREMENT PRIMARY KEY, UNIQUE (id)", ""},
		{"id INT PRIMARY KEY", "id INT, n INT PRIMARY KEY DEFAULT 0", "its key (id) is none of the new table"},
		{"a INT, b INT, PRIMARY KEY (a,b)", "a INT, b INT, PRIMARY KEY (b,a)", ""},
		{"a INT, b INT, PRIMARY KEY (a,b)", "a INT, b INT, PRIMARY KEY (a)", "its key (a, b) is none"},
	} {
		w.exec("CREATE OR REPLACE TABLE {old}.c ("+c.old+")", "CREATE OR REPLACE TABLE {new}.c ("+c.new+")")
		w.read()
		ok, why := Keeps(w.source.Tables[0], w.target.Tables[0])
		if got := strings.Join(why, "; "); ok != (c.why == "") || !strings.Contains(got, c.why) {
			t.Errorf("(%s) to (%s): %v, %s", c.old, c.new, ok, got)
		}
	}
	if ok, _ := Keeps(&rows.Table{}, &rows.Table{Unfit: "system-versioned"}); ok {
		t.Error("an unfit table was kept")
	}
}
