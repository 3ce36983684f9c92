package apply

import (
	"time"

	"imago.dev/imago/transfer/rows"
)

// Progress is how far a transfer is.
type Progress struct {
	Tables      int `json:"tables"`
	TablesDone  int `json:"tables_done"`  // copied
	ChunksDone  int `json:"chunks_done"`  // copied
	ChunksKnown int `json:"chunks_known"` // of those whose bounds are known

	RowsCopied  uint64 `json:"rows_copied"`
	RowsTotal   uint64 `json:"rows_total"` // the servers' estimate while copying
	BytesCopied uint64 `json:"bytes_copied"`
	BytesTotal  uint64 `json:"bytes_total"` // estimate

	Transactions uint64 `json:"transactions"` // of the source, applied
	Changes      uint64 `json:"changes"`      // applied
	Groups       uint64 `json:"groups"`       // transactions of the target that applied them
	Rescheduled  uint64 `json:"rescheduled"`  // objects that changed while in flight

	Converted   uint64 `json:"converted"` // objects
	Verified    uint64 `json:"verified"`  // objects compared and found equal
	Unverified  uint64 `json:"unverified"`
	Rejected    uint64 `json:"rejected"`
	CopyDone    bool   `json:"copy_done"`
	CloneNeeded bool   `json:"clone_needed"` // the clone must stay

	Position  rows.Position `json:"position"`
	Committed time.Time     `json:"committed"` // of the last applied transaction, by the source's clock

	RowsPerSecond    float64 `json:"rows_per_second"`    // of the copy
	ChangesPerSecond float64 `json:"changes_per_second"` // of the stream
	Error            string  `json:"error,omitempty"`
}

// Verified says what the proof rests on.
type Verified struct {
	Position rows.Position `json:"position"`
	Rows     uint64        `json:"rows"`    // of the first copy, compared with the clone
	Changes  uint64        `json:"changes"` // last images of changed rows, compared with what was written
	Objects  uint64        `json:"objects"` // of conversions, compared with the converted old rows
	Tables   int           `json:"tables"`
	Counters int           `json:"counters"` // AUTO_INCREMENT counters set
}

// Rejected is an object that a conversion did not make.
type Rejected struct {
	Conversion string `json:"conversion"`
	Key        string `json:"key"`
	Reason     string `json:"reason"`
}
