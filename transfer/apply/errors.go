package apply

import "errors"

// Errors that a caller acts on; each is wrapped with the table and key.
var (
	// ErrConflict: the target's rows are not what the stream of changes says they
	// must be. Somebody else wrote to it, or the copy is wrong.
	ErrConflict = errors.New("the new database does not have the rows that production had")
	// ErrDifferent: a comparison found rows that differ.
	ErrDifferent = errors.New("rows of the new database differ from production's")
	// ErrNothingCompared: rows are there, but none was compared.
	ErrNothingCompared = errors.New("nothing was compared")
	// ErrRejected: objects are set aside because their conversion failed.
	ErrRejected = errors.New("objects were rejected by their conversion")
	// ErrRefused: the data set cannot be transferred as it is described; every
	// fault is named.
	ErrRefused = errors.New("this data set cannot be transferred")
	// ErrOtherRun: the target has the state of another run, or of another
	// description of the same one.
	ErrOtherRun = errors.New("the new database has the state of another run")
	// ErrFenced: another process has taken over the data set.
	ErrFenced = errors.New("another process has taken over this data set")
	// ErrCascade: a foreign key changed rows on production in a way that cannot be
	// repeated here.
	ErrCascade = errors.New("a cascading foreign key changed rows unseen by the log")
)
