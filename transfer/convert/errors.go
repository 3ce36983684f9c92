package convert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// dataError is what the server says of the data that it was given: the object is
// at fault, not the connection, the plan or the machine.
type dataError struct{ err error }

func (e *dataError) Error() string { return e.err.Error() }
func (e *dataError) Unwrap() error { return e.err }

// reason is the server's sentence, fit for one line of a report.
func (e *dataError) reason() string {
	var my *mysql.MyError
	if errors.As(e.err, &my) {
		return clean(fmt.Sprintf("%s (error %d)", my.Message, my.Code))
	}
	return clean(e.err.Error())
}

// maxReason bounds what a server or a program can have us remember of an object.
const maxReason = 1000

// clean takes out what a terminal would act on.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.TrimSpace(s)
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + " …"
	}
	return s
}

// dataCodes are the errors about values outside the SQL states that are all about
// values. What is not listed ends the work instead of blaming an object.
var dataCodes = []uint16{
	1118, // row size too large
	1139, // a regular expression met a text it cannot read
	1172, // more than one row
	1260, // cut by GROUP_CONCAT
	1264, // out of range
	1265, // truncated
	1292, // wrong value for a type
	1300, // invalid string of a character set
	1301, // a result larger than max_allowed_packet
	1364, // a column without default
	1366, // wrong string or number for a column
	1406, // too long
	1411, // wrong argument of a date function
	1441, // date function overflow
	1456, // recursion of a stored function
	1526, // no partition for a value
	1748, // not in the partition
	1977, // a character that the other set lacks
	3819, // a check (MySQL)
	4025, // a check (MariaDB)
}

// blame tells data errors from all others.
func blame(err error) error {
	var my *mysql.MyError
	if !errors.As(err, &my) {
		return err
	}
	data := slices.Contains(dataCodes, my.Code) || my.State == "45000"
	for _, class := range []string{"21", "22", "23"} {
		data = data || strings.HasPrefix(my.State, class)
	}
	// 21S01 and its like are about the statement, which is the plan's or ours.
	if data && !strings.HasPrefix(my.State, "21S") {
		return &dataError{err}
	}
	return err
}

func asData(err error) (*dataError, bool) {
	var d *dataError
	ok := errors.As(err, &d)
	return d, ok
}

// cause prefers the reason for which a context ended over what a connection says
// of being cut.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return err
}
