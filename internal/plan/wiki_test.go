package plan

import "testing"

// TestWikiExampleLoads keeps the example that people copy from in step with the format.
func TestWikiExampleLoads(t *testing.T) {
	p, err := Load("../../examples/wiki.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "wiki" || len(p.Universe.VMs) != 3 || len(p.Convert) != 6 || len(p.Verify) != 5 {
		t.Errorf("%s has %d VMs, %d steps, %d comparisons", p.Name, len(p.Universe.VMs), len(p.Convert), len(p.Verify))
	}
	for i, c := range p.Verify {
		if c.Old.Run != c.New.Run {
			t.Errorf("verify[%d] asks old and new different things", i)
		}
	}
}
