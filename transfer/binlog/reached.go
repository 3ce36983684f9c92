package binlog

import (
	"imago.dev/imago/transfer/gtid"
	"imago.dev/imago/transfer/rows"
)

// Reached tells whether everything before the position want is before have, too.
func Reached(have, want rows.Position) (bool, error) { return gtid.Reached(have, want) }
