package wire

// Hello is the agent's first frame.
type Hello struct {
	Version int `json:"version"`
}

// The operations of a call.
const (
	OpRun   = "run"   // run a step; answers KindStdout, KindStderr, KindResult
	OpHash  = "hash"  // hash a file; answers KindDigests, KindResult
	OpTree  = "tree"  // walk a directory; answers KindEntry, KindResult
	OpApply = "apply" // change a directory by items; answers KindApplied, KindResult
	// Make one directory of the guest equal to another; answers KindProgress, KindResult.
	OpCatchUp = "catchup"
	OpMount   = "mount"   // mount a disk; answers KindResult
	OpUnmount = "unmount" // unmount it; answers KindResult
)

// Request is the host's first frame. Exactly the part that Op names is set.
type Request struct {
	Version int    `json:"version"`
	Op      string `json:"op"`
	// LeaseMS is how long, in milliseconds, the agent works on without a frame
	// from the host before it ends what it runs.
	LeaseMS int64    `json:"lease_ms"`
	Run     *Run     `json:"run,omitempty"`
	Hash    *Hash    `json:"hash,omitempty"`
	Tree    *Tree    `json:"tree,omitempty"`
	Apply   *Apply   `json:"apply,omitempty"`
	CatchUp *CatchUp `json:"catchup,omitempty"`
	Mount   *Mount   `json:"mount,omitempty"`
}

// Run asks for one step. Either Script or Argv is set.
type Run struct {
	Script string   `json:"script,omitempty"` // run by /bin/sh -e
	Argv   []string `json:"argv,omitempty"`
	Env    []string `json:"env,omitempty"` // "name=value"
	Dir    string   `json:"dir,omitempty"`
	// TimeoutMS is the time limit in milliseconds; zero is no limit.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
	// GraceMS is the time in milliseconds between SIGTERM and SIGKILL.
	GraceMS  int64 `json:"grace_ms"`
	HasStdin bool  `json:"has_stdin,omitempty"`
}

// Hash asks for the sums of a regular file.
type Hash struct {
	Path []byte `json:"path"`
	// Block, when not zero, asks for a sum of every Block bytes (the last may
	// be shorter) as KindDigests.
	Block int64 `json:"block,omitempty"`
	// Limit, when not zero, ends the reading after that many bytes.
	Limit int64 `json:"limit,omitempty"`
	// Whole asks for the sum of everything that was read.
	Whole bool `json:"whole,omitempty"`
}

// Tree asks for every entry below Root, and for Root itself as ".".
type Tree struct {
	Root []byte `json:"root"`
	// Skip is a name directly below Root that is left out.
	Skip []byte `json:"skip,omitempty"`
	// Hash asks for the SHA-256 of regular files.
	Hash bool `json:"hash,omitempty"`
}

// Apply opens Root for items.
type Apply struct {
	Root []byte `json:"root"`
	// MakeRoot makes Root and its parents (mode 0755) where they are missing.
	MakeRoot bool `json:"make_root,omitempty"`
	// Staging is a name directly below Root: a private directory is kept there
	// while items are applied. Empty: staged files lie in Root itself.
	Staging []byte `json:"staging,omitempty"`
}

// What an Item does.
const (
	ItemStage   = "stage"   // make or find the private file Stage; answers its size
	ItemPlace   = "place"   // verify Stage, then rename it to Path
	ItemMkdir   = "mkdir"   // make the directory Path
	ItemSymlink = "symlink" // make the symbolic link Path to Link
	ItemMeta    = "meta"    // set owner, mode and time of Path
	ItemRemove  = "remove"  // remove Path and what is below it
	ItemFlush   = "flush"   // put all that was written on stable storage
	ItemUnstage = "unstage" // remove the staging directory
)

// Item is one change below the root of an Apply request.
type Item struct {
	Do    string `json:"do"`
	Path  []byte `json:"path,omitempty"`
	Stage []byte `json:"stage,omitempty"`
	Link  []byte `json:"link,omitempty"`
	// Size and SHA256 are what the staged file must have to be placed.
	Size   int64  `json:"size,omitempty"`
	SHA256 []byte `json:"sha256,omitempty"`
	// Sync asks that the file be on stable storage before it gets its name.
	Sync bool  `json:"sync,omitempty"`
	Meta *Meta `json:"meta,omitempty"`
}

// Meta is what to set on a file; an absent part is left as it is.
type Meta struct {
	Mode    *uint32 `json:"mode,omitempty"` // the low twelve bits
	UID     *uint32 `json:"uid,omitempty"`
	GID     *uint32 `json:"gid,omitempty"`
	MTimeNS *int64  `json:"mtime_ns,omitempty"`
	// Owner is "user", "user:group" or ":group", by name or number, looked up
	// in the guest; it goes before UID and GID.
	Owner string `json:"owner,omitempty"`
}

// Applied answers one Item, in the order of the items. An item that failed has
// Failure set, and the call goes on.
type Applied struct {
	Size    int64    `json:"size,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// The kinds of an Entry.
const (
	EntryFile    = "file"
	EntryDir     = "dir"
	EntrySymlink = "symlink"
	EntryOther   = "other" // device, socket, fifo
)

// Entry is one file of a tree. Entries come in depth-first order, the names of
// one directory in byte order.
type Entry struct {
	Path    []byte `json:"path"`
	Kind    string `json:"kind"`
	Size    int64  `json:"size"`
	Mode    uint32 `json:"mode"` // the low twelve bits
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	MTimeNS int64  `json:"mtime_ns"`
	Link    []byte `json:"link,omitempty"`
	SHA256  []byte `json:"sha256,omitempty"`
}

// Result ends a call that did what was asked. A step that exits with a status
// other than zero has a Result too.
type Result struct {
	ExitCode int    `json:"exit_code"`
	Signal   string `json:"signal,omitempty"`
	// TimedOut: the time limit ended the step. Killed: the host asked for it.
	TimedOut bool `json:"timed_out,omitempty"`
	Killed   bool `json:"killed,omitempty"`
	// Of OpHash: what was read and the file's attributes.
	SHA256 []byte `json:"sha256,omitempty"`
	File   *Entry `json:"file,omitempty"`
	// Of OpCatchUp.
	CatchUp *CatchUpResult `json:"catchup,omitempty"`
}

// Codes of a Failure.
const (
	CodeNotExist   = "not-exist"
	CodePermission = "permission"
	CodeNoSpace    = "no-space"
	CodeMismatch   = "mismatch" // the staged file is not what was promised
	CodeInvalid    = "invalid"  // the request makes no sense or leaves the root
	CodeChanged    = "changed"  // a file changed while it was read
	CodeOther      = "other"
)

// Failure ends a call that could not be done, or answers an Item.
type Failure struct {
	Code string `json:"code"`
	Text string `json:"text"`
}
