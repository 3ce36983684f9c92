package images_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// The old wiki's data must be readable in the new one: dump, load and
// update.php between emulated machines, as an upgrade does it.
func TestBootWiki(t *testing.T) {
	built, inside := inNamespaces(t, "wiki-db-12", "wiki-web-12", "wiki-db-13", "wiki-web-13")
	if !inside {
		return
	}
	oldDB := boot(t, built["wiki-db-12"], "10.20.0.11")
	oldDB.waitDB(t)
	oldWeb := boot(t, built["wiki-web-12"], "10.20.0.10")
	oldWeb.visit(t, "1.39", "PHP/8.2")
	want := oldDB.counts(t)
	t.Log("seeded: ", want)
	oldWeb.edit(t)
	oldWeb.blame(t)
	oldWeb.stop()

	var dump, out string
	timed(t, "dump", func() {
		dump = oldDB.run(t, "mariadb-dump --single-transaction --no-tablespaces --ignore-table-data=wiki.objectcache wiki")
	}, oldDB)
	want = oldDB.counts(t)
	oldDB.blame(t)
	oldDB.stop()

	newDB := boot(t, built["wiki-db-13"], "10.20.0.12")
	newDB.waitDB(t)
	newWeb := boot(t, built["wiki-web-13"], "10.20.0.10")
	timed(t, "load", func() { newDB.load(t, dump) }, newDB)
	timed(t, "update.php", func() {
		out = newWeb.run(t, "setpriv --reuid www-data --regid www-data --init-groups php /var/lib/mediawiki/maintenance/update.php --quick")
	}, newDB, newWeb)
	if os.Getenv("IMAGO_BLAME") != "" {
		t.Log(out)
	}
	if !strings.Contains(out, "Done in") {
		t.Errorf("update.php: %s", out)
	}
	newWeb.visit(t, "1.43", "PHP/8.4")
	if got := newDB.counts(t); got != want {
		t.Errorf("the new wiki has %s, the old one %s", got, want)
	}
	newWeb.edit(t)
	newWeb.blame(t)
	newWeb.cacheUsed(t)
}

func (m *machine) waitDB(t *testing.T) {
	t.Helper()
	poll(t, 2*time.Minute, "database", func() error {
		if out := m.run(t, "systemctl is-active mariadb || true"); strings.TrimSpace(out) != "active" {
			return fmt.Errorf("mariadb is %s", out)
		}
		return nil
	})
	m.tell(t, "database")
}

// counts is what may not be lost, as one comparable text.
func (m *machine) counts(t *testing.T) string {
	t.Helper()
	return strings.Join(strings.Fields(m.run(t, `mariadb -N wiki -e "SELECT COUNT(*), SUM(page_len) FROM page; SELECT COUNT(*), SUM(rev_len), MAX(rev_id) FROM revision;
		SELECT COUNT(*) FROM user WHERE user_email LIKE 'editor%'; SELECT COUNT(*), SUM(img_size) FROM image"`)), " ")
}

func (m *machine) load(t *testing.T, dump string) {
	t.Helper()
	s, err := m.client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Stdin = strings.NewReader(dump)
	if out, err := s.CombinedOutput("mariadb wiki"); err != nil {
		t.Fatalf("load: %v: %s", err, out)
	}
}

// visit times the first pages and checks that the right version answers.
func (m *machine) visit(t *testing.T, mediawiki, php string) {
	t.Helper()
	poll(t, 2*time.Minute, "web server", func() error { _, _, err := m.get("/server-is-up"); return err })
	m.tell(t, "web server")
	for i, path := range []string{"/mediawiki/index.php/Main_Page", "/mediawiki/index.php/Main_Page",
		"/mediawiki/index.php/Category:Places", "/mediawiki/index.php/Archive_mill_1", "/mediawiki/index.php/Special:RecentChanges"} {
		var resp *http.Response
		var body string
		var err error
		timed(t, fmt.Sprintf("page %d, %s,", i+1, path), func() { resp, body, err = m.get(path) }, m)
		if err != nil || (resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotFound) {
			t.Fatalf("%s: %v %v\n%.2000s", path, resp, err, body)
		}
		if !strings.Contains(body, "MediaWiki "+mediawiki) || !strings.HasPrefix(resp.Header.Get("X-Powered-By"), php) {
			t.Errorf("%s: not from MediaWiki %s on %s: %v", path, mediawiki, php, resp.Header)
		}
		if i == 0 && !strings.Contains(body, "page 0 of the wiki") {
			t.Errorf("main page: %.3000s", body)
		}
	}
	m.tell(t, "five pages")
}

// edit edits as an anonymous client does.
func (m *machine) edit(t *testing.T) {
	t.Helper()
	for range 3 {
		start := time.Now()
		resp, err := http.PostForm("http://"+m.addr+"/mediawiki/api.php", map[string][]string{
			"action": {"edit"}, "title": {"Tested"}, "appendtext": {"a line 🌉\n"}, "token": {"+\\"}, "format": {"json"}})
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, _ := resp.Body.Read(buf)
		_ = resp.Body.Close()
		t.Logf("edit took %.2fs", time.Since(start).Seconds())
		if !strings.Contains(string(buf[:n]), `"result":"Success"`) {
			t.Fatalf("edit: %s", buf[:n])
		}
	}
}

// cacheUsed fails when PHP compiled many scripts anew instead of taking them
// from the files that the build made.
func (m *machine) cacheUsed(t *testing.T) {
	t.Helper()
	fresh := strings.Fields(m.run(t, "find /var/cache/php-opcache -name '*.bin' -newermt 2026-02-01 -printf '%p\n'"))
	all := strings.Fields(m.run(t, "find /var/cache/php-opcache -name '*.bin' | wc -l"))
	t.Logf("compiled anew: %d of %s scripts", len(fresh), all[0])
	if len(fresh) > 100 {
		t.Errorf("the file cache is not used: %d scripts compiled anew, such as %s", len(fresh), fresh[0])
	}
	if os.Getenv("IMAGO_BLAME") != "" {
		t.Log(strings.Join(fresh, "\n"))
	}
}
