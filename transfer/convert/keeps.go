package convert

import "imago.dev/imago/transfer/rows"

// Keeps tells whether a table's rows fit the target's table as they are: the same
// columns, more columns that need no value, wider types, another collation, a
// character set that holds all of the old one's. If not, why says each reason.
func Keeps(source, target *rows.Table) (ok bool, why []string) { return false, nil }
