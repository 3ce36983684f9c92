package convert

import (
	"cmp"

	"imago.dev/imago/transfer/rows"
)

// Conversion says how the rows of one table of the new version are made.
type Conversion struct {
	// Name tells conversions apart; the table's name when it is empty.
	Name string `json:"name,omitempty"`
	// Into is the table of the new database.
	Into string `json:"into"`
	// Key are the columns of Into that name an object.
	Key []string `json:"key"`
	// From are the old tables that the rows depend on. The first has a row for
	// each object and drives the first pass.
	From []From `json:"from"`
	// Select gives the new rows; {old} and {new} stand for the databases.
	Select string `json:"select"`
	// Program turns the selected rows into the new ones; none when it is empty.
	Program []string `json:"program,omitempty"`
	// Add writes only objects that the table lacks. Objects that are there are
	// neither changed nor removed, so that ids which the server gave them stay.
	Add bool `json:"add,omitempty"`
}

// From says which objects a change of an old table touches.
type From struct {
	Table string `json:"table"`
	// Key are the table's columns that hold the object's key, in the order of
	// Conversion.Key. With Via they are what Via is asked with.
	Key []string `json:"key"`
	// Plus is added to the last column of Key: the rows of two tables that are
	// numbered alike become those of one.
	Plus int64 `json:"plus,omitempty"`
	// Via is for a table that does not hold the object's key: a SELECT of the keys
	// of the objects that depend on one value of Key, whose columns are its named
	// parameters: SELECT id FROM {old}.orders WHERE customer = :id.
	Via string `json:"via,omitempty"`
}

// Databases are the real names behind {old} and {new}.
type Databases struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// Result says what a conversion of some objects did.
type Result struct {
	Objects  int // that were asked for, rejected ones included
	Rows     int // written anew
	Rejected []Rejected
}

// Rejected is an object that could not be made.
type Rejected struct {
	Key    []rows.Cell
	Reason string
}

func (c *Conversion) name() string { return cmp.Or(c.Name, c.Into) }
