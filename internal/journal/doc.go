// Package journal owns the durable record of every upgrade: runs and their states, phases and steps, resources made
// outside of the process, evidence for the report, and events. It is one SQLite file in one private directory.
//
// What must be removed after a crash is written down before it is made: a caller says [Journal.Intend], acts, and says
// [Journal.Made]. A write that fails is an error that must stop the run, since from then on the record would lie.
//
// Order comes from one sequence over all tables, never from the clock; times are there for people.
//
// The package does not know what a resource is or how to remove it, and it does not read evidence: it stores what its
// callers understand.
package journal
