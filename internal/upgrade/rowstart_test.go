package upgrade

import (
	"strings"
	"testing"

	"imago.dev/imago/internal/plan"
	"imago.dev/imago/transfer/rows"
)

func TestCheckTables(t *testing.T) {
	table := func(name string, key []int, unfit string) *rows.Table {
		return &rows.Table{Name: rows.Name{Database: "shop", Table: name}, Key: key, Unfit: unfit, Columns: []rows.Column{{Name: "id"}, {Name: "customer"}}}
	}
	schema := &rows.Schema{Tables: []*rows.Table{table("orders", []int{0}, ""), table("log", nil, ""), table("seq", []int{0}, "a sequence")}}
	set := plan.DataSet{Source: plan.DataSource{Database: "shop"}, Skip: []string{"log", "seq"}, Conversions: []plan.Conversion{
		{Name: "totals", From: []plan.ConversionFrom{{Table: "orders", Key: []string{"Customer"}}}}}}
	if err := checkTables(schema, set); err != nil {
		t.Errorf("a good set: %v", err)
	}
	set.Skip = []string{"logs"}
	set.Conversions[0].From = []plan.ConversionFrom{{Table: "orders", Key: []string{"client"}}, {Table: "order", Key: []string{"id"}}}
	err := checkTables(schema, set)
	if err == nil {
		t.Fatal("a bad set passed")
	}
	for _, want := range []string{"shop.log has no primary", "shop.seq cannot be transferred (a sequence)", "skip names table logs",
		"names column client, which table shop.orders", "reads table order, which shop"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in\n%v", want, err)
		}
	}
}
