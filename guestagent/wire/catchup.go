package wire

// Disk names a disk of the guest and what of it is mounted.
type Disk struct {
	Serial     string `json:"serial"`
	Partition  int    `json:"partition,omitempty"`
	FileSystem string `json:"file_system,omitempty"`
	// WaitMS is how long it may take to appear, in milliseconds.
	WaitMS int64 `json:"wait_ms"`
}

// Mount asks to mount Disk on Where, or to unmount Where.
type Mount struct {
	Disk  *Disk  `json:"disk,omitempty"`
	Where []byte `json:"where"`
}

// CatchUp asks to make the tree To equal to the tree From. With a Disk, From is
// a path in its file system, which is mounted for the call.
type CatchUp struct {
	Disk      *Disk  `json:"disk,omitempty"`
	From      []byte `json:"from"`
	To        []byte `json:"to"`
	Manifest  []byte `json:"manifest,omitempty"`
	Owner     string `json:"owner,omitempty"` // as in Meta
	Delete    bool   `json:"delete,omitempty"`
	Full      bool   `json:"full,omitempty"`
	CheckOnly bool   `json:"check_only,omitempty"`
	Frozen    bool   `json:"frozen,omitempty"`
	// TakenNS is the view's instant by the host's clock; 0 is not known.
	TakenNS int64 `json:"taken_ns,omitempty"`
	// Rate is the rate to begin with. Where it is set, the agent pauses when no
	// KindRate comes for RateExpiry.
	Rate *Rate `json:"rate,omitempty"`
}

// RateExpiry is how long a rate holds, in seconds: who turned it may be gone.
const RateExpiry = 15

// Rate is a speed of reading; negative is no bound, 0 pauses.
type Rate struct {
	BytesPerSecond int64 `json:"bps"`
}

// CatchUpProgress is how far the agent is.
type CatchUpProgress struct {
	Entries int64 `json:"entries"`
	Read    int64 `json:"read"`
	Copied  int64 `json:"copied"`
	Bytes   int64 `json:"bytes"`
	Paused  bool  `json:"paused,omitempty"`
}

// CatchUpResult counts what was found and done.
type CatchUpResult struct {
	Files         int64    `json:"files"`
	Dirs          int64    `json:"dirs"`
	Links         int64    `json:"links"`
	Hard          int64    `json:"hard"`
	Specials      int64    `json:"specials"`
	Sockets       int64    `json:"sockets"`
	Skipped       int64    `json:"skipped"`
	Compared      int64    `json:"compared"`
	ComparedBytes int64    `json:"compared_bytes"`
	Copied        int64    `json:"copied"`
	Bytes         int64    `json:"bytes"`
	Linked        int64    `json:"linked"`
	Touched       int64    `json:"touched"`
	Deleted       int64    `json:"deleted"`
	Differed      int64    `json:"differed"`
	Different     [][]byte `json:"different,omitempty"`
	Foreign       int64    `json:"foreign"`
	Foreigners    [][]byte `json:"foreigners,omitempty"`
	Unkept        int64    `json:"unkept"`
	Faults        []Fault  `json:"faults,omitempty"`
	FaultCount    int64    `json:"fault_count"`
	// NothingCompared: a full comparison compared nothing.
	NothingCompared bool `json:"nothing_compared,omitempty"`
	// In nanoseconds.
	WaitedNS    int64 `json:"waited_ns"`
	MountedNS   int64 `json:"mounted_ns"`
	WorkedNS    int64 `json:"worked_ns"`
	UnmountedNS int64 `json:"unmounted_ns"`
}

// Fault is one entry that could not be made equal, and why.
type Fault struct {
	Path []byte `json:"path"`
	Text string `json:"text"`
}
