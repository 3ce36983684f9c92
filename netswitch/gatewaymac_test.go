package netswitch

import (
	"strings"
	"testing"
)

// A guest keeps its gateway's MAC address in its neighbour table for a minute;
// when it moves between universe and production it must not notice.
func TestGatewayHasProductionsMAC(t *testing.T) {
	l := newLab(t)
	l.open()
	mac := func(ns, link string) string {
		fields := strings.Fields(sh(t, ns, "ip -o link show "+link))
		for i, f := range fields {
			if f == "link/ether" {
				return fields[i+1]
			}
		}
		t.Fatalf("no MAC address in %v", fields)
		return ""
	}
	if prod, uni := mac("", "br-prod"), mac("imago-uni", ifUniverse); prod != uni {
		t.Errorf("gateway %s, production's %s", uni, prod)
	}
}
