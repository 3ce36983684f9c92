package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// validator checks what the file alone can tell. It records faults and never stops at one.
type validator struct {
	d *decoder
	p *Plan
	// vms and domains are the names that references may use.
	vms, domains []string
	// decoded marks the paths that decoding already faulted; what validation would say there is an echo.
	decoded map[string]bool
}

func newValidator(d *decoder, p *Plan) *validator {
	v := &validator{d: d, p: p, decoded: maps.Clone(d.misspelt)}
	for _, f := range d.faults {
		v.decoded[f.Path] = true
	}
	for _, vm := range p.Universe.VMs {
		v.vms = append(v.vms, vm.Name)
	}
	for _, vm := range p.Production.VMs {
		v.domains = append(v.domains, vm.Domain)
	}
	return v
}

func (v *validator) all() {
	v.head()
	v.production()
	v.universe()
	v.services()
	v.steps()
	v.data()
	v.files()
	v.checks()
	v.comparisons()
	v.limits()
}

// fault records a fault unless decoding already faulted that path or what it is a part of.
func (v *validator) fault(path, found, expected, fix string) {
	for p := path; p != ""; p = p[:max(0, strings.LastIndexAny(p, ".["))] {
		if v.decoded[p] {
			return
		}
	}
	v.d.at(path, found, expected, fix)
}

// given reports whether the file has a value at path.
func (v *validator) given(path string) bool {
	_, ok := v.d.places[path]
	return ok
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,23}$`)

func (v *validator) head() {
	if v.p.Version != 1 {
		v.fault("version", fmt.Sprint(v.p.Version), "version 1", "this imago knows no other")
	}
	v.shortName("name", v.p.Name)
	if u, err := url.Parse(v.p.Connect); err != nil || u.Scheme != "qemu" && !strings.HasPrefix(u.Scheme, "qemu+") {
		v.fault("connect", quote(v.p.Connect), "a libvirt URI of the QEMU driver", "write such as qemu:///system or qemu+ssh://root@host/system")
	}
	v.absolute("state_dir", v.p.StateDir)
	v.present("ssh.user", v.p.SSH.User)
	v.present("ssh.key", v.p.SSH.Key)
}

func (v *validator) shortName(path, name string) {
	if !nameForm.MatchString(name) {
		v.fault(path, quote(name), "1 to 24 of a-z, 0-9 and -, not starting with -", "choose a shorter or simpler name")
	}
}

func (v *validator) present(path, text string) {
	if strings.TrimSpace(text) == "" {
		v.fault(path, "an empty text", "a text", "write it, or remove the key if it is optional")
	}
}

// title checks a free name that must be unique among its kind.
func (v *validator) title(path, name string, seen map[string]bool) {
	v.present(path, name)
	if seen[name] && name != "" {
		v.fault(path, quote(name)+" a second time", "a name of its own", "rename one of the two")
	}
	seen[name] = true
}

func (v *validator) absolute(at, p string) {
	if !path.IsAbs(p) || path.Clean(p) == "/" || strings.ContainsRune(p, 0) {
		v.fault(at, quote(p), "an absolute path", "start it with / and name a file or folder")
	}
}

func (v *validator) positive(path string, d time.Duration) {
	if d <= 0 {
		v.fault(path, d.String(), "a time above zero", `write such as "90s"`)
	}
}

// exactlyOne checks that the file gives one of the keys, and reports which one it is ("" when not exactly one).
func (v *validator) exactlyOne(path string, keys ...string) string {
	var has []string
	for _, k := range keys {
		if v.given(join(path, k)) {
			has = append(has, k)
		}
	}
	if len(has) == 1 {
		return has[0]
	}
	found := "none of them"
	if len(has) > 1 {
		found = strings.Join(has, " and ")
	}
	v.fault(path, found, "exactly one of "+strings.Join(keys, ", "), "decide for one")
	return ""
}

// only checks that keys which belong to another kind of entry are absent.
func (v *validator) only(path, kind string, foreign ...string) {
	for _, k := range foreign {
		if v.given(join(path, k)) {
			v.fault(join(path, k), "the key "+k, "no such key beside "+kind, "remove it")
		}
	}
}

// known checks a reference by name. With no names at all the list itself is faulted, and every reference would echo it.
func (v *validator) known(path, name, kind string, names []string) bool {
	if slices.Contains(names, name) {
		return true
	}
	if len(names) > 0 {
		v.fault(path, quote(name), "the name of "+kind, didYouMean(name, names))
	}
	return false
}

// vm gives a VM of the universe by name.
func (v *validator) vm(name string) (VM, string, bool) {
	i := slices.Index(v.vms, name)
	if i < 0 {
		return VM{}, "", false
	}
	return v.p.Universe.VMs[i], fmt.Sprintf("universe.vms[%d]", i), true
}

// login checks that path names a VM that imago can log in to.
func (v *validator) login(path, name string) {
	if !v.known(path, name, "a VM of the universe", v.vms) {
		return
	}
	vm, at, _ := v.vm(name)
	if !vm.Address.IsValid() && !v.decoded[join(at, "address")] {
		v.fault(path, fmt.Sprintf("%q, which has no address", name), "a VM with an address", "give universe.vms "+name+" its address")
	}
	if len(vm.HostKeys) == 0 && !v.decoded[join(at, "host_keys")] {
		v.fault(path, fmt.Sprintf("%q, which has no host_keys", name), "a VM with pinned SSH host keys", "give universe.vms "+name+" its host_keys; imago trusts no key blindly")
	}
}

// outside reports whether an address is in no subnet of production. It says no while a gateway itself is faulted.
func (v *validator) outside(a netip.Addr) bool {
	gateways := v.p.Production.Gateways
	fits := func(g netip.Prefix) bool { return !g.IsValid() || g.Contains(a) }
	return len(gateways) > 0 && !slices.ContainsFunc(gateways, fits)
}

func quote(s string) string {
	if s == "" {
		return "an empty text"
	}
	return fmt.Sprintf("%q", shorten(s))
}
