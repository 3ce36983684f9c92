package plan

import (
	"strings"
	"testing"
)

// TestWikiExampleLoads keeps the example that people copy from in step with the format.
func TestWikiExampleLoads(t *testing.T) {
	p, err := Load("../../examples/wiki.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "wiki" || len(p.Universe.VMs) != 3 || len(p.Convert) != 5 || len(p.Verify) != 4 {
		t.Errorf("%s has %d VMs, %d steps, %d comparisons", p.Name, len(p.Universe.VMs), len(p.Convert), len(p.Verify))
	}
	for i, c := range p.Verify {
		// The schemas differ, so the joins may; what is asked for must be the same.
		old, _, _ := strings.Cut(c.Old.Run, "FROM ")
		fresh, _, _ := strings.Cut(c.New.Run, "FROM ")
		if old != fresh || (c.Old.Tree == "") != (c.New.Tree == "") {
			t.Errorf("verify[%d] asks old and new different things", i)
		}
	}
}
