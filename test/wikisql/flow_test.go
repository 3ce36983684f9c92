package wikisql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/internal/plan"
	"imago.dev/imago/transfer/apply"
	"imago.dev/imago/transfer/binlog"
	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/rows"
)

// TestRowsFlow copies the wiki while it is edited, and edits it more afterwards,
// in all the ways that the conversions are about. At the end the new wiki must be
// what a conversion of the old one as a whole makes.
func TestRowsFlow(t *testing.T) {
	s, c := loadAll(t) // the clone and the new version
	production := startServer(t)
	production.load(t, "wiki_old", "old")
	set := dataSet(t)
	editor := production.connect(t, "wiki_old")
	exe(t, editor, "SET NAMES binary")
	flow := startFlow(t, production, s, set)
	for n := range 8 {
		edit(t, editor, n)
	}
	flow.settle(t)
	for n := 8; n < 60; n++ {
		edit(t, editor, n)
	}
	flow.settle(t)

	production.load(t, "wiki_again", "new")
	again := production.connect(t, "wiki_again")
	exe(t, again, "SET NAMES binary")
	for _, v := range set.Conversions {
		convertAll(t, again, v, "wiki_again")
	}
	for table, view := range views {
		got, want := ask(t, c, view), ask(t, again, view)
		if table == "linktarget" { // one that no link leads to any more stays, as in MediaWiki
			got = slices.DeleteFunc(got, func(row []string) bool {
				return !slices.ContainsFunc(want, func(w []string) bool { return slices.Equal(w, row) })
			})
		}
		compare(t, table, got, want, 1)
	}
	for _, table := range []string{"user", "recentchanges", "searchindex", "job", "site_stats"} {
		all := "SELECT * FROM %s." + table + " ORDER BY 1"
		got, want := ask(t, c, fmt.Sprintf(all, "wiki_new")), ask(t, again, fmt.Sprintf(all, "wiki_old"))
		if table == "user" { // has one column more
			for i := range got {
				got[i] = got[i][:len(got[i])-1]
			}
		}
		compare(t, table, got, want, 1)
	}
}

// edit changes the old wiki's rows as one edit of MediaWiki 1.39 does, and as
// other things do from time to time.
func edit(t *testing.T, c *client.Conn, n int) {
	t.Helper()
	page := 1 + n%40
	exe(t, c, "BEGIN")
	for _, q := range []string{
		"INSERT INTO comment (comment_hash, comment_text) VALUES (@n, CONCAT('edit ', @n))",
		"SET @comment = LAST_INSERT_ID()",
		"INSERT INTO revision (rev_page, rev_actor, rev_timestamp, rev_len, rev_parent_id, rev_sha1) VALUES (@page, 1, '20260101000000', 10, 0, '')",
		"SET @rev = LAST_INSERT_ID()",
		"INSERT INTO revision_comment_temp VALUES (@rev, @comment)",
		"UPDATE page SET page_latest = @rev, page_touched = '20260101000000', page_links_updated = IF(@n % 3, NULL, '20260101000001') WHERE page_id = @page",
		"REPLACE INTO searchindex (si_page, si_title, si_text) VALUES (@page, 'title', CONCAT('text ', @n))",
		"INSERT INTO recentchanges (rc_timestamp, rc_actor, rc_comment_id, rc_source, rc_cur_id, rc_this_oldid) VALUES ('20260101000000', 1, @comment, 'mw.edit', @page, @rev)",
		"UPDATE site_stats SET ss_total_edits = ss_total_edits + 1",
		"UPDATE user SET user_editcount = user_editcount + 1, user_touched = '20260101000000' WHERE user_id = 3",
		"INSERT INTO job (job_cmd, job_namespace, job_title, job_params) VALUES ('refreshLinks', 0, 'X', '')",
		// Links to what is linked to already, to new pages, and to a page that a
		// template of the same name is used of later.
		"INSERT IGNORE INTO pagelinks VALUES (@page, 0, 'Main_Page', 0), (@page, 0, CONCAT('New_', @n), 0), (@page, 10, CONCAT('Both_', @n DIV 2), 0)",
		"DELETE FROM pagelinks WHERE pl_from = @page + 1 AND pl_title LIKE 'New%'",
		"INSERT IGNORE INTO linktarget (lt_namespace, lt_title) VALUES (10, CONCAT('Both_', @n DIV 2)), (10, CONCAT('Template_', @n))",
		"INSERT IGNORE INTO templatelinks (tl_from, tl_target_id, tl_from_namespace) SELECT @page, lt_id, 0 FROM linktarget WHERE lt_title IN (CONCAT('Both_', @n DIV 2), CONCAT('Template_', @n))",
		"INSERT INTO externallinks (el_from, el_to, el_index, el_index_60) VALUES (@page, CONCAT('https://e.example/', @n), CONCAT('https://example.e./', @n), '')",
		"DELETE FROM externallinks WHERE el_id = 5000 + @n",
		"INSERT INTO ipblocks (ipb_address, ipb_user, ipb_by_actor, ipb_reason_id, ipb_timestamp, ipb_expiry, ipb_range_start, ipb_range_end) VALUES (CONCAT('203.0.113.', @n), 0, 1, @comment, '20260101000000', 'infinity', '', '')",
		"DELETE FROM ipblocks WHERE ipb_id = @n DIV 4",
		"UPDATE objectcache SET value = @n, exptime = '20300101000000' WHERE keyname = 'wiki:MWSession:abc'",
		"REPLACE INTO objectcache (keyname, value, exptime) VALUES (CONCAT('wiki:pcache:', @n), 'x', '20300101000000')",
	} {
		exe(t, c, strings.NewReplacer("@page", fmt.Sprint(page), "@n", fmt.Sprint(n)).Replace(q))
	}
	if n%5 == 0 { // a page is deleted: its revisions leave with their comments
		exe(t, c, fmt.Sprintf("DELETE r, t FROM revision r JOIN revision_comment_temp t ON revcomment_rev = rev_id WHERE rev_page = %d", page))
	}
	exe(t, c, "COMMIT")
}

// flow is what an upgrade does with a data set, in one process.
type flow struct {
	engine *apply.Engine
	source *binlog.Source
	ended  chan struct{}
	err    error
}

func startFlow(t *testing.T, production, s *server, set plan.DataSet) *flow {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", production.socket)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	source, err := binlog.Open(t.Context(), binlog.Config{Dial: dial, Address: "127.0.0.1:3306", User: "root", Database: "wiki_old", Skip: set.Skip, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	start, err := source.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := s.connect(t, "")
	for _, q := range rows.SessionSQL() {
		exe(t, c, q)
	}
	var conversions []convert.Conversion
	for _, v := range set.Conversions {
		conversions = append(conversions, conversion(v))
	}
	here := apply.Server{Network: "unix", Address: s.socket, User: "root"}
	f := &flow{source: source, ended: make(chan struct{})}
	f.engine, err = apply.Open(t.Context(), apply.Config{Set: "wiki", Run: "test", Source: here, Target: here, From: "wiki_old", To: "wiki_new",
		Skip: set.Skip, Conversions: conversions, Start: start, ChunkRows: 40}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	in := make(chan *rows.Txn, 16)
	old := schema(t, c, "wiki_old")
	streamed := make(chan error, 1)
	go func() {
		defer close(in)
		streamed <- source.Stream(ctx, start, old, func(x *rows.Txn) error {
			select {
			case in <- x:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}()
	go func() {
		defer close(f.ended)
		f.err = f.engine.Run(ctx, in)
		stop()
	}()
	t.Cleanup(func() {
		stop()
		<-f.ended
		if err := <-streamed; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("stream: %v", err)
		}
		if f.err != nil && !errors.Is(f.err, context.Canceled) {
			t.Errorf("run: %v", f.err)
		}
		_ = source.Close()
	})
	return f
}

// settle waits for production's present, and says what that rests on.
func (f *flow) settle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	at, err := f.source.Position(ctx)
	if err != nil {
		t.Fatal(err)
	}
	counters, err := f.source.Counters(ctx)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		select {
		case <-f.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	v, err := f.engine.Settle(ctx, at, counters)
	if err != nil {
		rejected, _ := f.engine.Rejected(t.Context())
		t.Fatalf("settle: %v\n%v", errors.Join(err, f.err), rejected)
	}
	t.Logf("settled: %+v", v)
}
