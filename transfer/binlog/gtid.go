package binlog

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

// gtid is one transaction of MariaDB.
type gtid struct {
	domain, server uint32
	sequence       uint64
}

func (g gtid) String() string { return fmt.Sprintf("%d-%d-%d", g.domain, g.server, g.sequence) }

// gtidPosition is MariaDB's form of a position: the last transaction of each
// domain. (The library's set keeps one for each server in a domain, which no server
// takes for a position.)
type gtidPosition map[uint32]gtid

func parseGTIDPosition(s string) (gtidPosition, error) {
	p := make(gtidPosition)
	if strings.TrimSpace(s) == "" {
		return p, nil
	}
	for _, word := range strings.Split(s, ",") {
		g, err := parseGTID(strings.TrimSpace(word))
		if err != nil {
			return nil, fmt.Errorf("GTID position %q: %w", s, err)
		}
		if _, twice := p[g.domain]; twice {
			return nil, fmt.Errorf("GTID position %q names domain %d twice", s, g.domain)
		}
		p[g.domain] = g
	}
	return p, nil
}

func parseGTID(s string) (gtid, error) {
	words := strings.Split(s, "-")
	if len(words) != 3 {
		return gtid{}, fmt.Errorf("%q is no GTID of MariaDB, domain-server-sequence", s)
	}
	domain, err := strconv.ParseUint(words[0], 10, 32)
	if err != nil {
		return gtid{}, fmt.Errorf("domain of GTID %q: %w", s, err)
	}
	server, err := strconv.ParseUint(words[1], 10, 32)
	if err != nil {
		return gtid{}, fmt.Errorf("server of GTID %q: %w", s, err)
	}
	sequence, err := strconv.ParseUint(words[2], 10, 64)
	if err != nil {
		return gtid{}, fmt.Errorf("sequence number of GTID %q: %w", s, err)
	}
	return gtid{uint32(domain), uint32(server), sequence}, nil
}

func (p gtidPosition) String() string {
	all := slices.SortedFunc(maps.Values(p), func(a, b gtid) int { return cmp.Compare(a.domain, b.domain) })
	words := make([]string, len(all))
	for i, g := range all {
		words[i] = g.String()
	}
	return strings.Join(words, ",")
}

// reached tells whether p has everything that want has.
func (p gtidPosition) reached(want gtidPosition) (bool, error) {
	for domain, w := range want {
		have, known := p[domain]
		switch {
		case !known || have.sequence < w.sequence:
			return false, nil
		case have.sequence == w.sequence && have.server != w.server:
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
	h, err := parseGTIDPosition(have.GTID)
	if err != nil {
		return false, err
	}
	w, err := parseGTIDPosition(want.GTID)
	if err != nil {
		return false, err
	}
	return h.reached(w)
}
