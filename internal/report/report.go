package report

import "time"

// Result is how an upgrade ended, or where it stands.
type Result string

// The results.
const (
	Ready      Result = "ready"       // converted and tested; clients are on the old version
	Switched   Result = "switched"    // clients are on the new version; the old one is kept
	Finalized  Result = "finalized"   // clients are on the new version for good
	RolledBack Result = "rolled-back" // clients were on the new version and are back on the old one
	Aborted    Result = "aborted"     // given up; clients never left the old version
	Failed     Result = "failed"      // stopped by an error; a person must look
)

// Report is everything that is told about a run. [Write] fills in what follows from the rest: Seconds, the verdicts of
// Isolation, the sums of Data.
type Report struct {
	Format int    `json:"format"` // of this file; 1
	Result Result `json:"result"`
	// Reason says in words why the result is what it is; with a failure, the error.
	Reason    string            `json:"reason,omitempty"`
	Warnings  []string          `json:"warnings,omitempty"`
	Run       string            `json:"run"`
	Plan      Plan              `json:"plan"`
	Versions  map[string]string `json:"versions"` // program (imago, libvirt, QEMU, kernel) to version
	Started   time.Time         `json:"started"`
	Ended     time.Time         `json:"ended"`
	Seconds   float64           `json:"seconds"`
	Phases    []Phase           `json:"phases"`
	Clone     Clone             `json:"clone"`
	Isolation Isolation         `json:"isolation"`
	Tests     []Test            `json:"tests"`
	Data      Data              `json:"data"`
	Switch    *Switch           `json:"switch,omitempty"`   // nil when clients were never switched
	Rollback  *Rollback         `json:"rollback,omitempty"` // nil when there was none
	Clients   Clients           `json:"clients"`
	// Points is the picture of the clients' requests over time, as [ReadClientLogs] gives it.
	Points []Point `json:"points,omitempty"`
}

// Plan identifies the plan; Text is the whole file.
type Plan struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Text   string `json:"text"`
}

// Phase is a phase of the run with its steps.
type Phase struct {
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Outcome string    `json:"outcome"` // done, failed, running or cut-short
	Detail  string    `json:"detail,omitempty"`
	Steps   []Phase   `json:"steps,omitempty"`
}

// Clone says what the universe was made of and how long that took.
type Clone struct {
	Seconds     float64   `json:"seconds"`        // until all VMs of the universe were ready
	Taken       time.Time `json:"taken,omitzero"` // the instant of the views
	PulledBytes uint64    `json:"pulled_bytes"`   // copied in the background
	PerVM       []CloneVM `json:"per_vm"`         // the universe's VMs
	Frozen      []Frozen  `json:"frozen"`         // the production VMs at the instant
}

// CloneVM is one VM of the universe.
type CloneVM struct {
	Name         string  `json:"name"`
	From         string  `json:"from"`          // "clone of wiki-db" or "image wiki-db-13.raw"
	StartSeconds float64 `json:"start_seconds"` // until it ran
	ReadySeconds float64 `json:"ready_seconds"` // until its conditions were met
}

// Frozen is how long a production VM's file systems stood still for the instant of the clone.
type Frozen struct {
	Domain      string  `json:"domain"`
	Millis      float64 `json:"ms"`
	Consistency string  `json:"consistency"` // such as "file systems frozen" or "crash-consistent"
}

// Isolation is the proof that production was not changed and that nothing left the universe. A nil verdict says that it
// was not measured.
type Isolation struct {
	DomainXMLUnchanged *bool `json:"domain_xml_unchanged"` // derived from Domains
	DiskChainUnchanged *bool `json:"disk_chain_unchanged"` // derived from Domains
	// PacketsLeft counts packets of the universe that got out before the switch; nil when nobody counted.
	PacketsLeft  *uint64       `json:"packets_left"`
	PacketsTried uint64        `json:"packets_tried"`
	Attempts     []Attempt     `json:"attempts"`
	Domains      []DomainProof `json:"domains"`
}

// Attempt is one destination that the universe tried to reach, and could not.
type Attempt struct {
	Destination string `json:"destination"`
	Protocol    string `json:"protocol"`
	Port        uint16 `json:"port,omitempty"`
	Packets     uint64 `json:"packets"`
	Bytes       uint64 `json:"bytes"`
}

// DomainProof has the SHA-256 sums of one production domain before the clone and at the end, in hex; "" where it was not
// taken.
type DomainProof struct {
	Domain          string `json:"domain"`
	XMLBefore       string `json:"xml_sha256_before"`
	XMLAfter        string `json:"xml_sha256_after"`
	DiskChainBefore string `json:"disk_chain_sha256_before"`
	DiskChainAfter  string `json:"disk_chain_sha256_after"`
}

// Test is one of the plan's own checks.
type Test struct {
	Name    string  `json:"name"`
	Passed  bool    `json:"passed"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
}

// Data compares the old data with the new. The counts are sums over Checks.
type Data struct {
	Objects   int64       `json:"objects"`  // of the old side
	Verified  int64       `json:"verified"` // the same on both sides
	Missing   int64       `json:"missing"`  // only on the old side
	Extra     int64       `json:"extra"`    // only on the new side
	Different int64       `json:"different"`
	Checks    []DataCheck `json:"checks"`
	// Lost, Doubled and OutOfOrder are the sums over Checks (missing; named more
	// than once by one side) and over what the clients' own ledger says.
	Lost       int64   `json:"lost"`
	Doubled    int64   `json:"doubled"`
	OutOfOrder int64   `json:"out_of_order"`
	Ledger     *Ledger `json:"ledger,omitempty"` // nil when clients kept none
	// Sets and Files are what flowed while production ran.
	Sets  []DataSet `json:"sets,omitempty"`
	Files []FileSet `json:"files,omitempty"`
}

// Ledger is what the clients' own books say of the writes that they saw
// acknowledged: how many there were, and which are not in the new version
// exactly once and in order.
type Ledger struct {
	Acknowledged int64    `json:"acknowledged"`
	Lost         []string `json:"lost"`
	Doubled      []string `json:"doubled"`
	OutOfOrder   []string `json:"out_of_order"`
}

// DataSet is one database whose rows flowed.
type DataSet struct {
	Name        string  `json:"name"`
	Seconds     float64 `json:"seconds"`
	Rows        uint64  `json:"rows"`        // of the first pass
	Bytes       uint64  `json:"bytes"`       // of it
	Changes     uint64  `json:"changes"`     // applied from the log
	Rescheduled uint64  `json:"rescheduled"` // objects that went again because they changed
	Converted   uint64  `json:"converted"`   // objects
	Verified    uint64  `json:"verified"`    // objects, through the conversion
	Rejected    uint64  `json:"rejected"`    // objects that a conversion set aside
	Position    string  `json:"position"`    // of production's log, up to which all is applied
	Late        bool    `json:"late"`        // production was written to after the flip
}

// FileSet is one folder that was kept equal.
type FileSet struct {
	Name     string  `json:"name"`
	Seconds  float64 `json:"seconds"`
	Files    int64   `json:"files"`
	Copied   int64   `json:"copied"`
	Deleted  int64   `json:"deleted"`
	Bytes    int64   `json:"bytes"`
	Compared int64   `json:"compared"`
}

// DataCheck is one comparison of the plan.
type DataCheck struct {
	Name      string  `json:"name"`
	Seconds   float64 `json:"seconds"`
	Objects   int64   `json:"objects"`
	Verified  int64   `json:"verified"`
	Missing   Finding `json:"missing"`
	Extra     Finding `json:"extra"`
	Different Finding `json:"different"`
	Doubled   Finding `json:"doubled"`
}

// Finding counts objects and names some of them.
type Finding struct {
	Count  int64    `json:"count"`
	Sample []string `json:"sample,omitempty"`
}

// Switch says what the switch cost the clients.
type Switch struct {
	HeldFrom        time.Time `json:"held_from"`
	Flipped         time.Time `json:"flipped"`
	HoldMS          float64   `json:"hold_ms"`
	DrainMS         float64   `json:"drain_ms"`
	FlipUS          float64   `json:"flip_us"`
	HeldConnections int       `json:"held_connections"` // that waited in the hold
	// Of data that flows: when, in the hold, no request was in flight any more, and
	// how long the last rows and files took after that.
	DrainedMS     float64 `json:"drained_ms,omitempty"`
	RowsMS        float64 `json:"rows_ms,omitempty"`
	StepsMS       float64 `json:"steps_ms,omitempty"` // the plan's steps for the switch, after the rows
	FilesMS       float64 `json:"files_ms,omitempty"`
	LastChangesMS float64 `json:"last_changes_ms,omitempty"`
	Closed        int     `json:"closed_connections"`
	Forced        int     `json:"forced_connections"` // ended although not idle
}

// Rollback says what the way back cost and lost.
type Rollback struct {
	Flipped time.Time `json:"flipped,omitzero"`
	HoldMS  float64   `json:"hold_ms"`
	FlipUS  float64   `json:"flip_us"`
	Lost    []Lost    `json:"lost"`
}

// Lost is what one comparison found written since the switch.
type Lost struct {
	Name    string  `json:"name"`
	Added   Finding `json:"added"`
	Changed Finding `json:"changed"`
	Removed Finding `json:"removed"`
}
