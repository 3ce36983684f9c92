package plan

import "net/netip"

// The struct tags are the single description of the file: `plan` is the key and whether it is required, `default` is
// the text that stands in for an absent key, `doc` is the sentence in the schema.

// Plan is one upgrade. A Plan that [Load] returned is complete: defaults are set, references resolve, relative host
// paths are absolute.
type Plan struct {
	Version             int            `plan:"version,required" doc:"Version of the plan format; always 1."`
	Name                string         `plan:"name,required" doc:"Names every resource of this upgrade: 1 to 24 of a-z, 0-9 and -."`
	Connect             string         `plan:"connect" default:"qemu:///system" doc:"libvirt connection URI."`
	Virtualization      Virtualization `plan:"virtualization" default:"auto" doc:"How the universe's new VMs run; auto decides by the CPU's flags."`
	StateDir            string         `plan:"state_dir" default:"/var/lib/imago" doc:"Directory for the journal, overlays and scratch files; an absolute path."`
	Production          Production     `plan:"production,required" doc:"The system under upgrade as it runs now."`
	SSH                 SSH            `plan:"ssh,required" doc:"How imago logs in to the universe's VMs."`
	Universe            Universe       `plan:"universe,required" doc:"The isolated copy in which the new version is made."`
	Services            []Service      `plan:"services,required" doc:"What clients use, and where it lives before and after the switch."`
	Convert             []Step         `plan:"convert" doc:"Conversion steps, run in order inside the universe."`
	Data                []DataSet      `plan:"data" doc:"Databases whose rows flow into the new version while production runs."`
	Files               []FileSet      `plan:"files" doc:"Folders that are kept equal from frozen views of production's disks."`
	Test                []Check        `plan:"test" doc:"The plan's own checks of the new version, made through the gateway namespace."`
	Verify              []Comparison   `plan:"verify" doc:"Comparisons of old data against new data, object by object."`
	Limits              Limits         `plan:"limits" doc:"What the upgrade may cost production and its clients."`
	Clients             Clients        `plan:"clients" doc:"Where clients log their requests, for the report."`
	Keep                Keep           `plan:"keep" doc:"How long the way back stays."`
	OutboundAfterSwitch Outbound       `plan:"outbound_after_switch" default:"nat" doc:"Whether the universe may open connections to the outside after the switch."`

	// Path is the file as given to Load; Dir is its absolute folder, against which relative host paths were resolved.
	Path, Dir string `plan:"-"`
	// Text is the file's content and SHA256 the hash of it, in hex.
	Text, SHA256 string `plan:"-"`
}

// Production describes the running system. Nothing of it is changed before finalize.
type Production struct {
	Gateways []netip.Prefix `plan:"gateways,required" doc:"Gateway addresses with prefix length that the gateway namespace takes over in the universe."`
	Network  string         `plan:"network" doc:"The libvirt network of the production VMs, used at finalize; or give bridge."`
	Bridge   string         `plan:"bridge" doc:"The host bridge of the production VMs, used at finalize; or give network."`
	VMs      []ProductionVM `plan:"vms,required" doc:"The VMs that belong to the system."`
}

// ProductionVM is one VM of the system under upgrade.
type ProductionVM struct {
	Domain string `plan:"domain,required" doc:"libvirt name or UUID."`
	Freeze Freeze `plan:"freeze" default:"auto" doc:"Whether the guest agent freezes file systems for the instant of the clone."`
}

// SSH is the login to the universe's VMs.
type SSH struct {
	User string `plan:"user" default:"root" doc:"Login name in the guests."`
	Key  string `plan:"key,required" doc:"Private key file; relative to the plan file."`
}

// Universe lists the VMs of the isolated copy.
type Universe struct {
	Transit netip.Prefix `plan:"transit" default:"100.127.255.0/30" doc:"Link network between host and gateway namespace; four addresses that nothing else uses."`
	VMs     []VM         `plan:"vms,required" doc:"Clones of production VMs and VMs from new images, in any mixture."`
}

// VM is one VM of the universe: a clone (Clone set) or from an image (Image set), never both.
type VM struct {
	Name     string      `plan:"name,required" doc:"Name inside the plan: 1 to 24 of a-z, 0-9 and -."`
	Clone    string      `plan:"clone" doc:"Production domain that this VM is cloned from; or give image."`
	Image    *Image      `plan:"image" doc:"New image that this VM is made from; or give clone."`
	Role     Role        `plan:"role" default:"serve" doc:"source: only there to read data from, cloned afresh at the switch, never promoted. serve: part of the new version."`
	Attach   []Attach    `plan:"attach" doc:"Frozen views of other production disks, as further disks of a source."`
	Address  netip.Addr  `plan:"address" doc:"Address of the VM in the universe; needed where the plan talks to it."`
	MAC      MAC         `plan:"mac" doc:"MAC address of a VM from an image; chosen by imago when absent."`
	HostKeys []HostKey   `plan:"host_keys" doc:"SSH host keys of the guest, as in a .pub file; needed where the plan logs in."`
	Memory   Bytes       `plan:"memory" doc:"Memory; a clone's default is that of its production VM, an image's is 1GiB."`
	VCPUs    int         `plan:"vcpus" doc:"Virtual CPUs; a clone's default is that of its production VM, an image's is 1."`
	Ready    []Readiness `plan:"ready" doc:"Conditions, in order, under which the VM counts as up; default is an SSH login where host_keys are given."`
}

// Image is a disk image on the host and, for direct boot, its kernel.
type Image struct {
	Disk    string      `plan:"disk,required" doc:"Image file; relative to the plan file. It is never written to."`
	Format  ImageFormat `plan:"format" default:"raw" doc:"Format of the image file."`
	SHA256  string      `plan:"sha256,required" doc:"SHA-256 of the image file in hex; checked before each use."`
	Kernel  string      `plan:"kernel" doc:"Kernel for direct boot; relative to the plan file."`
	Initrd  string      `plan:"initrd" doc:"Initial RAM disk for direct boot; relative to the plan file."`
	Cmdline string      `plan:"cmdline" doc:"Kernel command line for direct boot."`
}

// Attach is a frozen view of another production VM's disk.
type Attach struct {
	From   string `plan:"from,required" doc:"Production domain that owns the disk."`
	Disk   string `plan:"disk,required" doc:"Target name of the disk in that domain, such as vda."`
	Serial string `plan:"serial,required" doc:"Serial under which the guest finds the disk (/dev/disk/by-id/virtio-SERIAL); at most 20 characters."`
}

// Service is one thing that clients use: a virtual address and what stands behind it before and after the switch.
type Service struct {
	Name     string         `plan:"name,required" doc:"Name of the service."`
	VIP      netip.AddrPort `plan:"vip,required" doc:"Address and port that clients use."`
	Protocol Protocol       `plan:"protocol" default:"tcp" doc:"How open connections are drained at the switch."`
	Old      netip.AddrPort `plan:"old,required" doc:"Production's address and port behind the VIP."`
	New      Endpoint       `plan:"new,required" doc:"The universe's VM and port behind the VIP after the switch."`
}

// Endpoint is a port of a VM of the universe.
type Endpoint struct {
	VM   string `plan:"vm,required" doc:"VM of the universe."`
	Port Port   `plan:"port,required" doc:"TCP port."`
}
