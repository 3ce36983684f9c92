// Package apply brings one data set into the new version's database: the first
// copy of all rows, read from the clone, and on top of it the changes that
// production has made since, as a stream. It owns the order of both, the
// conversions' turns, the state that makes a killed transfer go on where it was,
// and the proof that the rows arrived.
//
// The rule that everything follows from: after each transaction of the target its
// rows are those that production had at one position of its log, as far as they
// are copied or were changed since. The position, what is copied and what was
// changed are rows of the database "imago" of the same server and are written in
// the same transaction as the rows they speak of.
//
// It reads neither a log nor a plan: both come from its caller.
package apply
