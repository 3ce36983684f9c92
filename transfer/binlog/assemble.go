package binlog

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/google/uuid"

	"imago.dev/imago/transfer/gtid"
	"imago.dev/imago/transfer/rows"
)

const (
	// pause in the log after which a position is handed over without changes.
	pause = 20 * time.Millisecond
	// positionEvery is how often that is done while there is no pause.
	positionEvery = time.Second
)

// assembler puts events together to transactions.
type assembler struct {
	flavor   string
	database string
	most     int64
	schema   *rows.Schema
	judge    statements
	yield    func(*rows.Txn) error

	mariadb gtid.Position // after the last complete transaction
	mysql   *mysql.MysqlGTIDSet
	file    string
	at      uint64
	yielded rows.Position
	// pending is a later position than yielded, without changes of ours.
	pending *rows.Txn
	last    time.Time // of a yield

	parser    *replication.BinlogParser
	checksums bool
	tables    map[uint64]*tableReader // nil for one that is not ours
	known     map[rows.Name]*tableReader
	group     *group
	// prepared are XA transactions that touch none of our tables.
	prepared map[string]bool
}

// group is the transaction that is being read.
type group struct {
	id         string
	mariadb    gtid.GTID
	sid        uuid.UUID
	gno        int64
	standalone bool // without an end of its own: a statement
	txn        rows.Txn
	bytes      int64
	savepoints map[string]int // number of changes at each
}

// errStream: the server does not keep to its own format.
func errStream(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnknownEvent, fmt.Errorf(format, args...))
}

func newAssembler(cfg *Config, flavor string, from rows.Position, schema *rows.Schema, yield func(*rows.Txn) error) (*assembler, error) {
	a := &assembler{
		flavor: flavor, database: cfg.Database, most: cfg.MaxTxnBytes, schema: schema, yield: yield,
		yielded: from, last: time.Now(),
		known: make(map[rows.Name]*tableReader), prepared: make(map[string]bool),
		judge: statements{database: cfg.Database, skip: make(map[string]bool), tables: make(map[string]bool)},
	}
	for _, t := range cfg.Skip {
		a.judge.skip[t] = true
	}
	for _, t := range schema.Tables {
		if t.Database == cfg.Database {
			a.judge.tables[t.Table] = true
		}
	}
	if from.GTID == "" {
		return nil, errors.New("there is no position to begin at")
	}
	return a, a.setPosition(from.GTID)
}

func (a *assembler) setPosition(set string) (err error) {
	if a.flavor == "mariadb" {
		a.mariadb, err = gtid.ParsePosition(set)
		return err
	}
	parsed, err := mysql.ParseMysqlGTIDSet(set)
	if err != nil {
		return fmt.Errorf("GTID set %q: %w", set, err)
	}
	a.mysql = parsed.(*mysql.MysqlGTIDSet)
	return nil
}

// restart forgets what came after the last transaction that was yielded: the next
// event is the first of a new connection.
func (a *assembler) restart() {
	a.pending, a.group = nil, nil
	a.tables = make(map[uint64]*tableReader)
	_ = a.setPosition(a.yielded.GTID) // it was parsed before
	a.parser = replication.NewBinlogParser()
	a.parser.SetFlavor(a.flavor)
	a.parser.SetVerifyChecksum(true)
	a.checksums = false
}

// due tells whether a position waits to be handed over.
func (a *assembler) due() bool { return a.pending != nil && a.group == nil }

func (a *assembler) yieldPosition() error {
	t := a.pending
	a.pending = nil
	return a.hand(t)
}

func (a *assembler) hand(t *rows.Txn) error {
	if err := a.yield(t); err != nil {
		return err
	}
	a.yielded, a.last = t.Position, time.Now()
	return nil
}

// event takes one event as the server sent it.
func (a *assembler) event(raw []byte) error {
	if len(raw) < replication.EventHeaderSize {
		return errStream("an event of %d bytes", len(raw))
	}
	kind := replication.EventType(raw[4])
	if !knownEvents[kind] {
		return errStream("type %d (%s), %d bytes", raw[4], kind, len(raw))
	}
	if kind == replication.ROTATE_EVENT || kind == replication.HEARTBEAT_EVENT || kind == replication.HEARTBEAT_LOG_EVENT_V2 {
		return a.rotate(kind, raw)
	}
	if a.group != nil {
		a.group.bytes += int64(len(raw))
		if a.group.bytes > a.most {
			return a.tooLarge()
		}
	}
	if at := binary.LittleEndian.Uint32(raw[13:]); at > 0 {
		a.at = uint64(at)
	}
	var err error
	switch _, isRows := rowsEvents[kind]; {
	case kind == replication.TABLE_MAP_EVENT || isRows:
		var data []byte
		if data, err = a.checked(raw); err != nil {
			return errStream("%s of %d bytes: %w", kind, len(raw), err)
		}
		if a.group == nil {
			return errStream("%s outside of a transaction", kind)
		}
		if isRows {
			return a.rows(kind, data)
		}
		return a.tableMap(data)
	case kind == replication.MARIADB_QUERY_COMPRESSED_EVENT:
		err = a.boundQuery(raw)
	case kind == replication.MARIADB_GTID_LIST_EVENT:
		err = boundGTIDList(raw)
	case kind == replication.EXECUTE_LOAD_QUERY_EVENT:
		err = fmt.Errorf("%w: LOAD DATA, logged with the file", ErrStatement)
	}
	if err != nil {
		return err
	}
	e, err := a.parse(raw)
	if err != nil {
		return errStream("%s of %d bytes: %w", kind, len(raw), err)
	}
	return a.take(e)
}

// checked is what follows the header, once its checksum is known to be right.
func (a *assembler) checked(raw []byte) ([]byte, error) {
	if int(binary.LittleEndian.Uint32(raw[9:])) != len(raw) {
		return nil, errShortEvent
	}
	end := len(raw)
	if a.checksums {
		end -= replication.BinlogChecksumLength
		if end < replication.EventHeaderSize || crc32.ChecksumIEEE(raw[:end]) != binary.LittleEndian.Uint32(raw[end:]) {
			return nil, replication.ErrChecksumMismatch
		}
	}
	return raw[replication.EventHeaderSize:end:end], nil
}

func (a *assembler) tooLarge() error {
	return fmt.Errorf("%w: %s has more than %d bytes of changes", ErrTooLarge, a.group.id, a.most)
}

// knownEvents are those that are understood, if only so far that they may be left
// out; any other stops the stream.
var knownEvents = map[replication.EventType]bool{
	replication.QUERY_EVENT: true, replication.STOP_EVENT: true, replication.ROTATE_EVENT: true,
	replication.INTVAR_EVENT: true, replication.RAND_EVENT: true, replication.USER_VAR_EVENT: true,
	replication.FORMAT_DESCRIPTION_EVENT: true, replication.XID_EVENT: true,
	replication.BEGIN_LOAD_QUERY_EVENT: true, replication.APPEND_BLOCK_EVENT: true,
	replication.DELETE_FILE_EVENT: true, replication.EXECUTE_LOAD_QUERY_EVENT: true,
	replication.TABLE_MAP_EVENT:      true,
	replication.WRITE_ROWS_EVENTv1:   true,
	replication.UPDATE_ROWS_EVENTv1:  true,
	replication.DELETE_ROWS_EVENTv1:  true,
	replication.WRITE_ROWS_EVENTv2:   true,
	replication.UPDATE_ROWS_EVENTv2:  true,
	replication.DELETE_ROWS_EVENTv2:  true,
	replication.INCIDENT_EVENT:       true,
	replication.HEARTBEAT_EVENT:      true,
	replication.ROWS_QUERY_EVENT:     true,
	replication.GTID_EVENT:           true,
	replication.ANONYMOUS_GTID_EVENT: true,
	replication.PREVIOUS_GTIDS_EVENT: true, replication.XA_PREPARE_LOG_EVENT: true,
	replication.HEARTBEAT_LOG_EVENT_V2:      true,
	replication.MARIADB_ANNOTATE_ROWS_EVENT: true, replication.MARIADB_BINLOG_CHECKPOINT_EVENT: true,
	replication.MARIADB_GTID_EVENT: true, replication.MARIADB_GTID_LIST_EVENT: true,
	replication.MARIADB_START_ENCRYPTION_EVENT:          true, // the server sends the log deciphered
	replication.MARIADB_QUERY_COMPRESSED_EVENT:          true,
	replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1:  true,
	replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1: true,
	replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1: true,
}

// parse lets the library read an event; it trusts the lengths in it.
func (a *assembler) parse(raw []byte) (e *replication.BinlogEvent, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it is cut or garbled: %v", r)
		}
	}()
	return a.parser.Parse(raw)
}

// rotate remembers the name of the log file; a heartbeat says nothing else.
func (a *assembler) rotate(kind replication.EventType, raw []byte) error {
	body := raw[replication.EventHeaderSize:]
	// The first one comes before the server has said whether there are checksums.
	if n := len(raw) - 4; n >= replication.EventHeaderSize && crc32.ChecksumIEEE(raw[:n]) == binary.LittleEndian.Uint32(raw[n:]) {
		body = raw[replication.EventHeaderSize:n]
	}
	if kind == replication.ROTATE_EVENT && len(body) > 8 {
		a.at, a.file = binary.LittleEndian.Uint64(body), string(body[8:])
	}
	return nil
}

// take acts on an event.
func (a *assembler) take(e *replication.BinlogEvent) error {
	switch ev := e.Event.(type) {
	case *replication.FormatDescriptionEvent:
		a.checksums = ev.ChecksumAlgorithm == replication.BINLOG_CHECKSUM_ALG_CRC32
		if ev.ServerVersion != "" && e.Header.LogPos != 0 && a.group != nil {
			// The server died within a transaction, which therefore never was.
			a.group = nil
		}
		return nil
	case *replication.MariadbGTIDListEvent:
		return a.gtidList(ev)
	case *replication.PreviousGTIDsEvent:
		return a.previousGTIDs(ev)
	case *replication.MariadbGTIDEvent:
		return a.beginMariaDB(e.Header, ev)
	case *replication.GTIDEvent:
		if e.Header.EventType == replication.ANONYMOUS_GTID_EVENT {
			return errStream("a transaction without GTID: gtid_mode must be ON")
		}
		return a.beginMySQL(ev)
	}
	switch e.Header.EventType {
	case replication.INCIDENT_EVENT:
		return fmt.Errorf("%w: production says that its log lacks changes", ErrPurged)
	case replication.STOP_EVENT, replication.MARIADB_BINLOG_CHECKPOINT_EVENT, replication.MARIADB_START_ENCRYPTION_EVENT,
		replication.MARIADB_ANNOTATE_ROWS_EVENT, replication.ROWS_QUERY_EVENT, replication.INTVAR_EVENT,
		replication.RAND_EVENT, replication.USER_VAR_EVENT, replication.BEGIN_LOAD_QUERY_EVENT,
		replication.APPEND_BLOCK_EVENT, replication.DELETE_FILE_EVENT:
		return nil
	}
	if a.group == nil {
		return errStream("%s outside of a transaction", e.Header.EventType)
	}
	return a.inGroup(e)
}

// inGroup acts on an event of the transaction that is open.
func (a *assembler) inGroup(e *replication.BinlogEvent) error {
	switch ev := e.Event.(type) {
	case *replication.QueryEvent:
		return a.query(e.Header, string(ev.Schema), string(ev.Query))
	case *replication.XIDEvent:
		return a.commit(e.Header)
	}
	if e.Header.EventType == replication.XA_PREPARE_LOG_EVENT {
		return a.prepare(e)
	}
	return errStream("%s in transaction %s", e.Header.EventType, a.group.id)
}

// gtidList holds what the server says is in earlier files against what we have.
func (a *assembler) gtidList(e *replication.MariadbGTIDListEvent) error {
	last := make(map[uint32]mysql.MariadbGTID) // several servers of a domain come in order
	for _, g := range e.GTIDs {
		last[g.DomainID] = g
	}
	for _, g := range last {
		if have := a.mariadb[g.DomainID]; g.SequenceNumber > have.Sequence {
			return fmt.Errorf("%w: file %s begins after %d-%d-%d, and we have %q of it: the copy must be made anew",
				ErrPurged, a.file, g.DomainID, g.ServerID, g.SequenceNumber, a.mariadb)
		}
	}
	return nil
}

func (a *assembler) previousGTIDs(e *replication.PreviousGTIDsEvent) error {
	before, err := mysql.ParseMysqlGTIDSet(strings.TrimSpace(e.GTIDSets))
	if err != nil {
		return errStream("the set of GTIDs at the start of file %s: %w", a.file, err)
	}
	if !a.mysql.Contain(before) {
		return fmt.Errorf("%w: file %s begins after %s, and we have %s: the copy must be made anew", ErrPurged, a.file, e.GTIDSets, a.mysql)
	}
	return nil
}

func (a *assembler) beginMariaDB(h *replication.EventHeader, e *replication.MariadbGTIDEvent) error {
	g := gtid.GTID{Domain: e.GTID.DomainID, Server: h.ServerID, Sequence: e.GTID.SequenceNumber}
	if a.group != nil {
		return errStream("transaction %s begins within %s", g, a.group.id)
	}
	if have, known := a.mariadb[g.Domain]; known && g.Sequence <= have.Sequence {
		return errStream("transaction %s comes after %s: sequence numbers of a domain must rise (gtid_strict_mode=ON)", g, have)
	}
	clear(a.tables)
	a.group = &group{id: g.String(), mariadb: g, standalone: e.IsStandalone()}
	return nil
}

func (a *assembler) beginMySQL(e *replication.GTIDEvent) error {
	sid, err := uuid.FromBytes(e.SID)
	if err != nil {
		return errStream("GTID: %w", err)
	}
	id := fmt.Sprintf("%s:%d", sid, e.GNO)
	if a.group != nil {
		return errStream("transaction %s begins within %s", id, a.group.id)
	}
	clear(a.tables)
	a.group = &group{id: id, sid: sid, gno: e.GNO, standalone: true} // until there is a BEGIN
	return nil
}

// commit ends the transaction that is open.
func (a *assembler) commit(h *replication.EventHeader) error {
	g := a.group
	a.group = nil
	set := ""
	if a.flavor == "mariadb" {
		a.mariadb[g.mariadb.Domain] = g.mariadb
		set = a.mariadb.String()
	} else {
		a.mysql.AddGTID(g.sid, g.gno)
		set = a.mysql.String()
	}
	t := &g.txn
	t.ID, t.Position = g.id, rows.Position{GTID: set, File: a.file, At: a.at}
	t.Committed = time.Unix(int64(h.Timestamp), 0)
	if len(t.Changes) == 0 {
		a.pending = t
		if time.Since(a.last) >= positionEvery {
			return a.yieldPosition()
		}
		return nil
	}
	a.pending = nil
	return a.hand(t)
}

// query acts on a statement.
func (a *assembler) query(h *replication.EventHeader, schema, statement string) error {
	g := a.group
	list, _ := words(statement, 4)
	first := func(i int, keyword string) bool { return i < len(list) && list[i].is(keyword) }
	switch {
	case first(0, "BEGIN"):
		g.standalone = false
		return nil
	case first(0, "COMMIT"):
		return a.commit(h)
	case first(0, "XA"):
		return a.xa(h, statement, first)
	case first(0, "SAVEPOINT") && len(list) == 2:
		if g.savepoints == nil {
			g.savepoints = make(map[string]int)
		}
		g.savepoints[strings.ToLower(list[1].text)] = len(g.txn.Changes)
		return nil
	case first(0, "ROLLBACK") && len(list) == 1:
		g.txn.Changes = nil
		return a.commit(h)
	case first(0, "ROLLBACK") && first(1, "TO"):
		name := strings.ToLower(list[len(list)-1].text)
		n, known := g.savepoints[name]
		if !known {
			return errStream("%q in transaction %s, which has no such savepoint", statement, g.id)
		}
		clear(g.txn.Changes[n:])
		g.txn.Changes = g.txn.Changes[:n]
		return nil
	case first(0, "RELEASE"):
		return nil
	}
	if err := a.judge.judge(schema, statement); err != nil {
		return fmt.Errorf("transaction %s: %w", g.id, err)
	}
	if g.standalone {
		return a.commit(h)
	}
	return nil
}

// prepare ends the first half of an XA transaction, whose rows count only once the
// second half comes, in whatever later place.
func (a *assembler) prepare(e *replication.BinlogEvent) error {
	if len(a.group.txn.Changes) > 0 {
		return errStream("XA transaction %s changes tables that are transferred: XA is not supported", a.group.id)
	}
	generic, ok := e.Event.(*replication.GenericEvent)
	if !ok {
		return errStream("XA PREPARE in transaction %s", a.group.id)
	}
	b := &body{rest: generic.Data}
	b.take(1) // whether it commits at once
	format, gtrid, bqual := b.uint(4), b.uint(4), b.uint(4)
	if gtrid > 64 || bqual > 64 {
		return errStream("XA PREPARE in transaction %s: a garbled name", a.group.id)
	}
	first := b.take(int(gtrid))
	name := xid(fmt.Sprintf("X'%x',X'%x',%d", first, b.take(int(bqual)), format))
	const most = 10000
	if b.err == nil && len(a.prepared) < most {
		a.prepared[name] = true
	}
	return a.commit(e.Header)
}

// xid is the name of an XA transaction as a statement has it, in one spelling.
func xid(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), "")) }

// xa acts on the statements around an XA transaction.
func (a *assembler) xa(h *replication.EventHeader, statement string, first func(int, string) bool) error {
	_, name, _ := strings.Cut(statement[min(len(statement), 3):], " ")
	switch {
	case first(1, "START"), first(1, "BEGIN"):
		a.group.standalone = false
		return nil
	case first(1, "END"):
		return nil
	case first(1, "ROLLBACK"), first(1, "COMMIT") && a.prepared[xid(name)]:
		delete(a.prepared, xid(name))
		a.group.txn.Changes = nil
		return a.commit(h)
	}
	return errStream("%q in transaction %s: XA is not supported", statement, a.group.id)
}

// tableMap prepares to read rows of a table.
func (a *assembler) tableMap(data []byte) error {
	ours := false
	m, err := parseTableMap(data, func(n rows.Name) bool {
		ours = n.Database == a.database && !a.judge.skip[n.Table]
		return ours
	})
	if err != nil {
		return errStream("the description of a table in transaction %s: %w", a.group.id, err)
	}
	if !ours {
		a.tables[m.id] = nil
		return nil
	}
	reader := a.known[m.name]
	if reader == nil || !reader.same(m) {
		table := a.schema.Table(m.name)
		if table == nil {
			return fmt.Errorf("%w: table %s is new", ErrDDL, m.name)
		}
		if reader, err = newTableReader(table, m); err != nil {
			return err
		}
		a.known[m.name] = reader
	}
	a.tables[m.id] = reader
	return nil
}

// rows reads the changes of one event.
func (a *assembler) rows(kind replication.EventType, data []byte) error {
	e, err := parseRows(kind, data)
	if err != nil {
		return errStream("%s in transaction %s: %w", kind, a.group.id, err)
	}
	reader, mapped := a.tables[e.table]
	if !mapped {
		return errStream("rows of table %d, which was not named", e.table)
	}
	if reader == nil {
		return nil
	}
	if e.columns != len(reader.columns) {
		return fmt.Errorf("%w: rows of table %s have %d columns, %d in the schema", ErrDDL, reader.table.Name, e.columns, len(reader.columns))
	}
	if e.compressed {
		if e.images, err = decompress(e.images, a.most-a.group.bytes); err != nil {
			return fmt.Errorf("compressed rows of table %s: %w", reader.table.Name, err)
		}
		a.group.bytes += int64(len(e.images))
	}
	changes, err := reader.changes(e)
	if err != nil {
		if errors.Is(err, ErrStatement) {
			return err
		}
		return errStream("rows of table %s in transaction %s: %w", reader.table.Name, a.group.id, err)
	}
	// What the slices take beside their contents.
	const change, cell = 160, 24
	a.group.bytes += int64(len(changes)) * (change + int64(len(reader.columns))*cell)
	if a.group.bytes > a.most {
		return a.tooLarge()
	}
	if e.flags&noForeignKeyChecks != 0 {
		a.group.txn.ForeignKeyChecksOff = true
	}
	a.group.txn.Changes = append(a.group.txn.Changes, changes...)
	return nil
}

// decompress reads what MariaDB's log_bin_compress makes: one byte with the size of
// the length, the length, zlib.
func decompress(b []byte, most int64) ([]byte, error) {
	size, rest, err := compressedSize(b)
	if err != nil {
		return nil, err
	}
	if size > uint64(max(most, 0)) {
		return nil, fmt.Errorf("%w: %d bytes in one event", ErrTooLarge, size)
	}
	r, err := zlib.NewReader(bytes.NewReader(rest))
	if err != nil {
		return nil, errStream("compressed event: %w", err)
	}
	out := make([]byte, size)
	if _, err := io.ReadFull(r, out); err != nil {
		return nil, errStream("compressed event: %w", err)
	}
	return out, nil
}

func compressedSize(b []byte) (size uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errStream("an empty compressed event")
	}
	if algorithm := b[0] & 0x70; b[0]&0x80 == 0 || algorithm != 0 {
		return 0, nil, errStream("an event compressed in the unknown way %#x", b[0])
	}
	n := int(b[0] & 7)
	if n > 4 || len(b) < 1+n {
		return 0, nil, errStream("a garbled compressed event")
	}
	return bigEndian(b[1 : 1+n]), b[1+n:], nil
}

// boundGTIDList refuses a list that says it is longer than it is, before the library
// makes room for it.
func boundGTIDList(raw []byte) error {
	b := raw[replication.EventHeaderSize:]
	if len(b) < 4 || int64(binary.LittleEndian.Uint32(b)&(1<<28-1))*16 > int64(len(b)) {
		return errStream("a garbled list of GTIDs of %d bytes", len(raw))
	}
	return nil
}

// boundQuery refuses a compressed statement that would take more memory than one
// transaction may, before the library makes room for it.
func (a *assembler) boundQuery(raw []byte) error {
	const fixedSize = 4 + 4 + 1 + 2 + 2
	b := raw[replication.EventHeaderSize:]
	if len(b) < fixedSize {
		return errStream("a statement of %d bytes", len(b))
	}
	at := fixedSize + int(binary.LittleEndian.Uint16(b[11:])) + int(b[8]) + 1
	if at >= len(b) {
		return errStream("a garbled compressed statement")
	}
	size, _, err := compressedSize(b[at:])
	if err != nil {
		return err
	}
	if size > uint64(a.most) {
		return fmt.Errorf("%w: a statement of %d bytes", ErrTooLarge, size)
	}
	return nil
}
