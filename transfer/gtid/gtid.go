// Package gtid compares places in the history of a MariaDB or MySQL server. It
// knows no connection and no log, so that the agent need not carry what reads one.
package gtid

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"imago.dev/imago/transfer/rows"
)

// GTID is one transaction of MariaDB.
type GTID struct {
	Domain, Server uint32
	Sequence       uint64
}

// String gives the transaction as MariaDB writes it.
func (g GTID) String() string { return fmt.Sprintf("%d-%d-%d", g.Domain, g.Server, g.Sequence) }

// Position is MariaDB's form of a position: the last transaction of each
// domain. (The library's set keeps one for each server in a domain, which no server
// takes for a position.)
type Position map[uint32]GTID

// ParsePosition reads a position as MariaDB writes it; empty is the beginning.
func ParsePosition(s string) (Position, error) {
	p := make(Position)
	if strings.TrimSpace(s) == "" {
		return p, nil
	}
	for _, word := range strings.Split(s, ",") {
		g, err := parse(strings.TrimSpace(word))
		if err != nil {
			return nil, fmt.Errorf("GTID position %q: %w", s, err)
		}
		if _, twice := p[g.Domain]; twice {
			return nil, fmt.Errorf("GTID position %q names domain %d twice", s, g.Domain)
		}
		p[g.Domain] = g
	}
	return p, nil
}

func parse(s string) (GTID, error) {
	words := strings.Split(s, "-")
	if len(words) != 3 {
		return GTID{}, fmt.Errorf("%q is no GTID of MariaDB, domain-server-sequence", s)
	}
	domain, err := strconv.ParseUint(words[0], 10, 32)
	if err != nil {
		return GTID{}, fmt.Errorf("domain of GTID %q: %w", s, err)
	}
	server, err := strconv.ParseUint(words[1], 10, 32)
	if err != nil {
		return GTID{}, fmt.Errorf("server of GTID %q: %w", s, err)
	}
	sequence, err := strconv.ParseUint(words[2], 10, 64)
	if err != nil {
		return GTID{}, fmt.Errorf("sequence number of GTID %q: %w", s, err)
	}
	return GTID{uint32(domain), uint32(server), sequence}, nil
}

// String gives the position as MariaDB writes it.
func (p Position) String() string {
	all := slices.SortedFunc(maps.Values(p), func(a, b GTID) int { return cmp.Compare(a.Domain, b.Domain) })
	words := make([]string, len(all))
	for i, g := range all {
		words[i] = g.String()
	}
	return strings.Join(words, ",")
}

// reached tells whether p has everything that want has.
func (p Position) reached(want Position) (bool, error) {
	for domain, w := range want {
		have, known := p[domain]
		switch {
		case !known || have.Sequence < w.Sequence:
			return false, nil
		case have.Sequence == w.Sequence && have.Server != w.Server:
			return false, fmt.Errorf("positions %s and %s are of different histories", have, w)
		}
	}
	return true, nil
}

// Reached tells whether everything before the position want is before have, too.
func Reached(have, want rows.Position) (bool, error) {
	if strings.Contains(have.GTID+want.GTID, ":") {
		h, err := mysql.ParseMysqlGTIDSet(have.GTID)
		if err != nil {
			return false, fmt.Errorf("GTID set %q: %w", have.GTID, err)
		}
		w, err := mysql.ParseMysqlGTIDSet(want.GTID)
		if err != nil {
			return false, fmt.Errorf("GTID set %q: %w", want.GTID, err)
		}
		return h.Contain(w), nil
	}
	h, err := ParsePosition(have.GTID)
	if err != nil {
		return false, err
	}
	w, err := ParsePosition(want.GTID)
	if err != nil {
		return false, err
	}
	return h.reached(w)
}
