// Package journal is imago's memory: runs, phases, outside resources, evidence
// and events, in one SQLite file. What is to be made outside is written here,
// durably, before it is made, so that after a crash at any moment everything
// of ours is found again by name.
//
// The journal is strict and incurious: it enforces the order of states, and
// does not know what the resources or the evidence mean.
//
// (Written by the integrator: API complete; internal/upgrade depends on it.
// Tests are welcome, changes of names are not.)
package journal
