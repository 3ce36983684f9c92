package hypervisor

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"libvirt.org/go/libvirtxml"
)

// Virtualization types of a domain, as libvirt names them.
const (
	TypeKVM  = "kvm"  // hardware virtualization
	TypeQEMU = "qemu" // software emulation (TCG)
)

// CloneSpec says what of a clone differs from its source.
type CloneSpec struct {
	Name    string
	UUID    string
	Run     string
	Expires time.Time // zero: never
	// HWUUID keeps the SMBIOS UUID by <hwuuid> ([Conn.KnowsHWUUID]); without it
	// QEMU is given the UUID on its command line.
	HWUUID bool
	// Disks replaces the source's writable disks, by target. Each must be there.
	Disks map[string]CloneDisk
	// ExtraDisks are added after the source's own.
	ExtraDisks []ExtraDisk
	// Network is the universe's libvirt network that NICs move to.
	Network string
	// Networks overrides Network for some NICs, by MAC in lower case.
	Networks map[string]string
	// NVRAM is the clone's own copy of the source's UEFI variables.
	NVRAM string
	// ConsoleLog is the file that the first serial console writes to; empty drops its output.
	ConsoleLog string
	// Type is [TypeKVM] or [TypeQEMU]; empty keeps the source's.
	Type string
	// CPUModel is used when the source's CPU needs KVM and Type is qemu; default [TCGModel].
	CPUModel string
	// MaxChain refuses disks with more images in their chain; default 16.
	MaxChain int
}

// CloneDisk is the image a clone uses in place of one of the source's disks.
type CloneDisk struct {
	Path    string // image file
	Format  string // qcow2 or raw
	Backing *Backing
}

// Backing is what an overlay is backed by: a frozen view or a file.
type Backing struct {
	Socket string // unix socket of an NBD server; the export is read as raw
	Export string
	Path   string // an image file, if Socket is empty
	Format string // of Path
}

// ExtraDisk is a disk that the source does not have, such as the frozen view
// of another VM's disk.
type ExtraDisk struct {
	CloneDisk
	Serial   string // by which the guest finds it: /dev/disk/by-id/virtio-<serial>
	ReadOnly bool
}

const (
	defaultMaxChain = 16
	// A virtio serial is cut at 20 bytes by QEMU.
	maxSerial = 20
)

// CloneXML rewrites a production domain into its clone. It is pure: it neither
// asks nor changes anything. What the guest can see stays (MACs, SMBIOS,
// disk serials, buses, PCI addresses, CPUs, memory); what would touch
// production or clash with it goes. A domain that cannot be cloned gives a
// [*NotCloneableError] that lists every reason.
func CloneXML(src *libvirtxml.Domain, spec CloneSpec) (*libvirtxml.Domain, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	dom, err := copyDomain(src)
	if err != nil {
		return nil, err
	}
	if dom.Devices == nil {
		dom.Devices = &libvirtxml.DomainDeviceList{}
	}
	if reasons := refusals(dom, spec); len(reasons) > 0 {
		return nil, &NotCloneableError{Domain: src.Name, Reasons: reasons}
	}
	if err := rewrite(dom, spec); err != nil {
		return nil, fmt.Errorf("clone domain %q: %w", src.Name, err)
	}
	return reparse(dom)
}

func (s CloneSpec) validate() error {
	switch {
	case s.Name == "":
		return fmt.Errorf("clone: no name given")
	case s.UUID == "":
		return fmt.Errorf("clone %q: no UUID given", s.Name)
	case s.Run == "":
		return fmt.Errorf("clone %q: no run given", s.Name)
	case s.Type != "" && s.Type != TypeKVM && s.Type != TypeQEMU:
		return fmt.Errorf("clone %q: unknown virtualization type %q", s.Name, s.Type)
	}
	for _, d := range s.ExtraDisks {
		if len(d.Serial) > maxSerial {
			return fmt.Errorf("clone %q: disk serial %q is longer than %d bytes", s.Name, d.Serial, maxSerial)
		}
	}
	return nil
}

// copyDomain copies by writing and reading the XML, so nothing is shared with src.
func copyDomain(src *libvirtxml.Domain) (*libvirtxml.Domain, error) {
	text, err := src.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write the XML of domain %q: %w", src.Name, err)
	}
	dom := new(libvirtxml.Domain)
	if err := dom.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("read back the XML of domain %q: %w", src.Name, err)
	}
	return dom, nil
}

// reparse writes, reads and writes the XML again: if the two differ, the
// document does not mean what its builder meant, and libvirt must not get it.
func reparse(dom *libvirtxml.Domain) (*libvirtxml.Domain, error) {
	first, err := dom.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write the XML of domain %q: %w", dom.Name, err)
	}
	again, err := copyDomain(dom)
	if err != nil {
		return nil, err
	}
	second, err := again.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write the XML of domain %q again: %w", dom.Name, err)
	}
	if first != second {
		return nil, fmt.Errorf("the XML of domain %q changes when it is read and written again", dom.Name)
	}
	return again, nil
}

func rewrite(dom *libvirtxml.Domain, spec CloneSpec) error {
	source := dom.UUID
	dom.ID = nil
	keepIdentity(dom, spec)
	dom.Name, dom.UUID = spec.Name, spec.UUID
	dom.Title, dom.Description = "", ""
	if dom.GenID != nil {
		// The generation ID exists to tell a guest that it is a copy: a new one.
		dom.GenID = &libvirtxml.DomainGenID{}
	}
	mark, err := encodeMark(Mark{Run: spec.Run, SourceUUID: source, Expires: spec.Expires}, spec.UUID)
	if err != nil {
		return err
	}
	dom.Metadata = &libvirtxml.DomainMetadata{XML: mark}
	dropHostBindings(dom)
	rewriteFirmware(dom, spec)
	rewriteType(dom, spec)
	rewriteDisks(dom, spec)
	rewriteNICs(dom, spec)
	rewriteChardevs(dom, spec)
	rewriteScreens(dom)
	return nil
}

// keepIdentity gives the clone the SMBIOS UUID of its source, because licences,
// cloud-init and monitoring know the machine by it.
func keepIdentity(dom *libvirtxml.Domain, spec CloneSpec) {
	identity := dom.HWUUID
	if identity == "" {
		identity = dom.UUID
	}
	dom.HWUUID = ""
	dropSysinfoUUID(dom)
	if spec.HWUUID {
		dom.HWUUID = identity
		return
	}
	if dom.QEMUCommandline == nil {
		dom.QEMUCommandline = &libvirtxml.DomainQEMUCommandline{}
	}
	dom.QEMUCommandline.Args = append(dom.QEMUCommandline.Args,
		libvirtxml.DomainQEMUCommandlineArg{Value: "-smbios"},
		libvirtxml.DomainQEMUCommandlineArg{Value: "type=1,uuid=" + identity})
}

// dropSysinfoUUID removes the entry that libvirt wants to equal <uuid>, which a clone's does not.
func dropSysinfoUUID(dom *libvirtxml.Domain) {
	for i := range dom.SysInfo {
		if dom.SysInfo[i].SMBIOS == nil || dom.SysInfo[i].SMBIOS.System == nil {
			continue
		}
		system := dom.SysInfo[i].SMBIOS.System
		system.Entry = slices.DeleteFunc(system.Entry, func(e libvirtxml.DomainSysInfoEntry) bool { return e.Name == "uuid" })
	}
}

// dropHostBindings removes what ties the source to parts of the host that
// production uses: labels, pinned CPUs, huge pages, cgroups, runtime names.
func dropHostBindings(dom *libvirtxml.Domain) {
	dom.SecLabel = nil
	dom.Resource = nil
	dom.NUMATune = nil
	dom.Perf = nil
	if dom.VCPU != nil {
		dom.VCPU.CPUSet = ""
	}
	if dom.CPUTune != nil {
		dom.CPUTune = &libvirtxml.DomainCPUTune{Shares: dom.CPUTune.Shares, Period: dom.CPUTune.Period, Quota: dom.CPUTune.Quota,
			GlobalPeriod: dom.CPUTune.GlobalPeriod, GlobalQuota: dom.CPUTune.GlobalQuota}
	}
	if dom.MemoryBacking != nil {
		dom.MemoryBacking.MemoryHugePages = nil
		dom.MemoryBacking.MemoryLocked = nil
	}
	if strings.HasPrefix(dom.OnCrash, "coredump") {
		dom.OnCrash = "destroy" // a dump would fill production's disk
	}
	dropRuntimeNames(reflect.ValueOf(dom.Devices))
}

var (
	aliasType    = reflect.TypeFor[*libvirtxml.DomainAlias]()
	secLabelType = reflect.TypeFor[[]libvirtxml.DomainDeviceSecLabel]()
)

// dropRuntimeNames clears device aliases (except the user's own "ua-" ones)
// and security labels wherever they are among the devices.
func dropRuntimeNames(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			dropRuntimeNames(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			dropRuntimeNames(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			dropRuntimeName(v.Field(i))
		}
	default:
	}
}

func dropRuntimeName(f reflect.Value) {
	switch f.Type() {
	case aliasType:
		alias, _ := f.Interface().(*libvirtxml.DomainAlias)
		if alias != nil && !strings.HasPrefix(alias.Name, "ua-") {
			f.SetZero()
		}
	case secLabelType:
		f.SetZero()
	default:
		dropRuntimeNames(f)
	}
}

func rewriteFirmware(dom *libvirtxml.Domain, spec CloneSpec) {
	if dom.OS == nil || dom.OS.NVRam == nil {
		return
	}
	// The copy exists already, so libvirt needs no template to make one.
	dom.OS.NVRam = &libvirtxml.DomainNVRam{NVRam: spec.NVRAM, Format: dom.OS.NVRam.Format}
}
