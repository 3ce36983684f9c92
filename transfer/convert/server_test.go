package convert

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

// TestOnServer runs everything that needs a database on one server.
func TestOnServer(t *testing.T) {
	s := dbtest.Start(t)
	for name, test := range map[string]func(*testing.T, *dbtest.Server){
		"initial pass and changes":   testPasses,
		"random changes":             testRandom,
		"pushdown":                   testPushdown,
		"bisection":                  testBisection,
		"duplicates":                 testDuplicates,
		"values move between rows":   testMoves,
		"rejected rows stay":         testRejectedStay,
		"only what differs":          testOnlyDifferences,
		"server's ids stay":          testAutoIDs,
		"add":                        testAdd,
		"objects without rows":       testNoRows,
		"keys of several columns":    testCompositeKeys,
		"binary and text keys":       testKindsOfKeys,
		"other collation":            testCollations,
		"mixed character sets":       testMixedSets,
		"NULL in a key":              testNullKeys,
		"hostile names":              testHostileNames,
		"named parameters":           testParameters,
		"tables joined via another":  testVia,
		"two tables numbered alike":  testPlus,
		"a select beyond its tables": testStrangers,
		"comparison":                 testComparison,
		"plans that do not fit":      testFaults,
		"errors are no rejections":   testLockTimeout,
		"cancellation":               testCancelled,
		"the caller's transaction":   testTransaction,
		"partitions":                 testPartitions,
		"literals are text":          testLiterals,
		"program":                    testProgram,
		"program fails":              testProgramFails,
		"program's values":           testProgramValues,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

// pages are two old tables that one new table is made of.
var pages = []string{
	"CREATE TABLE {old}.page (id INT PRIMARY KEY, title VARCHAR(60) CHARACTER SET latin1 NOT NULL, words INT)",
	"CREATE TABLE {old}.note (page INT PRIMARY KEY, note TEXT CHARACTER SET latin1)",
	"CREATE TABLE {new}.article (article_id BIGINT PRIMARY KEY, title VARCHAR(30) CHARACTER SET utf8mb4 NOT NULL, words SMALLINT UNSIGNED, note TEXT CHARACTER SET utf8mb4, UNIQUE (title), since DATE NOT NULL DEFAULT '2026-01-01')",
}

func articles() Conversion {
	return Conversion{
		Into: "article", Key: []string{"article_id"},
		From:   []From{{Table: "page", Key: []string{"id"}}, {Table: "note", Key: []string{"page"}}},
		Select: "SELECT p.id AS article_id, p.title, p.words, CONCAT(n.note, '…') AS note -- both; in one\nFROM {old}.page p LEFT JOIN {old}.note n ON n.page = p.id",
	}
}

func (w *world) fillPages(n int) {
	w.t.Helper()
	w.exec(
		fmt.Sprintf("INSERT INTO {old}.page SELECT seq, CONCAT('Tïtle ', seq), seq FROM seq_1_to_%d", n),
		fmt.Sprintf("INSERT INTO {old}.note SELECT seq*3, CONCAT('nöte ', seq) FROM seq_1_to_%d", n/3),
	)
}

const (
	articlesWant = "SELECT p.id, CONVERT(p.title USING utf8mb4), p.words, CONCAT(CONVERT(n.note USING utf8mb4), _utf8mb4'…'), DATE '2026-01-01' FROM {old}.page p LEFT JOIN {old}.note n ON n.page=p.id ORDER BY 1"
	articlesHave = "SELECT article_id, title, words, note, since FROM {new}.article ORDER BY 1"
)

func testPasses(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(100)
	p := w.prepare(articles())
	if r := w.all(p, 7); len(r) > 0 {
		t.Fatal(rejections(r))
	}
	w.wantSame(articlesWant, articlesHave)
	w.exec("UPDATE {old}.page SET title='Ä' WHERE id=5", "DELETE FROM {old}.note WHERE page=6", "DELETE FROM {old}.page WHERE id=9", "INSERT INTO {old}.page VALUES (1000,'new',1)")
	page, note := w.source.Table(rows.Name{Database: w.old, Table: "page"}).Name, rows.Name{Database: w.old, Table: "note"}
	var keys [][]rows.Cell
	for _, ch := range []*rows.Change{
		{Table: page, Op: rows.Update, Before: rows.Row(key("5", "x", "5")), After: rows.Row(key("5", "Ä", "5"))},
		{Table: note, Op: rows.Delete, Before: rows.Row(key("6", "x"))},
		{Table: page, Op: rows.Delete, Before: rows.Row(key("9", "x", "9"))},
		{Table: page, Op: rows.Insert, After: rows.Row(key("1000", "new", "1"))},
	} {
		keys = append(keys, p.Dirty(ch)...)
	}
	if got := fmt.Sprint(shown(keys)); got != "[1000 5 6 9]" {
		t.Errorf("dirty: %s", got)
	}
	res := w.convert(p, keys...)
	if res.Objects != 4 || res.Rows != 3 || len(res.Rejected) > 0 {
		t.Errorf("%+v", res)
	}
	w.wantSame(articlesWant, articlesHave)
	if n, different := w.compare(p, 9); n != 101 || len(different) > 0 {
		t.Errorf("%d compared, %v differ", n, different)
	}
}

// testRandom holds the sum of many small conversions against one large one.
func testRandom(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(60)
	p := w.prepare(articles())
	w.all(p, 10)
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		w.exec("BEGIN")
		var keys [][]rows.Cell
		for range 1 + random.IntN(8) {
			id := random.IntN(70)
			key := key(fmt.Sprint(id))
			switch random.IntN(5) {
			case 0:
				w.exec(fmt.Sprintf("DELETE FROM {old}.page WHERE id=%d", id))
			case 1:
				w.exec(fmt.Sprintf("INSERT IGNORE INTO {old}.page VALUES (%d, 'neu %d', %d)", id, random.IntN(1000000), random.IntN(60000)))
			case 2:
				w.exec(fmt.Sprintf("UPDATE {old}.page SET words=%d WHERE id=%d", random.IntN(60000), id))
			case 3:
				w.exec(fmt.Sprintf("DELETE FROM {old}.note WHERE page=%d", id))
			case 4:
				w.exec(fmt.Sprintf("INSERT INTO {old}.note VALUES (%d, 'x%d') ON DUPLICATE KEY UPDATE note=VALUES(note)", id, random.IntN(1000)))
			}
			keys = append(keys, key)
		}
		res, err := p.Convert(ctx(t), w.c, keys)
		if err != nil || len(res.Rejected) > 0 {
			t.Fatal(err, rejections(res.Rejected))
		}
		if different, err := p.CompareObjects(ctx(t), w.c, keys); err != nil || len(different) > 0 {
			t.Fatal(err, shown(different))
		}
		w.exec("COMMIT")
	}
	w.wantSame(articlesWant, articlesHave)
	if _, different := w.compare(p, 1000); len(different) > 0 {
		t.Error(different)
	}
}

// testPushdown: the condition on the key must reach the old tables, through a
// join, a grouping and a union.
func testPushdown(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, append(pages, "CREATE TABLE {old}.page2 LIKE {old}.page")...)
	w.fillPages(3000)
	w.exec("INSERT INTO {old}.page2 SELECT id+10000, title, words FROM {old}.page", "ANALYZE TABLE {old}.page, {old}.page2, {old}.note")
	for name, sql := range map[string]string{
		"join":  articles().Select,
		"group": "SELECT p.id AS article_id, MAX(p.title) AS title, COUNT(*) AS words FROM {old}.page p LEFT JOIN {old}.note n ON n.page=p.id GROUP BY p.id",
		"union": "SELECT id AS article_id, title FROM {old}.page UNION ALL SELECT id, title FROM {old}.page2",
	} {
		c := articles()
		c.Select = sql
		p := w.prepare(c)
		for what, condition := range map[string]string{
			"objects": p.key.in(p.selectPlace(), [][]rows.Cell{key("5"), key("17"), key("10300")}),
			"range":   p.key.between(p.selectPlace(), key("100"), key("110")),
		} {
			for _, line := range w.rows("EXPLAIN SELECT " + p.writtenList("c.") + " FROM " + p.derived(nil) + " c WHERE " + condition) {
				f := strings.Split(line, "|")
				if table, access := f[2], f[3]; access == "ALL" && !strings.HasPrefix(table, "<") || access == "index" {
					t.Errorf("%s, %s: table %s is read as a whole: %s", name, what, table, line)
				}
			}
		}
	}
	// And with keys of two columns.
	w.exec("CREATE TABLE {old}.l (a INT, b INT, v INT, PRIMARY KEY (a,b))", "INSERT INTO {old}.l SELECT seq DIV 10, seq MOD 10, seq FROM seq_1_to_5000", "CREATE TABLE {new}.l LIKE {old}.l", "ANALYZE TABLE {old}.l")
	w.read()
	p := w.prepare(Conversion{Into: "l", Key: []string{"a", "b"}, From: []From{{Table: "l", Key: []string{"a", "b"}}}, Select: "SELECT a, b, v+1 AS v FROM {old}.l"})
	for _, condition := range []string{p.key.in(p.selectPlace(), [][]rows.Cell{key("5", "1"), key("17", "3")}), p.key.between(p.selectPlace(), key("5", "1"), key("5", "9"))} {
		for _, line := range w.rows("EXPLAIN SELECT * FROM " + p.derived(nil) + " c WHERE " + condition) {
			if f := strings.Split(line, "|"); f[3] != "range" {
				t.Errorf("%s: %s", condition, line)
			}
		}
	}
}

func testBisection(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(500)
	w.exec("UPDATE {old}.page SET words=-1 WHERE id=77", "UPDATE {old}.page SET words=70000 WHERE id=410", "UPDATE {old}.page SET title=REPEAT('x',31) WHERE id=78")
	p := w.prepare(articles())
	got := strings.Join(rejections(w.all(p, 300)), "\n")
	for _, want := range []string{"77: Out of range value for column 'words'", "78: Data too long for column 'title'", "410: Out of range value"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != 3 {
		t.Errorf("%d objects were refused:\n%s", n, got)
	}
	w.wantRows("SELECT COUNT(*) FROM {new}.article", "497")
	n, different := w.compare(p, 200)
	if n != 500 || fmt.Sprint(different) != "[410 77 78]" {
		t.Errorf("%d compared, %v differ", n, different)
	}
	w.exec("UPDATE {old}.page SET words=1, title=id WHERE id IN (77,78,410)")
	if res := w.convert(p, key("77"), key("78"), key("410")); len(res.Rejected) > 0 || res.Rows != 3 {
		t.Errorf("%+v", res)
	}
	w.wantSame(articlesWant, articlesHave)
}

// testDuplicates: a unique conflict is never solved by overwriting.
func testDuplicates(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.exec("INSERT INTO {old}.page VALUES (1,'one',1),(2,'two',2),(3,'ONE',3),(4,'four',4)")
	p := w.prepare(articles())
	rejected := w.all(p, 10)
	if got := rejections(rejected); len(got) != 1 || !strings.Contains(got[0], "Duplicate entry") {
		t.Fatal(got)
	}
	w.wantRows("SELECT article_id, title FROM {new}.article ORDER BY 1", "1|one", "2|two", "4|four")
	w.exec("UPDATE {old}.page SET title='Two' WHERE id=4")
	if got := rejections(w.convert(p, key("4")).Rejected); len(got) != 1 {
		t.Error(got)
	}
	w.wantRows("SELECT article_id, title FROM {new}.article ORDER BY 1", "1|one", "2|two", "4|four")
	// Two objects of one call.
	w.exec("INSERT INTO {old}.page VALUES (5,'same',1),(6,'same',2),(7,'other',3)")
	if got := rejections(w.convert(p, key("5"), key("6"), key("7")).Rejected); len(got) != 1 || !strings.HasPrefix(got[0], "6: ") {
		t.Error(got)
	}
	w.wantRows("SELECT article_id, title FROM {new}.article ORDER BY 1", "1|one", "2|two", "4|four", "5|same", "7|other")
}

// testMoves: titles swapped, and a row that moves to another object, must not
// depend on the order.
func testMoves(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, append(pages,
		"CREATE TABLE {old}.rev (id INT PRIMARY KEY, page INT NOT NULL, KEY(page))",
		"CREATE TABLE {new}.rev (id INT PRIMARY KEY, page INT NOT NULL, KEY(page))")...)
	w.exec("INSERT INTO {old}.page VALUES (1,'one',1),(2,'two',2),(3,'three',3)", "INSERT INTO {old}.rev VALUES (10,1),(11,1),(20,2)")
	p := w.prepare(articles())
	w.all(p, 10)
	w.exec("UPDATE {old}.page SET title='x' WHERE id=1", "UPDATE {old}.page SET title='one' WHERE id=2", "UPDATE {old}.page SET title='two' WHERE id=1")
	if res := w.convert(p, key("1"), key("2")); len(res.Rejected) > 0 {
		t.Error(rejections(res.Rejected))
	}
	// A bad one beside them must not change that.
	w.exec("UPDATE {old}.page SET title='y' WHERE id=1", "UPDATE {old}.page SET title='two' WHERE id=2", "UPDATE {old}.page SET title='one' WHERE id=1", "UPDATE {old}.page SET words=-1 WHERE id=3")
	if res := w.convert(p, key("1"), key("2"), key("3")); len(res.Rejected) != 1 {
		t.Error(rejections(res.Rejected))
	}
	w.wantRows("SELECT article_id, title FROM {new}.article ORDER BY 1", "1|one", "2|two", "3|three")
	r := w.prepare(Conversion{Into: "rev", Key: []string{"page"}, From: []From{{Table: "rev", Key: []string{"page"}}}, Select: "SELECT id, page FROM {old}.rev"})
	w.all(r, 1)
	w.exec("UPDATE {old}.rev SET page=2 WHERE id=10")
	ch := &rows.Change{Table: rows.Name{Database: w.old, Table: "rev"}, Op: rows.Update, Before: rows.Row(key("10", "1")), After: rows.Row(key("10", "2"))}
	if res := w.convert(r, r.Dirty(ch)...); len(res.Rejected) > 0 || res.Rows != 1 {
		t.Errorf("%+v", res)
	}
	w.wantRows("SELECT id, page FROM {new}.rev ORDER BY 1", "10|2", "11|1", "20|2")
}

func testRejectedStay(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.exec("INSERT INTO {old}.page VALUES (1,'one',1),(2,'two',2)")
	p := w.prepare(articles())
	w.all(p, 10)
	w.exec("UPDATE {old}.page SET words=-5")
	if res := w.convert(p, key("1"), key("2")); len(res.Rejected) != 2 || res.Rows != 0 {
		t.Errorf("%+v", res)
	}
	w.wantRows("SELECT article_id, words FROM {new}.article ORDER BY 1", "1|1", "2|2")
}

// testOnlyDifferences: rows that are as they should be are not touched.
func testOnlyDifferences(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, append(pages,
		"CREATE TABLE {new}.log (what VARCHAR(40))",
		"CREATE TRIGGER {new}.d AFTER DELETE ON {new}.article FOR EACH ROW INSERT INTO {new}.log VALUES (CONCAT('delete ', OLD.article_id))",
		"CREATE TRIGGER {new}.i AFTER INSERT ON {new}.article FOR EACH ROW INSERT INTO {new}.log VALUES (CONCAT('insert ', NEW.article_id))",
		"CREATE TRIGGER {new}.u AFTER UPDATE ON {new}.article FOR EACH ROW INSERT INTO {new}.log VALUES (CONCAT('update ', NEW.article_id))")...)
	w.fillPages(20)
	p := w.prepare(articles())
	w.all(p, 50)
	w.exec("DELETE FROM {new}.log", "UPDATE {old}.page SET title='case' WHERE id=4")
	var keys [][]rows.Cell
	for i := range 20 {
		keys = append(keys, key(fmt.Sprint(i)))
	}
	w.convert(p, keys...)
	w.wantRows("SELECT what FROM {new}.log", "delete 4", "insert 4")
	// To the collation, this is no change.
	w.exec("DELETE FROM {new}.log", "UPDATE {old}.page SET title='CASE' WHERE id=4")
	w.convert(p, keys...)
	w.wantRows("SELECT what FROM {new}.log", "delete 4", "insert 4")
	w.wantSame(articlesWant, articlesHave)
}

// testAutoIDs: an id that the server gave stays when its row is made anew.
func testAutoIDs(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s,
		"CREATE TABLE {old}.member (name VARCHAR(20) PRIMARY KEY, mail VARCHAR(20))",
		"CREATE TABLE {new}.account (id INT AUTO_INCREMENT PRIMARY KEY, login VARCHAR(20) NOT NULL UNIQUE, mail VARCHAR(20))",
		"INSERT INTO {old}.member VALUES ('ada','a@x'),('bob','b@x'),('cyd','c@x')")
	p := w.prepare(Conversion{Into: "account", Key: []string{"login"}, From: []From{{Table: "member", Key: []string{"name"}}}, Select: "SELECT name AS login, mail FROM {old}.member"})
	w.all(p, 1)
	w.wantRows("SELECT id, login, mail FROM {new}.account ORDER BY id", "1|ada|a@x", "2|bob|b@x", "3|cyd|c@x")
	w.exec("UPDATE {old}.member SET mail='new' WHERE name='bob'", "INSERT INTO {old}.member VALUES ('dan','d@x')", "DELETE FROM {old}.member WHERE name='ada'")
	w.convert(p, key("ada"), key("bob"), key("dan"))
	got := w.rows("SELECT id, login, mail FROM {new}.account ORDER BY id")
	if len(got) != 3 || got[0] != "2|bob|new" || got[1] != "3|cyd|c@x" || !strings.HasSuffix(got[2], "|dan|d@x") {
		t.Error(got)
	}
	if n, different := w.compare(p, 2); n != 3 || len(different) > 0 {
		t.Error(n, different)
	}
}

func testAdd(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s,
		"CREATE TABLE {old}.rev (id INT PRIMARY KEY, who VARCHAR(20) NOT NULL, KEY(who))",
		"CREATE TABLE {new}.actor (actor_id INT AUTO_INCREMENT PRIMARY KEY, actor_name VARCHAR(20) NOT NULL, seed INT NOT NULL DEFAULT 0, UNIQUE(actor_name))",
		"INSERT INTO {new}.actor VALUES (1,'Maintenance',1),(2,'bob',1)",
		"INSERT INTO {old}.rev VALUES (1,'ada'),(2,'bob'),(3,'ada'),(4,'cyd')")
	p := w.prepare(Conversion{Into: "actor", Key: []string{"actor_name"}, From: []From{{Table: "rev", Key: []string{"who"}}}, Add: true, Select: "SELECT DISTINCT who AS actor_name FROM {old}.rev"})
	if r := w.all(p, 2); len(r) > 0 {
		t.Fatal(rejections(r))
	}
	want := []string{"1|Maintenance|1", "2|bob|1", "3|ada|0", "4|cyd|0"}
	w.wantRows("SELECT * FROM {new}.actor ORDER BY 1", want...)
	w.exec("DELETE FROM {old}.rev WHERE who='ada'", "INSERT INTO {old}.rev VALUES (9,'eve')")
	if n, different := w.compare(p, 10); n != 3 || fmt.Sprint(different) != "[eve]" {
		t.Error(n, different)
	}
	w.convert(p, key("ada"), key("eve"), key("bob"))
	got := w.rows("SELECT * FROM {new}.actor ORDER BY 1")
	if len(got) != 5 || fmt.Sprint(got[:4]) != fmt.Sprint(want) || !strings.HasSuffix(got[4], "|eve|0") {
		t.Error(got)
	}
	if _, different := w.compare(p, 10); len(different) > 0 {
		t.Error(different)
	}
}

func testNoRows(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(10)
	c := articles()
	c.Select += " WHERE p.words <> 4"
	p := w.prepare(c)
	w.all(p, 3)
	w.wantRows("SELECT COUNT(*) FROM {new}.article", "9")
	w.exec("UPDATE {old}.page SET words=4 WHERE id=5", "UPDATE {old}.page SET words=5 WHERE id=4")
	w.convert(p, key("4"), key("5"), key("77"))
	w.wantRows("SELECT article_id FROM {new}.article WHERE article_id IN (4,5)", "4")
	if n, different := w.compare(p, 3); n != 10 || len(different) > 0 {
		t.Error(n, different)
	}
	if res := w.convert(p); res.Objects != 0 {
		t.Errorf("%+v", res)
	}
}

func testCompositeKeys(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s,
		"CREATE TABLE {old}.link (a INT, kind ENUM('z','a','m') NOT NULL, at DATE NOT NULL, note VARCHAR(9), PRIMARY KEY (a,kind,at))",
		"CREATE TABLE {new}.link (a INT, kind ENUM('a','m','z') NOT NULL, at DATETIME NOT NULL, note VARCHAR(9), PRIMARY KEY (a,kind,at))")
	w.exec("INSERT INTO {old}.link SELECT seq DIV 30, ELT(1+seq MOD 3,'z','a','m'), DATE '2026-01-01' + INTERVAL seq DAY, seq FROM seq_1_to_300", "INSERT INTO {old}.link VALUES (7,'a','0000-00-00','zero')")
	p := w.prepare(Conversion{Into: "link", Key: []string{"a", "kind", "at"}, From: []From{{Table: "link", Key: []string{"a", "kind", "at"}}}, Select: "SELECT a, kind, at, note FROM {old}.link"})
	if r := w.all(p, 13); len(r) > 0 {
		t.Fatal(rejections(r))
	}
	w.wantSame("SELECT a, CONCAT(kind), CONCAT(at,' 00:00:00'), note FROM {old}.link ORDER BY 1,2,3", "SELECT a, CONCAT(kind), at, note FROM {new}.link ORDER BY 1,2,3")
	if n, different := w.compare(p, 17); n != 301 || len(different) > 0 {
		t.Error(n, different)
	}
	w.exec("UPDATE {old}.link SET note='x' WHERE a=7 AND kind='a' AND at='0000-00-00'")
	if res := w.convert(p, key("7", "a", "0000-00-00")); res.Rows != 1 || len(res.Rejected) > 0 {
		t.Errorf("%+v", res)
	}
	w.wantRows("SELECT note FROM {new}.link WHERE at=0", "x")
}

func testKindsOfKeys(t *testing.T, s *dbtest.Server) {
	for _, kind := range []struct{ name, typ, values, other string }{
		{"varbinary", "VARBINARY(20)", `('a'),('A'),('a\0b'),(''),('\'"\\'),(X'ff00fe'),('a ')`, "VARBINARY(30)"},
		{"binary", "BINARY(4)", `('a'),(X'00000000'),(X'ffffffff')`, "BINARY(4)"},
		{"latin1 bin", "VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin", `('a'),('A'),('é'),('€'),('')`, "VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin"},
		{"utf8 ci", "VARCHAR(20) CHARACTER SET utf8mb4", `('a'),('é x'),('🙂'),('b''c')`, "VARCHAR(30) CHARACTER SET utf8mb4"},
		{"sjis", "VARCHAR(20) CHARACTER SET sjis", `('表'),('a'),('ソ')`, "VARCHAR(20) CHARACTER SET sjis"},
		{"bigint", "BIGINT UNSIGNED", `(0),(18446744073709551615),(10),(9)`, "BIGINT UNSIGNED"},
		{"negative", "INT", `(-2147483648),(-1),(0),(9),(10)`, "BIGINT"},
		{"decimal", "DECIMAL(20,4)", `(-1.5),(0.0001),(10),(9)`, "DECIMAL(20,4)"},
		{"datetime", "DATETIME(6)", `('2026-01-01 00:00:00.000001'),('0000-00-00'),('2026-02-30')`, "DATETIME(6)"},
		{"timestamp", "TIMESTAMP(3)", `('2026-01-01 00:00:00.001'),('2038-01-19 03:14:07')`, "TIMESTAMP(3)"},
		{"time", "TIME", `('-838:59:59'),('00:00:00'),('23:00:00')`, "TIME"},
		{"uuid", "UUID", `('123e4567-e89b-12d3-a456-426655440000'),('00000000-0000-0000-0000-000000000001')`, "UUID"},
		{"inet6", "INET6", `('::'),('2001:db8::1'),('::ffff:1.2.3.4')`, "INET6"},
		{"year", "YEAR", `(0),(1901),(2155)`, "YEAR"},
		{"bit", "BIT(12)", `(0),(5),(4095)`, "BIT(12)"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			w := newWorld(t, s, "CREATE TABLE {old}.k (k "+kind.typ+" NOT NULL PRIMARY KEY, v INT NOT NULL DEFAULT 1)", "CREATE TABLE {new}.k (k "+kind.other+" NOT NULL PRIMARY KEY, v INT NOT NULL)", "INSERT INTO {old}.k (k) VALUES "+kind.values)
			p := w.prepare(Conversion{Into: "k", Key: []string{"k"}, From: []From{{Table: "k", Key: []string{"k"}}}, Select: "SELECT k, v FROM {old}.k"})
			if r := w.all(p, 2); len(r) > 0 {
				t.Fatal(rejections(r))
			}
			w.wantSame("SELECT HEX(k), v FROM {old}.k ORDER BY k", "SELECT HEX(k), v FROM {new}.k ORDER BY k")
			// Every key, as a change would give it, finds its object.
			table := w.source.Tables[0]
			total := 0
			var changed [][]rows.Cell
			err := rows.Query(w.c, "SELECT "+rows.SelectList(table)+" FROM "+table.Name.SQL(), func(v [][]byte) error {
				cell, err := rows.ParseText(&table.Columns[0], v[0])
				row := rows.Row{append(rows.Cell{}, cell...), rows.Cell("1")}
				changed = append(changed, p.Dirty(&rows.Change{Table: table.Name, Op: rows.Update, Before: row, After: row})...)
				total++
				return err
			})
			if err != nil || len(changed) != total {
				t.Fatal(err, shown(changed))
			}
			w.exec("UPDATE {old}.k SET v=v+1")
			for _, k := range changed {
				if res := w.convert(p, k); res.Rows != 1 || len(res.Rejected) > 0 {
					t.Errorf("%v: %+v", shown([][]rows.Cell{k}), res)
				}
			}
			w.wantSame("SELECT HEX(k), v FROM {old}.k ORDER BY k", "SELECT HEX(k), v FROM {new}.k ORDER BY k")
			if n, different := w.compare(p, 2); n != total || len(different) > 0 {
				t.Error(n, different)
			}
			// Where Go claims to know the order, it is the server's.
			var keys [][]rows.Cell
			for after := []rows.Cell(nil); ; {
				upto, n, err := p.Next(ctx(t), w.c, after, 1)
				if err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					break
				}
				keys, after = append(keys, upto), upto
			}
			for i := 1; i < len(keys); i++ {
				if order, known := p.CompareKeys(keys[i-1], keys[i]); known && order >= 0 {
					t.Errorf("%s is not before %s", shown(keys[i-1:i]), shown(keys[i:i+1]))
				}
			}
		})
	}
}

// testCollations: objects that one side tells apart and the other does not. No
// row of another object may go.
func testCollations(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s,
		"CREATE TABLE {old}.bin (id INT PRIMARY KEY, name VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin NOT NULL, KEY(name))",
		"CREATE TABLE {new}.bin (id INT PRIMARY KEY, name VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL, KEY(name))",
		"CREATE TABLE {old}.ci (id INT PRIMARY KEY, name VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci NOT NULL, v INT, KEY(name))",
		"CREATE TABLE {new}.ci (id INT PRIMARY KEY, name VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, v INT, KEY(name))",
		"INSERT INTO {old}.bin VALUES (1,'foo'),(2,'Foo'),(3,'FOO'),(4,'bar'),(5,'é')",
		"INSERT INTO {old}.ci VALUES (1,'foo',1),(2,'Foo',1),(3,'FOO',1),(4,'bar',1),(5,'é',1),(6,'É',1),(7,'zz',1)")
	bin := w.prepare(Conversion{Into: "bin", Key: []string{"name"}, From: []From{{Table: "bin", Key: []string{"name"}}}, Select: "SELECT id, name FROM {old}.bin"})
	w.all(bin, 1)
	w.convert(bin, key("Foo"))
	w.wantRows("SELECT id, name FROM {new}.bin ORDER BY 1", "1|foo", "2|Foo", "3|FOO", "4|bar", "5|é")
	w.exec("UPDATE {old}.bin SET id=20 WHERE id=2", "DELETE FROM {old}.bin WHERE id=3")
	w.convert(bin, key("Foo"), key("FOO"))
	w.wantRows("SELECT id, name FROM {new}.bin ORDER BY 1", "1|foo", "4|bar", "5|é", "20|Foo")
	if n, different := w.compare(bin, 1); n != 4 || len(different) > 0 {
		t.Error(n, different)
	}
	ci := w.prepare(Conversion{Into: "ci", Key: []string{"name"}, From: []From{{Table: "ci", Key: []string{"name"}}}, Select: "SELECT id, name, v FROM {old}.ci"})
	w.all(ci, 1)
	w.wantRows("SELECT COUNT(*) FROM {new}.ci", "7")
	w.exec("UPDATE {old}.ci SET v=2", "DELETE FROM {old}.ci WHERE id=3")
	// Two spellings of one object in one call, and not that of every row.
	if res := w.convert(ci, key("foo"), key("fOO"), key("FOO"), key("\xe9")); len(res.Rejected) > 0 {
		t.Error(rejections(res.Rejected))
	}
	w.wantRows("SELECT id, v FROM {new}.ci ORDER BY 1", "1|2", "2|2", "4|1", "5|2", "6|2", "7|1")
	if _, different := w.compare(ci, 2); fmt.Sprint(different) != "[bar zz]" {
		t.Error(different)
	}
	// A row of the new table that no old one knows.
	w.exec("INSERT INTO {new}.ci VALUES (99,'nobody',1)")
	if _, different := w.compare(ci, 2); fmt.Sprint(different) != "[bar nobody zz]" {
		t.Error(different)
	}
}

func testMixedSets(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s,
		"CREATE TABLE {old}.a (name VARCHAR(20) CHARACTER SET latin1 PRIMARY KEY)",
		"CREATE TABLE {old}.b (name VARCHAR(20) CHARACTER SET utf8mb3 PRIMARY KEY, v INT)",
		"CREATE TABLE {new}.c (name VARCHAR(20) CHARACTER SET utf8mb4 PRIMARY KEY, v INT)",
		"INSERT INTO {old}.a VALUES ('é'),('€'),('x')", "INSERT INTO {old}.b VALUES ('é',1),('€',2),('日',3)")
	p := w.prepare(Conversion{Into: "c", Key: []string{"name"}, From: []From{{Table: "a", Key: []string{"name"}}, {Table: "b", Key: []string{"name"}}},
		Select: "SELECT CONVERT(a.name USING utf8mb4) AS name, b.v FROM {old}.a a LEFT JOIN {old}.b b ON b.name=CONVERT(a.name USING utf8mb3)"})
	a, b := rows.Name{Database: w.old, Table: "a"}, rows.Name{Database: w.old, Table: "b"}
	left := p.Dirty(&rows.Change{Table: a, Op: rows.Insert, After: rows.Row{rows.Cell("\x80")}})
	right := p.Dirty(&rows.Change{Table: b, Op: rows.Insert, After: rows.Row{rows.Cell("€"), nil}})
	if id(left[0]) != id(right[0]) {
		t.Errorf("%q and %q", left, right)
	}
	w.all(p, 1)
	w.wantRows("SELECT name, v FROM {new}.c ORDER BY v", "x|NULL", "é|1", "€|2")
	w.exec("UPDATE {old}.b SET v=7")
	w.convert(p, left[0], key("日"), key("é"))
	w.wantRows("SELECT name, v FROM {new}.c ORDER BY HEX(name)", "x|NULL", "é|7", "€|7")
	if n, different := w.compare(p, 2); n != 3 || len(different) > 0 {
		t.Error(n, different)
	}
}

func testNullKeys(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s,
		"CREATE TABLE {old}.k (id INT PRIMARY KEY, parent INT, KEY(parent))",
		"CREATE TABLE {new}.k (id INT PRIMARY KEY, parent INT, KEY(parent))",
		"CREATE TABLE {new}.strict (id INT PRIMARY KEY, parent INT NOT NULL, KEY(parent))",
		"INSERT INTO {old}.k VALUES (1,NULL),(2,NULL),(3,1),(4,1)")
	c := Conversion{Into: "k", Key: []string{"parent"}, From: []From{{Table: "k", Key: []string{"parent"}}}, Select: "SELECT id, parent FROM {old}.k"}
	p := w.prepare(c)
	w.all(p, 1)
	w.wantRows("SELECT id, parent FROM {new}.k ORDER BY 1", "1|NULL", "2|NULL", "3|1", "4|1")
	w.exec("DELETE FROM {old}.k WHERE id=2")
	w.convert(p, key("NULL"), key("1"))
	w.wantRows("SELECT id, parent FROM {new}.k ORDER BY 1", "1|NULL", "3|1", "4|1")
	if n, different := w.compare(p, 1); n != 2 || len(different) > 0 {
		t.Error(n, different)
	}
	c.Into = "strict"
	if got := rejections(w.all(w.prepare(c), 10)); len(got) != 1 || !strings.HasPrefix(got[0], "NULL: Column 'parent' cannot be null") {
		t.Error(got)
	}
	w.wantRows("SELECT id FROM {new}.strict ORDER BY 1", "3", "4")
	// Rows without key where no table has NULL: they would belong to nobody.
	w.exec("CREATE TABLE {old}.r (id INT PRIMARY KEY)", "INSERT INTO {old}.r VALUES (1),(7)", "CREATE TABLE {new}.r (id INT NOT NULL, x INT PRIMARY KEY)")
	w.read()
	q := w.prepare(Conversion{Into: "r", Key: []string{"id"}, From: []From{{Table: "r", Key: []string{"id"}}}, Select: "SELECT r.id, k.id AS x FROM {old}.k k LEFT JOIN {old}.r r ON r.id=k.id"})
	if _, err := q.ConvertRange(ctx(t), w.c, nil, key("7")); err == nil || !strings.Contains(err.Error(), "would belong to no object") {
		t.Error(err)
	}
}

func testHostileNames(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s,
		"CREATE TABLE {old}.`a``b'\"; DROP` (`k``'` INT PRIMARY KEY, `日本 \\` TEXT CHARACTER SET utf8mb4)",
		"CREATE TABLE {new}.`select` (`from``'` INT PRIMARY KEY, `:keys` TEXT CHARACTER SET utf8mb4, `{o}` INT DEFAULT 3)",
		"INSERT INTO {old}.`a``b'\"; DROP` VALUES (1,'x'),(2,'y')")
	p := w.prepare(Conversion{Name: "no `name'", Into: "select", Key: []string{"from`'"}, From: []From{{Table: "a`b'\"; DROP", Key: []string{"k`'"}}},
		Select: "SELECT `k``'` AS `from``'`, CONCAT(`日本 \\`, ':keys {old} ;') AS `:keys` FROM {old}.`a``b'\"; DROP`;"})
	w.all(p, 1)
	w.wantRows("SELECT * FROM {new}.`select` ORDER BY 1", "1|x:keys {old} ;|3", "2|y:keys {old} ;|3")
	w.exec("UPDATE {old}.`a``b'\"; DROP` SET `日本 \\`='z'")
	w.convert(p, key("1"))
	if n, different := w.compare(p, 5); n != 2 || fmt.Sprint(different) != "[2]" {
		t.Error(n, different)
	}
}

func testParameters(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(40)
	for name, sql := range map[string]string{
		"object": "SELECT p.id AS article_id, p.title, p.words, CONCAT(n.note,'…') AS note FROM {old}.page p LEFT JOIN {old}.note n ON n.page=:article_id WHERE p.id=:article_id",
		"keys":   "SELECT p.id AS article_id, p.title, p.words, CONCAT(n.note,'…') AS note FROM {old}.page p LEFT JOIN {old}.note n ON n.page=p.id WHERE p.id IN (:keys)",
	} {
		w.exec("DELETE FROM {new}.article")
		c := articles()
		c.Select = sql
		p := w.prepare(c)
		w.exec("UPDATE {old}.page SET words=70000 WHERE id=8")
		if r := rejections(w.all(p, 7)); len(r) != 1 || !strings.HasPrefix(r[0], "8: ") {
			t.Error(name, r)
		}
		w.exec("UPDATE {old}.page SET words=8 WHERE id IN (8,9)")
		w.convert(p, key("8"), key("9"))
		w.wantSame(articlesWant, articlesHave)
		if n, different := w.compare(p, 15); n != 40 || len(different) > 0 {
			t.Error(name, n, different)
		}
	}
}

func testVia(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s,
		"CREATE TABLE {old}.customer (id INT PRIMARY KEY, name VARCHAR(20))",
		"CREATE TABLE {old}.orders (id INT PRIMARY KEY, customer INT, KEY(customer))",
		"CREATE TABLE {new}.order_view (id INT PRIMARY KEY, customer VARCHAR(20))",
		"INSERT INTO {old}.customer VALUES (1,'ada'),(2,'bob')", "INSERT INTO {old}.orders VALUES (10,1),(11,1),(20,2)")
	p := w.prepare(Conversion{Into: "order_view", Key: []string{"id"},
		From:   []From{{Table: "orders", Key: []string{"id"}}, {Table: "customer", Key: []string{"id"}, Via: "SELECT id FROM {old}.orders WHERE customer=:id"}},
		Select: "SELECT o.id, c.name AS customer FROM {old}.orders o JOIN {old}.customer c ON c.id=o.customer"})
	w.all(p, 10)
	customer := rows.Name{Database: w.old, Table: "customer"}
	if !p.HasVia(customer) || p.HasVia(rows.Name{Database: w.old, Table: "orders"}) {
		t.Error("HasVia")
	}
	w.exec("UPDATE {old}.customer SET name='Ada' WHERE id=1")
	ch := &rows.Change{Table: customer, Op: rows.Update, Before: rows.Row(key("1", "ada")), After: rows.Row(key("1", "Ada"))}
	if direct := p.Dirty(ch); len(direct) > 0 {
		t.Error(shown(direct))
	}
	keys, err := p.DirtyVia(ctx(t), w.c, []*rows.Change{ch, ch})
	if err != nil || fmt.Sprint(shown(keys)) != "[10 11]" {
		t.Fatal(shown(keys), err)
	}
	w.convert(p, keys...)
	w.wantRows("SELECT * FROM {new}.order_view ORDER BY 1", "10|Ada", "11|Ada", "20|bob")
	// A table by via has its own number of columns, in refused ranges as well.
	w.exec("CREATE TABLE {old}.two (a INT, b INT, PRIMARY KEY (a,b))", "CREATE TABLE {new}.two (a INT, b INT, c VARCHAR(3), PRIMARY KEY (a,b))", "INSERT INTO {old}.two VALUES (1,1),(1,2),(2,1)")
	w.read()
	two := w.prepare(Conversion{Into: "two", Key: []string{"a", "b"},
		From:   []From{{Table: "two", Key: []string{"a", "b"}}, {Table: "customer", Key: []string{"id"}, Via: "SELECT a, b FROM {old}.two WHERE a=:id"}},
		Select: "SELECT t.a, t.b, IF(t.b=2, 'long', c.name) AS c FROM {old}.two t JOIN {old}.customer c ON c.id=t.a"})
	if got := rejections(w.all(two, 10)); len(got) != 1 || !strings.HasPrefix(got[0], "1|2: Data too long") {
		t.Error(got)
	}
}

// testPlus: the rows of two tables become those of one, whose numbers are moved.
func testPlus(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s,
		"CREATE TABLE {old}.a (id INT UNSIGNED PRIMARY KEY, v INT)", "CREATE TABLE {old}.b (id INT UNSIGNED PRIMARY KEY, v INT)", "CREATE TABLE {new}.c (id BIGINT PRIMARY KEY, v INT)",
		"INSERT INTO {old}.a SELECT seq, seq FROM seq_1_to_20", "INSERT INTO {old}.b SELECT seq, -seq FROM seq_1_to_30")
	for _, plus := range []int64{1000, -1000} {
		w.exec("DELETE FROM {new}.c")
		p := w.prepare(Conversion{Into: "c", Key: []string{"id"}, From: []From{{Table: "a", Key: []string{"id"}}, {Table: "b", Key: []string{"id"}, Plus: plus}},
			Select: fmt.Sprintf("SELECT CAST(id AS SIGNED) AS id, v FROM {old}.a UNION ALL SELECT CAST(id AS SIGNED) + (%d), v FROM {old}.b", plus)})
		if r := w.all(p, 7); len(r) > 0 {
			t.Fatal(rejections(r))
		}
		w.wantSame(fmt.Sprintf("SELECT CAST(id AS SIGNED), v FROM {old}.a UNION ALL SELECT CAST(id AS SIGNED) + (%d), v FROM {old}.b ORDER BY 1", plus), "SELECT id, v FROM {new}.c ORDER BY 1")
		b := rows.Name{Database: w.old, Table: "b"}
		dirty := p.Dirty(&rows.Change{Table: b, Op: rows.Update, Before: rows.Row(key("7", "-7")), After: rows.Row(key("8", "-7"))})
		if got := fmt.Sprint(shown(dirty)); got != fmt.Sprintf("[%d %d]", 7+plus, 8+plus) && got != fmt.Sprintf("[%d %d]", 8+plus, 7+plus) {
			t.Error(got)
		}
		w.exec("UPDATE {old}.b SET v=5 WHERE id IN (7,8)")
		w.convert(p, dirty...)
		if n, different := w.compare(p, 7); n != 50 || len(different) > 0 {
			t.Error(n, different)
		}
	}
}

// testStrangers: keys that no table of from has would never be made anew.
func testStrangers(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(10)
	w.exec("CREATE TABLE {old}.stub (id INT PRIMARY KEY)", "INSERT INTO {old}.stub VALUES (5),(500)")
	w.read()
	c := articles()
	c.Select = "SELECT id AS article_id, title FROM {old}.page UNION ALL SELECT id+1000, id FROM {old}.stub"
	c.From = append(c.From, From{Table: "stub", Key: []string{"id"}})
	p := w.prepare(c)
	upto, n, err := p.Next(ctx(t), w.c, nil, 100)
	if err != nil || n != 10 {
		t.Fatal(n, err)
	}
	w.txn(func() error { _, err := p.ConvertRange(ctx(t), w.c, nil, upto); return err })
	// The second table has objects behind the first one's.
	upto, n, err = p.Next(ctx(t), w.c, upto, 100)
	if err != nil || n != 1 || fmt.Sprint(shown([][]rows.Cell{upto})) != "[500]" {
		t.Fatal(n, upto, err)
	}
	_, _, err = p.CompareRange(ctx(t), w.c, key("10"), upto)
	if err == nil || !strings.Contains(err.Error(), "no table of from has") {
		t.Error(err)
	}
}

func testComparison(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(100)
	p := w.prepare(articles())
	w.all(p, 30)
	w.exec("UPDATE {new}.article SET note='x' WHERE article_id=3", "DELETE FROM {new}.article WHERE article_id=50", "UPDATE {new}.article SET words=NULL WHERE article_id=51",
		"UPDATE {new}.article SET title=UPPER(title) WHERE article_id=52", "INSERT INTO {new}.article (article_id,title) VALUES (5000,'behind all'),(-1,'before all')")
	if n, different := w.compare(p, 30); n != 100 || fmt.Sprint(different) != "[-1 3 50 5000 51 52]" {
		t.Error(n, different)
	}
	different, err := p.CompareObjects(ctx(t), w.c, [][]rows.Cell{key("1"), key("3"), key("50"), key("5000"), key("777")})
	if err != nil || fmt.Sprint(shown(different)) != "[3 50 5000]" {
		t.Error(shown(different), err)
	}
	w.wantRows("SELECT COUNT(*) FROM {new}.article", "101") // nothing was mended
	w.convert(p, key("3"), key("50"), key("51"), key("52"), key("5000"), key("-1"))
	if n, different := w.compare(p, 30); n != 100 || len(different) > 0 {
		t.Error(n, different)
	}
}

func testFaults(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, append(pages, "CREATE TABLE {new}.my (article_id INT PRIMARY KEY) ENGINE=MyISAM",
		"CREATE TABLE {new}.must (article_id INT PRIMARY KEY, x INT NOT NULL)", "CREATE TABLE {new}.loose (article_id INT, x INT)",
		"CREATE TABLE {new}.gen (article_id INT PRIMARY KEY, g INT AS (article_id+1))")...)
	for _, c := range []struct {
		name   string
		change func(*Conversion)
		want   []string
	}{
		{"unknown tables", func(c *Conversion) { c.Into = "nope"; c.From[0].Table = "nada" }, []string{`no table "nope"`, `from[0]: there is no table "nada"`}},
		{"unknown columns", func(c *Conversion) { c.Key = []string{"artcle_id"}; c.From[1].Key = []string{"pag"} }, []string{`no column "artcle_id"`, `no column "pag"; it has page, note`}},
		{"key length", func(c *Conversion) { c.From[0].Key = []string{"id", "words"} }, []string{"from[0]: the key has 2 columns"}},
		{"no from", func(c *Conversion) { c.From = nil }, []string{"from has no tables"}},
		{"no key", func(c *Conversion) { c.Key = nil; c.From = nil }, []string{"the key has no columns"}},
		{"via first", func(c *Conversion) { c.From[0].Via = "SELECT 1" }, []string{"the first table drives"}},
		{"via column count", func(c *Conversion) { c.From[1].Via = "SELECT 1, 2" }, []string{"via gives 2 columns"}},
		{"via parameter", func(c *Conversion) { c.From[1].Via = "SELECT :foo" }, []string{"parameter :foo; there are :page"}},
		{"key kinds", func(c *Conversion) { c.From[1].Key = []string{"note"} }, []string{"cannot be compared"}},
		{"empty", func(c *Conversion) { c.Select = " ; " }, []string{"is empty"}},
		{"two statements", func(c *Conversion) { c.Select = "SELECT 1; DROP TABLE x" }, []string{"has a ;"}},
		{"parenthesis", func(c *Conversion) { c.Select = "SELECT 1) c WHERE (1" }, []string{") without ("}},
		{"quote", func(c *Conversion) { c.Select = "SELECT 'a" }, []string{"never closed"}},
		{"syntax", func(c *Conversion) { c.Select = "SELECT FROM" }, []string{"error in your SQL syntax"}},
		{"unknown old column", func(c *Conversion) { c.Select = "SELECT nix AS article_id FROM {old}.page" }, []string{"Unknown column 'nix'"}},
		{"parameter", func(c *Conversion) { c.Select = "SELECT :nix" }, []string{"parameter :nix; there are :keys and the key's columns :article_id"}},
		{"key not given", func(c *Conversion) { c.Select = "SELECT title FROM {old}.page" }, []string{`does not give the key's column "article_id"`}},
		{"unknown target column", func(c *Conversion) { c.Select = "SELECT id AS article_id, title, 1 AS nix FROM {old}.page" }, []string{`the SELECT gives "nix"`}},
		{"target needs a value", func(c *Conversion) { c.Into = "must"; c.Select = "SELECT id AS article_id FROM {old}.page" }, []string{`does not give column "x"`}},
		{"generated", func(c *Conversion) { c.Into = "gen"; c.Select = "SELECT id AS article_id, 1 AS g FROM {old}.page" }, []string{"which the server generates"}},
		{"no identity", func(c *Conversion) { c.Into = "loose"; c.Select = "SELECT id AS article_id FROM {old}.page" }, []string{"could not be told apart"}},
		{"engine", func(c *Conversion) { c.Into = "my"; c.Select = "SELECT id AS article_id FROM {old}.page" }, []string{"MyISAM"}},
	} {
		conv := articles()
		c.change(&conv)
		_, err := w.tryPrepare(conv)
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in %v", c.name, want, err)
			}
		}
	}
}

func testLockTimeout(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(10)
	p := w.prepare(articles())
	w.all(p, 30)
	other := s.Connect(t)
	s.Exec(t, other, "BEGIN", w.names("UPDATE {new}.article SET note='locked' WHERE article_id=4"))
	w.exec("UPDATE {old}.page SET words=99 WHERE id<6", "SET innodb_lock_wait_timeout=1", "BEGIN")
	res, err := p.Convert(ctx(t), w.c, [][]rows.Cell{key("3"), key("4")})
	if err == nil || !strings.Contains(err.Error(), "Lock wait timeout") || len(res.Rejected) > 0 {
		t.Errorf("%+v, %v", res, err)
	}
	w.exec("ROLLBACK", "SET innodb_lock_wait_timeout=50")
	s.Exec(t, other, "ROLLBACK")
	w.convert(p, key("1"), key("2"), key("3"), key("4"), key("5"))
	w.wantSame(articlesWant, articlesHave)
}

// testTransaction: whatever is done aside, the transaction stays the caller's, so
// that rows and position are committed together or not at all.
func testTransaction(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, append(pages, "CREATE TABLE {new}.name (id INT AUTO_INCREMENT PRIMARY KEY, title VARCHAR(60) CHARACTER SET latin1 NOT NULL UNIQUE)")...)
	w.fillPages(20)
	w.exec("UPDATE {old}.page SET words=-1 WHERE id=7")
	p := w.prepare(articles())
	add := w.prepare(Conversion{Into: "name", Key: []string{"title"}, From: []From{{Table: "page", Key: []string{"title"}}}, Add: true, Select: "SELECT DISTINCT title FROM {old}.page"})
	w.exec("BEGIN", "INSERT INTO {new}.article (article_id, title) VALUES (99, 'the caller''s')")
	for _, do := range []func() error{
		func() error { _, err := p.ConvertRange(ctx(t), w.c, nil, key("20")); return err },
		func() error { _, err := p.Convert(ctx(t), w.c, [][]rows.Cell{key("3"), key("7")}); return err },
		func() error { _, _, err := p.CompareRange(ctx(t), w.c, nil, key("20")); return err },
		func() error { _, err := add.ConvertRange(ctx(t), w.c, nil, key("z")); return err },
		func() error { _, err := add.Convert(ctx(t), w.c, [][]rows.Cell{key("x")}); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	w.wantRows("SELECT COUNT(*) FROM {new}.article", "20")
	w.exec("ROLLBACK")
	w.wantRows("SELECT COUNT(*) FROM {new}.article UNION ALL SELECT COUNT(*) FROM {new}.name", "0", "0")
}

func testCancelled(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(10)
	c := articles()
	c.Select = "SELECT id AS article_id, title, SLEEP(2) AS words FROM {old}.page"
	p := w.prepare(c)
	context, cancel := context.WithTimeout(ctx(t), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	conn := s.Connect(t)
	s.Exec(t, conn, "BEGIN")
	if _, err := p.Convert(context, conn, [][]rows.Cell{key("3")}); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func testPartitions(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, "CREATE TABLE {old}.log (id INT PRIMARY KEY, at DATETIME NOT NULL, what TEXT)",
		"CREATE TABLE {new}.log (id INT NOT NULL, at DATETIME NOT NULL, what TEXT, PRIMARY KEY (id, at), FULLTEXT(what)) PARTITION BY RANGE (YEAR(at)) (PARTITION a VALUES LESS THAN (2025), PARTITION b VALUES LESS THAN (2027))",
		"INSERT INTO {old}.log VALUES (1,'2024-01-01','a'),(2,'2025-01-01','b'),(3,'2030-01-01','c')")
	if w.target.Tables[0].Unfit != "" {
		t.Skip(w.target.Tables[0].Unfit)
	}
	p := w.prepare(Conversion{Into: "log", Key: []string{"id"}, From: []From{{Table: "log", Key: []string{"id"}}}, Select: "SELECT * FROM {old}.log"})
	if got := rejections(w.all(p, 10)); len(got) != 1 || !strings.HasPrefix(got[0], "3: Table has no partition for value 2030") {
		t.Error(got)
	}
	w.exec("UPDATE {old}.log SET at='2026-01-01' WHERE id=1")
	w.convert(p, key("1"))
	w.wantRows("SELECT id, at FROM {new}.log PARTITION (b) ORDER BY 1", "1|2026-01-01 00:00:00", "2|2025-01-01 00:00:00")
}

// testLiterals: what is in quotes in the plan's SQL is text, though the
// connection's own statements write bytes.
func testLiterals(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, "CREATE TABLE {old}.p (id INT PRIMARY KEY, t VARCHAR(20) CHARACTER SET latin1)", "CREATE TABLE {new}.p (id INT PRIMARY KEY, t VARCHAR(40) CHARACTER SET utf8mb4)",
		"INSERT INTO {old}.p VALUES (1,'é'),(2,'ö')")
	p := w.prepare(Conversion{Into: "p", Key: []string{"id"}, From: []From{{Table: "p", Key: []string{"id"}}}, Select: "SELECT id, CONCAT('€ ', t, ' ', id) AS t FROM {old}.p"})
	w.all(p, 10)
	w.wantRows("SELECT id, HEX(t) FROM {new}.p ORDER BY 1", "1|E282AC20C3A92031", "2|E282AC20C3B62032")
}
