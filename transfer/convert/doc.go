// Package convert makes the rows of a new version's table out of the old
// version's rows, as a plan's conversions say: a SELECT over exact copies of the
// old tables and, where SQL does not do, a program.
//
// The unit is the object: the rows of the new table that have one value of the
// conversion's key columns. Objects are made set by set, inside a transaction
// that belongs to the caller; of the new table only rows that differ are touched.
// An object that the server or the program refuses is set aside with the reason,
// and all others are written.
//
// The package owns the wrapping of the SELECT, the narrowing of a failure to its
// objects, the program's process, the comparison of both sides, and the test
// whether a table needs a conversion at all (Keeps). It keeps no state: which
// objects are due, which are rejected and how far the first pass is are the
// caller's to remember.
package convert
