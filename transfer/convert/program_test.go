package convert

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

// python writes a program that imports what JSON lines need.
func python(t *testing.T, body string) []string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is not installed")
		}
		t.Skip("python3 is not installed")
	}
	file := filepath.Join(t.TempDir(), "program.py")
	head := "import sys, json, time, os, base64\ndef say(x):\n    sys.stdout.write(json.dumps(x)+'\\n')\n    sys.stdout.flush()\n"
	if err := os.WriteFile(file, []byte(head+body), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{path, file}
}

const upper = `
for line in sys.stdin:
    o = json.loads(line)
    r = o["rows"][0]
    if r["title"] == "bad":
        say({"reject": "this title\nis bad \x1b[31m"})
    elif r["title"] == "none":
        say({"rows": []})
    else:
        say({"rows": [{"article_id": o["key"]["article_id"], "title": r["title"].upper(), "words": r["words"], "note": r["note"]}]})
`

func testProgram(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(130)
	w.exec("UPDATE {old}.page SET title='bad' WHERE id=70", "UPDATE {old}.page SET title='none' WHERE id=71", "UPDATE {old}.page SET words=70000 WHERE id=72")
	c := articles()
	c.Program = python(t, upper)
	p := w.prepare(c)
	got := rejections(w.all(p, 60))
	if len(got) != 2 || got[0] != "70: this title is bad [31m" || !strings.HasPrefix(got[1], "72: Out of range value for column 'words'") {
		t.Errorf("%q", got)
	}
	w.wantSame("SELECT p.id, UPPER(CONVERT(p.title USING utf8mb4)), p.words, CONCAT(CONVERT(n.note USING utf8mb4), _utf8mb4'…') FROM {old}.page p LEFT JOIN {old}.note n ON n.page=p.id WHERE p.id NOT BETWEEN 70 AND 72 ORDER BY 1",
		"SELECT article_id, title, words, note FROM {new}.article ORDER BY 1")
	w.exec("UPDATE {old}.page SET title='good', words=1 WHERE id=70", "DELETE FROM {old}.page WHERE id=1", "UPDATE {old}.page SET words=3 WHERE id=72")
	w.convert(p, key("70"), key("1"), key("72"))
	w.wantRows("SELECT article_id, title FROM {new}.article WHERE article_id IN (1,70) ORDER BY 1", "70|GOOD")
	if n, different := w.compare(p, 100); n != 129 || len(different) > 0 {
		t.Error(n, different)
	}
	if len(p.pool.idle) != 1 {
		t.Errorf("%d processes", len(p.pool.idle))
	}
}

// testProgramFails: whatever one object does to the program, the others are made,
// and the object is named.
func testProgramFails(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s, pages...)
	w.fillPages(20)
	loop := "for line in sys.stdin:\n    o = json.loads(line)\n    k = o['key']['article_id']\n    good = {'rows': [{'article_id': k, 'title': 't%d' % k}]}\n"
	for _, c := range []struct{ name, body, want string }{
		{"crashes", loop + "    if k == 7:\n        sys.stderr.write('seven is too much')\n        sys.exit(3)\n    say(good)\n", "it ended after 0 of 1 answers (exit status 3): seven is too much"},
		{"is killed", loop + "    if k == 7:\n        os.kill(os.getpid(), 9)\n    say(good)\n", "(signal: killed)"},
		{"hangs", loop + "    if k == 7:\n        time.sleep(60)\n    say(good)\n", "no answer for 300ms"},
		{"floods", loop + "    if k == 7:\n        sys.stdout.write('x' * (65 << 20))\n    say(good)\n", "an answer of more than"},
		{"says too much", loop + "    if k == 7:\n        sys.stdout.write(json.dumps(good) + '\\n' + json.dumps(good) + '\\n')\n    else:\n        say(good)\n", "more than it was asked"},
		{"is not JSON", loop + "    if k == 7:\n        print('Hello', flush=True)\n    else:\n        say(good)\n", `its answer "Hello" is not of the form`},
		{"goes on", loop + "    if k == 7:\n        print('{\"rows\":[]} {}', flush=True)\n    else:\n        say(good)\n", "goes on behind the object"},
		{"neither nor", loop + "    if k == 7:\n        say({})\n    else:\n        say(good)\n", "either rows or reject"},
		{"unknown column", loop + "    if k == 7:\n        good['rows'][0]['nix'] = 1\n    say(good)\n", `it answers with "nix"`},
		{"wrong value", loop + "    if k == 7:\n        good['rows'][0]['title'] = [1]\n    say(good)\n", "only null, true, numbers"},
		{"wrong base64", loop + "    if k == 7:\n        good['rows'][0]['title'] = {'base64': '!'}\n    say(good)\n", "base64"},
		{"another's key", loop + "    if k == 7:\n        good['rows'][0]['article_id'] = 8\n    say(good)\n", "article_id = 8 where it was asked about 7: are its answers out of order?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.exec("DELETE FROM {new}.article")
			conv := articles()
			conv.Program = python(t, c.body)
			p := w.prepare(conv)
			p.pool.limit = 300 * time.Millisecond
			if c.name != "hangs" {
				p.pool.limit = 20 * time.Second
			}
			got := rejections(w.all(p, 100))
			if len(got) != 1 || !strings.HasPrefix(got[0], "7: ") || !strings.Contains(got[0], c.want) {
				t.Errorf("%q", got)
			}
			w.wantRows("SELECT COUNT(*), MIN(title), SUM(article_id=7) FROM {new}.article", "19|t1|0")
		})
	}
	t.Run("out of order", func(t *testing.T) {
		w.exec("DELETE FROM {new}.article")
		conv := articles()
		// Two answers are swapped when both were asked at once, and none when not.
		conv.Program = python(t, `
import threading, queue
q = queue.Queue()
threading.Thread(target=lambda: [q.put(l) for l in sys.stdin] and q.put(None) or q.put(None), daemon=True).start()
while True:
    l = q.get()
    if l is None: break
    b = [json.loads(l)]
    try: b.append(json.loads(q.get(timeout=0.1)))
    except Exception: pass
    for o in reversed(b):
        say({'rows': [{'article_id': o['key']['article_id'], 'title': 't%d' % o['key']['article_id']}]})
`)
		p := w.prepare(conv)
		if r := w.all(p, 100); len(r) > 0 {
			t.Error(rejections(r))
		}
		w.wantSame("SELECT id, CONCAT('t', id) FROM {old}.page ORDER BY 1", "SELECT article_id, title FROM {new}.article ORDER BY 1")
	})
	t.Run("always", func(t *testing.T) {
		w.exec("DELETE FROM {new}.article")
		for _, argv := range [][]string{python(t, "sys.exit(1)"), {"/nonexistent/program"}} {
			conv := articles()
			conv.Program = argv
			p := w.prepare(conv)
			w.exec("BEGIN")
			if _, err := p.ConvertRange(ctx(t), w.c, nil, key("20")); err == nil || !strings.Contains(err.Error(), argv[0]) {
				t.Error(err)
			}
			w.exec("ROLLBACK")
		}
	})
	t.Run("closed", func(t *testing.T) {
		conv := articles()
		conv.Program = python(t, loop+"    say(good)\n")
		p := w.prepare(conv)
		w.convert(p, key("1"))
		pr := p.pool.idle[0]
		if err := p.Close(); err != nil || pr.state == "" {
			t.Error(err, pr.state)
		}
		if _, err := p.Convert(ctx(t), w.c, [][]rows.Cell{key("2")}); err == nil {
			t.Error("it works on")
		}
	})
}

// testProgramValues: what a program gets and gives, of every kind.
func testProgramValues(t *testing.T, s *dbtest.Server) {
	w := newWorld(t, s,
		`CREATE TABLE {old}.v (id VARBINARY(9) PRIMARY KEY, i BIGINT UNSIGNED, d DECIMAL(30,10), f DOUBLE, t TEXT CHARACTER SET latin1, b BLOB, at DATETIME(3), bits BIT(9), z INT(5) ZEROFILL, j JSON, n INT)`,
		`INSERT INTO {old}.v VALUES (X'00ff', 18446744073709551615, 12345678901234567890.0123456789, 0.1, 'é"\\\n', X'00fe', '2026-01-02 03:04:05.678', 257, 7, '{"a":1}', NULL)`,
		`CREATE TABLE {new}.v (id VARBINARY(9) PRIMARY KEY, i BIGINT UNSIGNED, d DECIMAL(30,10), f DOUBLE, t TEXT CHARACTER SET utf8mb4, b BLOB, at DATETIME(3), bits BIT(9), z INT, j JSON, n INT, seen TEXT CHARACTER SET utf8mb4, yes BOOL, dflt INT NOT NULL DEFAULT 5)`)
	p := w.prepare(Conversion{Into: "v", Key: []string{"id"}, From: []From{{Table: "v", Key: []string{"id"}}}, Select: "SELECT * FROM {old}.v",
		Program: python(t, "for line in sys.stdin:\n    o = json.loads(line)\n    r = dict(o['rows'][0])\n    r['seen'] = line.strip()\n    r['yes'] = True\n    say({'rows': [r]})\n")})
	if r := w.all(p, 10); len(r) > 0 {
		t.Fatal(rejections(r))
	}
	cols := "HEX(id), i, d, f, HEX(CONVERT(t USING utf8mb4)), HEX(b), at, bits+0, z+0, j, n"
	w.wantSame("SELECT "+cols+" FROM {old}.v", "SELECT "+cols+" FROM {new}.v")
	w.wantRows("SELECT seen, yes, dflt FROM {new}.v",
		`{"key":{"id":{"base64":"AP8="}},"rows":[{"id":{"base64":"AP8="},"i":18446744073709551615,"d":"12345678901234567890.0123456789","f":0.1,"t":"é\"\\\n","b":{"base64":"AP4="},"at":"2026-01-02 03:04:05.678","bits":257,"z":7,"j":"{\"a\":1}","n":null}]}|1|5`)
	// The program gives a number that the column cannot hold.
	q := w.prepare(Conversion{Into: "v", Key: []string{"id"}, From: []From{{Table: "v", Key: []string{"id"}}}, Select: "SELECT id FROM {old}.v",
		Program: python(t, "for line in sys.stdin:\n    say({'rows': [{'z': 3000000000}]})\n")})
	if got := rejections(w.convert(q, []rows.Cell{rows.Cell("\x00\xff")}).Rejected); len(got) != 1 || !strings.Contains(fmt.Sprint(got), "Out of range") {
		t.Error(got)
	}
}
