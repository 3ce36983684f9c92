package plan

// Step is one conversion step: exactly one of Run, Copy and Tree is set.
type Step struct {
	Name    string            `plan:"name,required" doc:"Name of the step, shown in progress and report."`
	On      string            `plan:"on" doc:"VM of the universe on which run is executed."`
	Run     string            `plan:"run" doc:"Shell script, run by /bin/sh on the VM."`
	Env     map[string]string `plan:"env" doc:"Environment of run."`
	Dir     string            `plan:"dir" doc:"Working directory of run in the guest; an absolute path."`
	Copy    *Copy             `plan:"copy" doc:"One file, carried from one VM to another, verified by hash."`
	Tree    *Tree             `plan:"tree" doc:"A folder, carried from one VM to another; files already equal are left alone."`
	Timeout Duration          `plan:"timeout" default:"10m" doc:"The step fails when it takes longer."`
	When    When              `plan:"when" default:"both" doc:"prepare: at the first conversion. switch: again with fresh data while clients are held. both: at each."`
}

// Copy carries one file.
type Copy struct {
	From GuestPath `plan:"from,required" doc:"Source, as vm:/absolute/path."`
	To   GuestPath `plan:"to,required" doc:"Destination, as vm:/absolute/path."`
}

// Tree carries a folder.
type Tree struct {
	From   GuestPath `plan:"from,required" doc:"Source folder, as vm:/absolute/path."`
	To     GuestPath `plan:"to,required" doc:"Destination folder, as vm:/absolute/path."`
	Delete bool      `plan:"delete" doc:"Remove from the destination what the source does not have."`
	Owner  string    `plan:"owner" doc:"Owner of the files at the destination, as user or user:group; default is as at the source."`
}

// Check is one of the plan's own tests: exactly one of HTTP and Run is set.
type Check struct {
	Name    string   `plan:"name,required" doc:"Name of the check, shown in progress and report."`
	HTTP    *HTTP    `plan:"http" doc:"A request made from the gateway namespace."`
	On      string   `plan:"on" doc:"VM of the universe on which run is executed."`
	Run     string   `plan:"run" doc:"Shell script, run on the VM; exit status 0 passes."`
	Timeout Duration `plan:"timeout" default:"30s" doc:"The check fails when it takes longer."`
}

// HTTP is one request and what its answer must be.
type HTTP struct {
	URL         string            `plan:"url,required" doc:"http or https URL with the VM's address; the name, if any, goes into host."`
	Host        string            `plan:"host" doc:"Host header, where the server wants a name."`
	Method      string            `plan:"method" default:"GET" doc:"Request method."`
	Header      map[string]string `plan:"header" doc:"Headers of the request."`
	Status      int               `plan:"status" default:"200" doc:"Status that the answer must have."`
	Contains    []string          `plan:"contains" doc:"Texts that the answer's body must contain."`
	NotContains []string          `plan:"not_contains" doc:"Texts that the answer's body must not contain."`
}

// Readiness is one condition of a VM's being up: exactly one of SSH, Run, TCP and HTTP is set.
type Readiness struct {
	SSH     bool     `plan:"ssh" doc:"true: a login over SSH works."`
	Run     string   `plan:"run" doc:"Shell script, run on the VM until its exit status is 0."`
	TCP     Port     `plan:"tcp" doc:"Port on which the VM accepts connections."`
	HTTP    *HTTP    `plan:"http" doc:"Request, made from the gateway namespace until the answer is as wanted."`
	Timeout Duration `plan:"timeout" default:"180s" doc:"The VM counts as not up when the condition takes longer."`
	Hint    string   `plan:"hint" doc:"What a person should look at when the condition is not met."`
}

// Comparison compares old data with new data. Both sides name objects by a key and give a digest for each.
type Comparison struct {
	Name       string   `plan:"name,required" doc:"Name of the comparison, shown in progress and report."`
	Old        DataView `plan:"old,required" doc:"The old data."`
	New        DataView `plan:"new,required" doc:"The new data."`
	AllowEmpty bool     `plan:"allow_empty" doc:"Whether no object at all counts as verified; default is that it does not."`
}

// DataView is one side of a comparison: exactly one of Run and Tree is set.
type DataView struct {
	On   string `plan:"on,required" doc:"VM of the universe that has the data."`
	Run  string `plan:"run" doc:"Shell script that prints one line for each object: key, a tab, then the digest."`
	Tree string `plan:"tree" doc:"Folder in the guest; each file's relative path is its key and its hash the digest."`
}

// Limits bound what the upgrade costs.
type Limits struct {
	PullRate Rate     `plan:"pull_rate" default:"200MiB/s" doc:"Upper bound for reading production's disks in the background."`
	Hold     Duration `plan:"hold" default:"110s" doc:"Longest time that clients are held at the switch; at most 120s, since clients' kernels give up connecting after about 130 s."`
	Drain    Duration `plan:"drain" default:"30s" doc:"Longest time that requests in flight have to finish; part of hold."`
	Freeze   Duration `plan:"freeze" default:"10s" doc:"Longest time that a guest's file systems are frozen."`
	CopyRate Rate     `plan:"copy_rate" default:"1GiB/s" doc:"Upper bound for the first pass of rows and files."`
	// The regulator slows the transfer down when production feels it.
	LatencyRise int `plan:"latency_rise" default:"20" doc:"Percent by which the clients' 99th percentile of latency may rise before the transfer slows down; 0 lets it not be looked at."`
	IOPressure  int `plan:"io_pressure" default:"40" doc:"Percent of the time that tasks on this host may wait for disks before the transfer slows down; 0 lets it not be looked at."`
}

// Clients says where clients' request logs are.
type Clients struct {
	Logs   []string `plan:"logs" doc:"Patterns of JSON-lines files; relative to the plan file."`
	Ledger string   `plan:"ledger" doc:"JSON file in which a check of the clients' acknowledged writes says which are lost, doubled or out of order; relative to the plan file."`
}

// Keep says how long the old version stays after finalize.
type Keep struct {
	OldVMs Duration `plan:"old_vms" default:"168h" doc:"How long the retired production VMs are kept."`
}
