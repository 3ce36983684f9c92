// Package transfer owns persistent data on its way from the old version of a
// system to the new one. So far that is the proof that it arrived: Compare sets
// two sides against each other object by object, and a Manifest keeps what was
// there at one moment, so that a rollback can say what it would lose.
//
// An object is a key and a digest; what they mean (a page, a revision's text, a
// user, a file) is the business of whoever yields them. The package opens no
// connections and asks no database: an ObjectSource does.
//
// Memory is bounded whatever the number of objects: each side is sorted in a
// buffer of Options.Memory bytes that is spilled to temporary files, and two
// sides are then merged as streams.
package transfer
