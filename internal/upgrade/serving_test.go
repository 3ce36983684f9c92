package upgrade

import (
	"testing"

	"imago.dev/imago/internal/plan"
)

// TestServing: the service's port is always awaited, once; a login is not.
func TestServing(t *testing.T) {
	vm := plan.VM{Ready: []plan.Readiness{{SSH: true}, {TCP: 80}, {TCP: 443}, {Run: "true"}, {HTTP: &plan.HTTP{URL: "http://10.0.0.1/"}}}}
	got := serving(vm, plan.Service{New: plan.Endpoint{Port: 80}})
	if len(got) != 3 || got[0].TCP != 80 || got[1].TCP != 443 || got[2].HTTP == nil {
		t.Errorf("%+v", got)
	}
	if got := serving(plan.VM{}, plan.Service{New: plan.Endpoint{Port: 80}}); len(got) != 1 || got[0].Timeout.Duration != servingLimit {
		t.Errorf("a VM without conditions: %+v", got)
	}
}
