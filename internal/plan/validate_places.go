package plan

import (
	"fmt"
	"net/netip"
	"regexp"
)

func (v *validator) production() {
	p := v.p.Production
	if len(p.Gateways) == 0 {
		v.fault("production.gateways", "no address", "at least one gateway address", "write production's gateway, such as 10.20.0.1/24")
	}
	for i, g := range p.Gateways {
		v.gateway(fmt.Sprintf("production.gateways[%d]", i), g, p.Gateways[:i])
	}
	switch v.exactlyOne("production", "network", "bridge") {
	case "network":
		v.present("production.network", p.Network)
	case "bridge":
		if !interfaceForm.MatchString(p.Bridge) {
			v.fault("production.bridge", quote(p.Bridge), "the name of a bridge on the host", "see ip link show type bridge")
		}
	}
	if len(p.VMs) == 0 {
		v.fault("production.vms", "no VM", "at least one VM", "list the domains of the system")
	}
	seen := map[string]bool{}
	for i, vm := range p.VMs {
		v.title(fmt.Sprintf("production.vms[%d].domain", i), vm.Domain, seen)
	}
}

var interfaceForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`)

func (v *validator) gateway(path string, g netip.Prefix, before []netip.Prefix) {
	if !g.IsValid() {
		return
	}
	if !g.Addr().Is4() {
		v.fault(path, g.String(), "an IPv4 address with prefix length", "write production's IPv4 gateway; IPv6 in the universe is dropped and counted")
		return
	}
	if g.Addr() == g.Masked().Addr() && g.Bits() < g.Addr().BitLen() {
		v.fault(path, g.String(), "the gateway's own address", "write the host address, not the network's, such as 10.20.0.1/24")
	}
	for _, b := range before {
		if b.IsValid() && b.Addr() == g.Addr() {
			v.fault(path, g.String()+" a second time", "each gateway once", "remove one of the two")
		}
	}
}

func (v *validator) universe() {
	v.transit()
	if len(v.p.Universe.VMs) == 0 {
		v.fault("universe.vms", "no VM", "at least one VM", "list clones and new images")
	}
	names, taken := map[string]bool{}, v.gatewayAddresses()
	macs, clones := map[MAC]string{}, map[string]string{}
	for i, vm := range v.p.Universe.VMs {
		at := fmt.Sprintf("universe.vms[%d]", i)
		v.shortName(at+".name", vm.Name)
		v.title(at+".name", vm.Name, names)
		v.origin(at, vm, clones)
		v.address(at+".address", vm, taken)
		if other, twice := macs[vm.MAC]; twice && vm.MAC != "" {
			v.fault(at+".mac", fmt.Sprintf("%q, which VM %s has too", vm.MAC, other), "a MAC address of its own", "change one of the two")
		}
		macs[vm.MAC] = vm.Name
		v.size(at, vm)
		v.readiness(at, vm)
	}
}

func (v *validator) transit() {
	t := v.p.Universe.Transit
	if !t.IsValid() {
		return
	}
	if t.Masked() != t || !t.Addr().Is4() || t.Bits() != 30 {
		v.fault("universe.transit", t.String(), "an IPv4 network of four addresses (/30)", "write the network's address, such as 100.127.255.0/30")
	}
	for _, g := range v.p.Production.Gateways {
		if g.IsValid() && g.Overlaps(t) {
			v.fault("universe.transit", t.String()+", which overlaps "+g.Masked().String(), "a network that production does not use", "choose another")
		}
	}
}

func (v *validator) gatewayAddresses() map[netip.Addr]string {
	taken := map[netip.Addr]string{}
	for _, g := range v.p.Production.Gateways {
		taken[g.Addr()] = "the gateway"
	}
	return taken
}

// origin checks where a VM comes from and what may stand beside that.
func (v *validator) origin(at string, vm VM, clones map[string]string) {
	switch v.exactlyOne(at, "clone", "image") {
	case "clone":
		v.only(at, "clone, which keeps its production VM's", "mac")
		v.known(at+".clone", vm.Clone, "a production VM", v.domains)
		if other, twice := clones[vm.Clone]; twice {
			v.fault(at+".clone", fmt.Sprintf("%q, which VM %s is cloned from too", vm.Clone, other), "one clone of each production VM", "both would have the same addresses in one network; remove one")
		}
		clones[vm.Clone] = vm.Name
	case "image":
		v.image(at+".image", vm)
		if vm.Role == RoleSource {
			v.fault(at+".role", "source", "serve for a VM from an image", "only a clone has production's data to read")
		}
	}
	v.attachments(at, vm)
}

var digestForm = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

func (v *validator) image(at string, vm VM) {
	if vm.Image == nil {
		return
	}
	v.present(at+".disk", vm.Image.Disk)
	if !digestForm.MatchString(vm.Image.SHA256) {
		v.fault(at+".sha256", quote(vm.Image.SHA256), "64 hex digits", "write what sha256sum prints for the disk file")
	}
	if vm.Image.Kernel == "" {
		v.only(at, "an image without kernel", "initrd", "cmdline")
	}
}

var (
	serialForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,20}$`)
	targetForm = regexp.MustCompile(`^[a-z]{2,3}[a-z]{1,2}$`)
)

func (v *validator) attachments(at string, vm VM) {
	if len(vm.Attach) > 0 && vm.Role != RoleSource {
		v.fault(at+".attach", "frozen views on a VM of role "+string(vm.Role), "role source", "views are taken afresh at the switch, so only a source may have them; set role: source")
	}
	seen := map[string]bool{}
	for i, a := range vm.Attach {
		p := fmt.Sprintf("%s.attach[%d]", at, i)
		v.known(p+".from", a.From, "a production VM", v.domains)
		if !targetForm.MatchString(a.Disk) {
			v.fault(p+".disk", quote(a.Disk), "a disk's target name, such as vda", "see virsh domblklist")
		}
		if !serialForm.MatchString(a.Serial) {
			v.fault(p+".serial", quote(a.Serial), "1 to 20 of letters, digits, _, . and -", "virtio cuts longer serials")
		}
		v.title(p+".serial", a.Serial, seen)
	}
}

func (v *validator) address(path string, vm VM, taken map[netip.Addr]string) {
	if !vm.Address.IsValid() {
		return
	}
	if v.outside(vm.Address) {
		v.fault(path, vm.Address.String(), "an address in a subnet of production.gateways", "correct the address or the gateway's prefix length")
	}
	if other, twice := taken[vm.Address]; twice {
		v.fault(path, fmt.Sprintf("%s, which %s has too", vm.Address, other), "an address of its own inside the universe", "change one of the two")
	}
	taken[vm.Address] = "VM " + vm.Name
}

func (v *validator) size(at string, vm VM) {
	if v.given(at+".memory") && vm.Memory < 16<<20 {
		v.fault(at+".memory", vm.Memory.String(), "at least 16MiB", "give the guest more")
	}
	if v.given(at+".vcpus") && (vm.VCPUs < 1 || vm.VCPUs > 512) {
		v.fault(at+".vcpus", fmt.Sprint(vm.VCPUs), "1 to 512", "correct it")
	}
}

func (v *validator) services() {
	if len(v.p.Services) == 0 {
		v.fault("services", "no service", "at least one service", "say what clients use")
	}
	names, vips := map[string]bool{}, map[netip.AddrPort]string{}
	for i, s := range v.p.Services {
		at := fmt.Sprintf("services[%d]", i)
		v.title(at+".name", s.Name, names)
		if other, twice := vips[s.VIP]; twice && s.VIP.IsValid() {
			v.fault(at+".vip", fmt.Sprintf("%s, which service %s has too", s.VIP, other), "a virtual address of its own", "change one of the two")
		}
		vips[s.VIP] = s.Name
		v.endpoints(at, s)
	}
}

func (v *validator) endpoints(at string, s Service) {
	for key, ap := range map[string]netip.AddrPort{"vip": s.VIP, "old": s.Old} {
		if ap.IsValid() && (ap.Port() == 0 || ap.Addr().IsUnspecified() || ap.Addr().IsMulticast()) {
			v.fault(at+"."+key, ap.String(), "an address and port of one host", "correct it")
		}
	}
	if s.VIP.IsValid() && s.VIP == s.Old {
		v.fault(at+".vip", s.VIP.String()+", which is old too", "a virtual address", "clients must not use production's own address")
	}
	if s.VIP.IsValid() && s.Old.IsValid() && s.VIP.Addr().Is4() != s.Old.Addr().Is4() {
		v.fault(at+".old", s.Old.String(), "the same IP version as vip", "addresses are rewritten, not translated")
	}
	if s.Old.IsValid() && v.outside(s.Old.Addr()) {
		v.fault(at+".old", s.Old.String(), "an address in a subnet of production.gateways", "correct the address or the gateway's prefix length")
	}
	v.newEndpoint(at+".new.vm", s)
}

func (v *validator) newEndpoint(path string, s Service) {
	if !v.known(path, s.New.VM, "a VM of the universe", v.vms) {
		return
	}
	vm, at, _ := v.vm(s.New.VM)
	if vm.Role == RoleSource {
		v.fault(path, fmt.Sprintf("%q, which is a source", vm.Name), "a VM of role serve", "a source is thrown away after the switch; choose the VM of the new version")
	}
	if !vm.Address.IsValid() && !v.decoded[at+".address"] {
		v.fault(path, fmt.Sprintf("%q, which has no address", vm.Name), "a VM with an address", "give universe.vms "+vm.Name+" its address")
	}
	if vm.Address.IsValid() && s.VIP.IsValid() && vm.Address.Is4() != s.VIP.Addr().Is4() {
		v.fault(path, vm.Address.String(), "the same IP version as vip", "addresses are rewritten, not translated")
	}
}
