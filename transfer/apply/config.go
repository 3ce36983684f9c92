package apply

import (
	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/rows"
)

// Server says where a database server is and how to log in.
type Server struct {
	Network  string `json:"network"` // "tcp" or "unix"
	Address  string `json:"address"` // host:port, or the path of a socket
	User     string `json:"user"`
	Password string `json:"password,omitempty"`
}

// Config describes one data set.
type Config struct {
	Set string `json:"set"` // the data set's name; the state is kept under it
	// Run tells runs apart: state of another run is never gone on with, nor
	// thrown away.
	Run string `json:"run"`

	Source Server `json:"source"` // the clone
	Target Server `json:"target"`
	From   string `json:"from"` // database on the source
	To     string `json:"to"`   // database on the target

	Skip        []string             `json:"skip,omitempty"` // tables of From
	Conversions []convert.Conversion `json:"conversions,omitempty"`

	// Start is where the stream begins. The clone has all changes before it and
	// maybe some of those after it, but none after OverlapUntil; an empty
	// OverlapUntil means that it has none after Start.
	Start        rows.Position `json:"start"`
	OverlapUntil rows.Position `json:"overlap_until"`

	Workers   int `json:"workers,omitempty"`    // copying side by side; 0 is a good number
	ChunkRows int `json:"chunk_rows,omitempty"` // rows of a range that is copied in one transaction
	BatchRows int `json:"batch_rows,omitempty"` // changes at most that share a transaction of the target
}
