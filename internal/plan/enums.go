package plan

// The words that a plan may use where there is a choice.
type (
	// Virtualization selects how new VMs run.
	Virtualization string
	// Freeze says whether the guest agent must freeze file systems.
	Freeze string
	// Role is what a VM of the universe is for.
	Role string
	// ImageFormat is the format of an image file.
	ImageFormat string
	// Protocol says how connections are drained.
	Protocol string
	// When says in which conversions a step takes part.
	When string
	// Outbound says whether the promoted universe may open connections.
	Outbound string
	// Flavor is the kind of a database server.
	Flavor string
)

// Choices of [Virtualization].
const (
	VirtAuto Virtualization = "auto"
	VirtKVM  Virtualization = "kvm"
	VirtQEMU Virtualization = "qemu"
)

// Choices of [Freeze].
const (
	FreezeAuto     Freeze = "auto"
	FreezeRequired Freeze = "required"
	FreezeNever    Freeze = "never"
)

// Choices of [Role].
const (
	RoleSource Role = "source"
	RoleServe  Role = "serve"
)

// Choices of [ImageFormat].
const (
	FormatRaw   ImageFormat = "raw"
	FormatQcow2 ImageFormat = "qcow2"
)

// Choices of [Protocol].
const (
	ProtocolHTTP Protocol = "http"
	ProtocolTCP  Protocol = "tcp"
)

// Choices of [When].
const (
	WhenPrepare When = "prepare"
	WhenSwitch  When = "switch"
	WhenBoth    When = "both"
)

// Choices of [Outbound].
const (
	OutboundNAT    Outbound = "nat"
	OutboundSealed Outbound = "sealed"
)

// Choices of [Flavor].
const (
	FlavorMariaDB Flavor = "mariadb"
	FlavorMySQL   Flavor = "mysql"
)

// choice is a string type with a closed set of words.
type choice interface{ choices() []string }

func (Virtualization) choices() []string { return []string{"auto", "kvm", "qemu"} }
func (Freeze) choices() []string         { return []string{"auto", "required", "never"} }
func (Role) choices() []string           { return []string{"source", "serve"} }
func (ImageFormat) choices() []string    { return []string{"raw", "qcow2"} }
func (Protocol) choices() []string       { return []string{"http", "tcp"} }
func (When) choices() []string           { return []string{"prepare", "switch", "both"} }
func (Outbound) choices() []string       { return []string{"nat", "sealed"} }
func (Flavor) choices() []string         { return []string{"mariadb", "mysql"} }

// During reports whether a step with this When takes part in the conversion w, which is WhenPrepare or WhenSwitch.
func (s When) During(w When) bool { return s == WhenBoth || s == w }
