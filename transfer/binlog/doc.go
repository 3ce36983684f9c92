// Package binlog reads the changes of a running MariaDB or MySQL from its binary
// log, as a replica would: no lock, no query on the tables, no setting changed. It
// owns the checks that come before (are all changes in the log, and whole?), the
// stream of transactions with row images, and the question at which place of that
// stream the files of a crashed copy of the server stand.
//
// It stops rather than guess: a statement instead of rows, an event it does not
// know, a table whose shape has changed, a gap in the log each end the stream with
// an error that says so. What applies the changes is package apply.
package binlog
