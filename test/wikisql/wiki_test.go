package wikisql

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/internal/plan"
)

// dataSet is the wiki's data set as the example's plan has it.
func dataSet(t *testing.T) plan.DataSet {
	t.Helper()
	p, err := plan.Load("../../examples/wiki.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return p.Data[0]
}

// TestLabAndExampleConvertAlike: what is tested here is what the lab runs.
func TestLabAndExampleConvertAlike(t *testing.T) {
	part := func(path string) string {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, ok := strings.Cut(string(raw), "    conversions:\n")
		data, _, end := strings.Cut(rest, "\nfiles:\n")
		if !ok || !end {
			t.Fatalf("%s has no conversions", path)
		}
		data, _, _ = strings.Cut(data, "\n\n# Files")
		return strings.ReplaceAll(data, "'wikidb:", "'wiki:")
	}
	lab, example := part("../../internal/lab/plans/wiki.yaml.tmpl"), part("../../examples/wiki.yaml")
	if lab != example {
		t.Error("the lab's plan and examples/wiki.yaml have different conversions")
	}
}

// views are what of a converted table must be as MediaWiki's update made it. Ids
// that a database gives by itself are followed to what they name.
var views = map[string]string{
	"revision":               "SELECT * FROM revision ORDER BY rev_id",
	"page":                   "SELECT * FROM page ORDER BY page_id",
	"linktarget":             "SELECT lt_namespace, lt_title FROM linktarget ORDER BY 1, 2",
	"templatelinks":          "SELECT tl_from, tl_from_namespace, lt_namespace, lt_title FROM templatelinks LEFT JOIN linktarget ON lt_id = tl_target_id ORDER BY 1, 3, 4",
	"pagelinks":              "SELECT pl_from, pl_from_namespace, lt_namespace, lt_title FROM pagelinks LEFT JOIN linktarget ON lt_id = pl_target_id ORDER BY 1, 3, 4",
	"externallinks":          "SELECT * FROM externallinks ORDER BY el_id",
	"logging":                "SELECT * FROM logging ORDER BY log_id",
	"user_autocreate_serial": "SELECT * FROM user_autocreate_serial ORDER BY uas_shard",
	"block": `SELECT bl_id, bl_by_actor, bl_reason_id, bl_timestamp, bl_anon_only, bl_create_account, bl_enable_autoblock, bl_expiry, bl_deleted,
		bl_block_email, bl_allow_usertalk, bl_parent_block_id, bl_sitewide, bt_address, bt_user, bt_user_text, bt_auto, bt_range_start, bt_range_end, bt_ip_hex, bt_count
		FROM block LEFT JOIN block_target ON bt_id = bl_target ORDER BY bl_id`,
	"block_target": "SELECT bt_address, bt_user, bt_user_text, bt_auto, bt_range_start, bt_range_end, bt_ip_hex, bt_count FROM block_target ORDER BY 1, 2, 4",
}

// expand names the databases, as imago does.
func expand(query, fresh string) string {
	return strings.NewReplacer("{old}", "wiki_old", "{new}", fresh).Replace(expandSessions(query))
}

// expandSessions names the test's wiki in the keys of sessions.
func expandSessions(query string) string { return strings.ReplaceAll(query, "'wikidb:", "'wiki:") }

// loadAll makes the old wiki, the new wiki's empty tables, and the old wiki as
// MediaWiki updated it.
func loadAll(t *testing.T) (*server, *client.Conn) {
	t.Helper()
	s := startServer(t)
	s.load(t, "wiki_old", "old")
	s.load(t, "wiki_new", "new")
	s.load(t, "wiki_updated", "new", "updated")
	c := s.connect(t, "wiki_new")
	exe(t, c, "SET NAMES binary")
	exe(t, c, "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'")
	return s, c
}

func TestConversionsMakeWhatUpdateMakes(t *testing.T) {
	s, c := loadAll(t)
	set := dataSet(t)
	converted := map[string]bool{}
	for _, v := range set.Conversions {
		convertAll(t, c, v, "wiki_new")
		converted[v.Into] = true
	}
	carried := carryRest(t, c, set, converted)
	updated := s.connect(t, "wiki_updated")
	exe(t, updated, "SET NAMES binary")
	for table := range converted {
		if table == "objectcache" {
			continue
		}
		view, ok := views[table]
		if !ok {
			t.Errorf("no comparison for %s", table)
			continue
		}
		compare(t, table, ask(t, c, view), ask(t, updated, view), 1)
	}
	for _, table := range carried {
		key := ask(t, c, fmt.Sprintf("SELECT GROUP_CONCAT(ORDINAL_POSITION) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA='wiki_new' AND TABLE_NAME='%s'", table))[0][0]
		all := "SELECT * FROM `" + table + "` ORDER BY " + key
		compare(t, table, ask(t, c, all), ask(t, updated, all), 0)
	}
	compare(t, "sessions", ask(t, c, "SELECT keyname FROM objectcache ORDER BY 1"), [][]string{{"wiki:MWSession:abc"}, {"wiki:MWSession:ünï"}}, 2)
}

// convertAll makes all rows of a conversion at once.
func convertAll(t *testing.T, c *client.Conn, v plan.Conversion, fresh string) {
	t.Helper()
	r, err := c.Execute("SELECT * FROM (" + expand(v.Select, fresh) + ") c LIMIT 0")
	if err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	var columns []string
	for _, f := range r.Fields {
		columns = append(columns, "`"+string(f.Name)+"`")
	}
	r.Close()
	missing := ""
	if v.Add {
		missing = fmt.Sprintf(" WHERE (%s) NOT IN (SELECT %[1]s FROM %s.`%s`)", strings.Join(v.Key, ", "), fresh, v.Into)
	}
	exe(t, c, fmt.Sprintf("INSERT INTO %s.`%s` (%s) SELECT * FROM (%s) c%s", fresh, v.Into, strings.Join(columns, ", "), expand(v.Select, fresh), missing))
}

// carryRest copies the tables that both versions have and that no conversion
// makes, column by column, and names them.
func carryRest(t *testing.T, c *client.Conn, set plan.DataSet, converted map[string]bool) []string {
	t.Helper()
	sources := map[string]bool{}
	for _, v := range set.Conversions {
		for _, f := range v.From {
			sources[f.Table] = true
		}
	}
	var carried []string
	tables := func(db string) (names []string) {
		for _, row := range ask(t, c, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA='"+db+"'") {
			names = append(names, row[0])
		}
		return names
	}
	fresh := tables("wiki_new")
	for _, table := range tables("wiki_old") {
		if slices.Contains(set.Skip, table) || converted[table] || sources[table] {
			continue
		}
		if !slices.Contains(fresh, table) {
			t.Errorf("the new version has no table %s, and no conversion reads it", table)
			continue
		}
		columns := ask(t, c, "SELECT GROUP_CONCAT(CONCAT('`', COLUMN_NAME, '`') ORDER BY ORDINAL_POSITION) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA='wiki_old' AND TABLE_NAME='"+table+"'")[0][0]
		exe(t, c, fmt.Sprintf("INSERT INTO wiki_new.`%s` (%s) SELECT %[2]s FROM wiki_old.`%[1]s`", table, columns))
		carried = append(carried, table)
	}
	return carried
}

func compare(t *testing.T, what string, got, want [][]string, atLeast int) {
	t.Helper()
	if len(got) < atLeast {
		t.Errorf("%s: %d rows, too few to say anything", what, len(got))
	}
	line := func(row []string) string { return fmt.Sprintf("%.500q", row) }
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("%s: %s is missing", what, line(want[i]))
		case i >= len(want):
			t.Errorf("%s: %s is too much", what, line(got[i]))
		case !slices.Equal(got[i], want[i]):
			t.Errorf("%s: got %s\n\twant %s", what, line(got[i]), line(want[i]))
		default:
			continue
		}
		return
	}
	t.Logf("%s: %d rows are equal", what, len(got))
}

// TestObjectsAreFoundByKey: an object that changed is converted alone, so the
// server must bring the key into each SELECT instead of making all rows of it.
func TestObjectsAreFoundByKey(t *testing.T) {
	_, c := loadAll(t)
	for _, v := range dataSet(t).Conversions {
		name := v.Name
		if name == "" {
			name = v.Into
		}
		driving := v.From[0]
		keys := ask(t, c, fmt.Sprintf("SELECT DISTINCT %s FROM wiki_old.`%s` ORDER BY 1 LIMIT 1", quoted(driving.Key), driving.Table))
		if len(keys) == 0 {
			t.Errorf("%s: no rows in %s", name, driving.Table)
			continue
		}
		key := fmt.Sprintf("(%s) IN ((%s))", strings.Join(v.Key, ", "), quoted(keys[0]))
		exe(t, c, "FLUSH STATUS")
		rows := ask(t, c, fmt.Sprintf("SELECT COUNT(*) FROM (%s) c WHERE %s", expand(v.Select, "wiki_new"), key))[0][0]
		read := 0
		for _, row := range ask(t, c, "SHOW SESSION STATUS LIKE 'Handler_read%'") {
			n, _ := strconv.Atoi(row[1])
			read += n
		}
		n, _ := strconv.Atoi(rows)
		from, _ := strconv.Atoi(ask(t, c, fmt.Sprintf("SELECT COUNT(*) FROM wiki_old.`%s` WHERE (%s) IN ((%s))", driving.Table, quoted(driving.Key), quoted(keys[0])))[0][0])
		t.Logf("%s: %d rows of the object, %d rows read", name, n, read)
		if limit := 30 + 10*n + from; read > limit {
			t.Errorf("%s: %d rows were read for an object of %d rows, from %d", name, read, n, from)
		}
	}
}

func quoted(values []string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v
		if _, err := strconv.Atoi(v); err != nil && strings.ContainsFunc(v, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
			out[i] = "'" + strings.ReplaceAll(v, "'", "''") + "'"
		}
	}
	return strings.Join(out, ", ")
}
