package wikisql

import (
	"slices"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/internal/plan"
	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/rows"
)

// TestImagoConverts runs the conversions through the code that an upgrade runs,
// in ranges, compares them as it does, and holds the result against MediaWiki's
// update.
func TestImagoConverts(t *testing.T) {
	s, _ := loadAll(t)
	c := s.connect(t, "wiki_new")
	for _, q := range append(rows.SessionSQL(), "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED") {
		exe(t, c, q)
	}
	old, fresh := schema(t, c, "wiki_old"), schema(t, c, "wiki_new")
	set := dataSet(t)
	for _, v := range set.Conversions {
		p, err := convert.Prepare(t.Context(), c, conversion(v), convert.Databases{Old: "wiki_old", New: "wiki_new"}, old, fresh)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		throughRanges(t, c, p)
	}
	refused := keepsRest(set, old, fresh)
	if len(refused) > 0 {
		t.Errorf("tables that are carried as they are do not fit: %q", refused)
	}
	updated := s.connect(t, "wiki_updated")
	exe(t, updated, "SET NAMES binary")
	for table, view := range views {
		compare(t, table, ask(t, c, view), ask(t, updated, view), 1)
	}
}

func schema(t *testing.T, c *client.Conn, database string) *rows.Schema {
	t.Helper()
	s, err := rows.ReadSchema(t.Context(), c, database)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func conversion(v plan.Conversion) convert.Conversion {
	out := convert.Conversion{Name: v.Name, Into: v.Into, Key: v.Key, Select: expandSessions(v.Select), Program: v.Program, Add: v.Add}
	for _, f := range v.From {
		out.From = append(out.From, convert.From{Table: f.Table, Key: f.Key})
	}
	return out
}

func throughRanges(t *testing.T, c *client.Conn, p *convert.Prepared) {
	t.Helper()
	name := p.Conversion().Name
	objects, compared, ranges := 0, 0, 0
	var after []rows.Cell
	for {
		upto, n, err := p.Next(t.Context(), c, after, 50)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n == 0 {
			break
		}
		exe(t, c, "BEGIN")
		r, err := p.ConvertRange(t.Context(), c, after, upto)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, no := range r.Rejected {
			t.Errorf("%s: %q was rejected: %s", name, no.Key, no.Reason)
		}
		exe(t, c, "COMMIT")
		same, different, err := p.CompareRange(t.Context(), c, after, upto)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(different) > 0 {
			t.Errorf("%s: %q differ", name, different)
		}
		objects, compared, ranges, after = objects+r.Objects, compared+same, ranges+1, upto
	}
	t.Logf("%s: %d objects in %d ranges, %d compared", name, objects, ranges, compared)
	if objects == 0 || compared == 0 {
		t.Errorf("%s: nothing was converted or compared", name)
	}
}

// keepsRest names the tables that no conversion makes and that do not fit.
func keepsRest(set plan.DataSet, old, fresh *rows.Schema) (refused []string) {
	made := append([]string{"ipblocks", "revision_comment_temp"}, set.Skip...)
	for _, v := range set.Conversions {
		made = append(made, v.Into)
	}
	for _, o := range old.Tables {
		if slices.Contains(made, o.Table) {
			continue
		}
		if o.Unfit != "" || len(o.Key) == 0 {
			refused = append(refused, o.Table+": no key or unfit: "+o.Unfit)
			continue
		}
		n := fresh.Table(rows.Name{Database: "wiki_new", Table: o.Table})
		if n == nil {
			refused = append(refused, o.Table+": not there")
			continue
		}
		if ok, why := convert.Keeps(o, n); !ok {
			refused = append(refused, why...)
		}
	}
	return refused
}
