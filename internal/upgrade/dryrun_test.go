package upgrade

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
)

// examplePlan is the plan that imago prints for people to start from.
func examplePlan(t *testing.T) *plan.Plan {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plan.yaml")
	if err := os.WriteFile(path, []byte(plan.Example()), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// actTexts is a dry run as lines of deed and thing.
func actTexts(t *testing.T, e *Engine, verb string) string {
	t.Helper()
	acts, err := e.DryRun(t.Context(), verb)
	if err != nil {
		t.Fatalf("dry run of %s: %v", verb, err)
	}
	var lines []string
	for _, a := range acts {
		lines = append(lines, a.Do+" "+a.What+" "+a.Detail)
	}
	return strings.Join(lines, "\n")
}

// TestDryRun: before a run the names have RUN for its token; each verb names
// every step, comparison, service and VM of the plan that it would touch.
func TestDryRun(t *testing.T) {
	p := examplePlan(t)
	e := &Engine{plan: p}
	var convert, compare, vips, domains, oldVMs []string
	for _, s := range p.Convert {
		if s.When.During(plan.WhenPrepare) {
			convert = append(convert, s.Name)
		}
	}
	for _, v := range p.Verify {
		compare = append(compare, v.Name)
	}
	for _, s := range p.Services {
		vips = append(vips, s.VIP.String())
	}
	for _, vm := range p.Universe.VMs {
		if vm.Role != plan.RoleSource {
			domains = append(domains, "imago-"+p.Name+"-RUN-"+vm.Name)
		}
	}
	for _, vm := range p.Production.VMs {
		oldVMs = append(oldVMs, "shut down "+vm.Domain)
	}
	for verb, wants := range map[string][][]string{
		"convert": {convert}, "test": {compare}, "switch": {vips, compare, {"imago_vip_RUN", "hold clients for at most " + p.Limits.Hold.String(), "in one transaction"}},
		"rollback": {vips, {"what would be lost"}}, "finalize": {domains, oldVMs, {"remove network imago-" + p.Name + "-RUN"}},
	} {
		got := actTexts(t, e, verb)
		for _, list := range wants {
			if len(list) == 0 {
				t.Fatalf("the example plan has nothing for %s: the test would prove nothing", verb)
			}
			for _, want := range list {
				if !strings.Contains(got, want) {
					t.Errorf("dry run of %s lacks %q:\n%s", verb, want, got)
				}
			}
		}
	}
	if got := actTexts(t, e, "abort"); got != "" {
		t.Errorf("abort without a run would do: %s", got)
	}
}

// TestDryRunDirection: the switch leads from old to new, the rollback back.
func TestDryRunDirection(t *testing.T) {
	e := &Engine{plan: examplePlan(t)}
	s := e.plan.Services[0]
	over := e.universeSpec().Addr().String() + ":20000"
	if got := actTexts(t, e, "switch"); !strings.Contains(got, s.Old.String()+" -> "+over) {
		t.Errorf("switch:\n%s", got)
	}
	if got := actTexts(t, e, "rollback"); !strings.Contains(got, over+" -> "+s.Old.String()) {
		t.Errorf("rollback:\n%s", got)
	}
}

// TestDryRunOfAbort lists what stands, and says what may not be there.
func TestDryRunOfAbort(t *testing.T) {
	e, _ := engineAt(t, journal.Checked, journal.Cloning)
	if err := e.make(t.Context(), journal.KindNetwork, "net-a", func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := e.intend(t.Context(), journal.KindDomain, "dom-b"); err != nil {
		t.Fatal(err)
	}
	got := actTexts(t, e, "abort")
	if want := "remove domain dom-b (if it is there) \nremove network net-a "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if stored(t, e).State != journal.Cloning {
		t.Error("a dry run changed the run's state")
	}
}

// TestServices: each service has a port of its own at the gateway, and after
// finalize the map leads to the VMs themselves.
func TestServices(t *testing.T) {
	p := examplePlan(t)
	twin := p.Services[0]
	twin.Name, twin.VIP = "twin", addrPort(twin.VIP.Addr(), 8443)
	p.Services = append(p.Services, twin)
	e := &Engine{plan: p, n: names{plan: p.Name, run: "abc234", stateDir: p.StateDir}}
	services, pubs := e.services()
	if len(services) != len(p.Services) || len(pubs) != len(services) {
		t.Fatalf("%d services, %d publications", len(services), len(pubs))
	}
	ports := map[uint16]bool{}
	for i, s := range services {
		if s.New.Port() != pubs[i].TransitPort || ports[s.New.Port()] {
			t.Errorf("service %s leads to %s, published at %d", s.Name, s.New, pubs[i].TransitPort)
		}
		ports[s.New.Port()] = true
	}
	for i, s := range e.promoted(services) {
		if s.Old != services[i].New || s.New != pubs[i].To || s.VIP != services[i].VIP {
			t.Errorf("after finalize: %+v", s)
		}
	}
}
