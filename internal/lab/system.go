package lab

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// System is a sample system: production VMs, their virtual IP, the images of
// the new version, and what its clients do.
type System struct {
	Name       string
	Production []Machine
	// New are the images that the plan makes the new version from.
	New      []Machine
	VIP      netip.AddrPort
	FrontEnd netip.AddrPort
	// PlanTemplate is the upgrade plan with host keys and image paths left open.
	PlanTemplate string
	Clients      []ClientOptions

	ReadRequest func(*rand.Rand) (*http.Request, error)
	EditRequest func(client string, serial int) (*http.Request, error)
	VersionOf   func(http.Header, []byte) string
	CheckAnswer func(kind string, body []byte) error
	// LedgerRequest asks for a client's ledger as text, to count its serials.
	LedgerRequest func(client string) (*http.Request, error)
	// Serial is how serial number n of a client stands in its ledger.
	Serial func(client string, n int) string
	// OldVersion and NewVersion are the labels that VersionOf gives.
	OldVersion, NewVersion string
}

// Machine is one VM of a sample system.
type Machine struct {
	Name      string // libvirt domain or VM of the universe
	Image     string // recipe
	Address   netip.Addr
	MAC       string
	MemoryMiB uint
	Format    string // raw or qcow2
	// ExtraDisk adds a second, empty disk, so that clones of several disks are tried.
	ExtraDiskMiB uint
}

const (
	gatewayPrefix = "10.20.0.1/24"
	bridge        = "virbr-prod"
	network       = "production"
)

var systems = []*System{wiki(), small(), store()}

// Systems names the sample systems.
func Systems() []string {
	var names []string
	for _, s := range systems {
		names = append(names, s.Name)
	}
	return names
}

// SystemByName finds a sample system.
func SystemByName(name string) (*System, error) {
	i := slices.IndexFunc(systems, func(s *System) bool { return s.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("unknown sample system %q: there are %s", name, strings.Join(Systems(), ", "))
	}
	return systems[i], nil
}

// Images lists the recipes that a system needs.
func (s *System) Images() []string {
	var names []string
	for _, m := range slices.Concat(s.Production, s.New) {
		if !slices.Contains(names, m.Image) {
			names = append(names, m.Image)
		}
	}
	return names
}

// base is the URL that clients use.
func base(vip netip.AddrPort) string {
	if vip.Port() == 80 {
		return "http://" + vip.Addr().String()
	}
	return "http://" + vip.String()
}

func wiki() *System {
	vip := netip.MustParseAddrPort("198.51.100.80:80")
	s := &System{
		Name: "wiki",
		Production: []Machine{
			{Name: "wiki-db", Image: "wiki-db-12", Address: netip.MustParseAddr("10.20.0.11"), MAC: "52:54:00:20:00:11", MemoryMiB: 768, Format: "qcow2"},
			{Name: "wiki-web", Image: "wiki-web-12", Address: netip.MustParseAddr("10.20.0.10"), MAC: "52:54:00:20:00:10", MemoryMiB: 1024, Format: "raw"},
		},
		New: []Machine{
			{Name: "db", Image: "wiki-db-13", Address: netip.MustParseAddr("10.20.0.12"), MAC: "52:54:00:20:00:12", MemoryMiB: 1024, Format: "raw"},
			{Name: "web", Image: "wiki-web-13", Address: netip.MustParseAddr("10.20.0.10"), MAC: "52:54:00:20:00:13", MemoryMiB: 1024, Format: "raw"},
		},
		VIP: vip, FrontEnd: netip.MustParseAddrPort("10.20.0.10:80"),
		PlanTemplate: wikiPlan,
		Clients: []ClientOptions{
			{Name: "reader-1", Kind: "reader", Pause: 4 * time.Second, KeepAlive: true},
			{Name: "reader-2", Kind: "reader", Pause: 5 * time.Second},
			{Name: "editor-1", Kind: "editor", Pause: 4 * time.Second, KeepAlive: true},
			{Name: "editor-2", Kind: "editor", Pause: 6 * time.Second},
		},
		VersionOf: wikiVersion, CheckAnswer: wikiCheck,
		OldVersion: "MediaWiki 1.39", NewVersion: "MediaWiki 1.43",
		Serial: func(_ string, n int) string { return fmt.Sprintf("* serial %d.", n) },
	}
	s.ReadRequest = func(r *rand.Rand) (*http.Request, error) {
		return http.NewRequest(http.MethodGet, base(vip)+"/mediawiki/index.php?title=Special:Random&n="+fmt.Sprint(r.IntN(1000)), nil)
	}
	s.EditRequest = func(client string, serial int) (*http.Request, error) { return wikiEdit(base(vip), client, serial) }
	s.LedgerRequest = func(client string) (*http.Request, error) {
		return http.NewRequest(http.MethodGet, base(vip)+"/mediawiki/index.php?action=raw&title="+strings.ReplaceAll(LedgerTitle(client), " ", "_"), nil)
	}
	return s
}

func small() *System {
	vip := netip.MustParseAddrPort("198.51.100.80:80")
	s := &System{
		Name: "small",
		Production: []Machine{
			{Name: "small-app", Image: "small-12", Address: netip.MustParseAddr("10.20.0.10"), MAC: "52:54:00:20:00:10", MemoryMiB: 384, Format: "qcow2", ExtraDiskMiB: 64},
		},
		New: []Machine{
			{Name: "app", Image: "small-13", Address: netip.MustParseAddr("10.20.0.20"), MAC: "52:54:00:20:00:20", MemoryMiB: 384, Format: "raw"},
		},
		VIP: vip, FrontEnd: netip.MustParseAddrPort("10.20.0.10:80"),
		PlanTemplate: smallPlan,
		Clients: []ClientOptions{
			{Name: "reader-1", Kind: "reader", Pause: 300 * time.Millisecond, KeepAlive: true},
			{Name: "editor-1", Kind: "editor", Pause: 300 * time.Millisecond, KeepAlive: true},
			{Name: "editor-2", Kind: "editor", Pause: 400 * time.Millisecond},
		},
		OldVersion: "12", NewVersion: "13",
		VersionOf:   func(h http.Header, _ []byte) string { return h.Get("X-Version") },
		CheckAnswer: func(string, []byte) error { return nil },
		Serial:      func(client string, n int) string { return fmt.Sprintf("%s serial %d.", client, n) },
	}
	s.ReadRequest = func(*rand.Rand) (*http.Request, error) {
		return http.NewRequest(http.MethodGet, base(vip)+"/", nil)
	}
	s.EditRequest = func(client string, serial int) (*http.Request, error) {
		return http.NewRequest(http.MethodPost, base(vip)+"/", strings.NewReader(fmt.Sprintf("%s serial %d.\n", client, serial)))
	}
	s.LedgerRequest = func(string) (*http.Request, error) { return http.NewRequest(http.MethodGet, base(vip)+"/", nil) }
	return s
}

// store is a database alone: clients talk to it without a program between.
func store() *System {
	return &System{
		Name: "store",
		Production: []Machine{
			{Name: "store-db", Image: "store-db-12", Address: netip.MustParseAddr("10.20.0.11"), MAC: "52:54:00:20:00:11", MemoryMiB: 768, Format: "qcow2"},
		},
		New: []Machine{
			{Name: "db", Image: "store-db-13", Address: netip.MustParseAddr("10.20.0.12"), MAC: "52:54:00:20:00:12", MemoryMiB: 768, Format: "raw"},
		},
		VIP: netip.MustParseAddrPort("198.51.100.80:3306"), FrontEnd: netip.MustParseAddrPort("10.20.0.11:3306"),
		PlanTemplate: storePlan,
	}
}
