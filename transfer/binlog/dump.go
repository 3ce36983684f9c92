package binlog

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/google/uuid"

	"imago.dev/imago/transfer/gtid"
	"imago.dev/imago/transfer/rows"
)

// heartbeat is how often the server speaks when it has nothing to say.
const heartbeat = 500 * time.Millisecond

// dump is a connection on which the server sends its log.
type dump struct {
	conn     *client.Conn
	raw      net.Conn
	in       *bufio.Reader
	most     int64         // bytes of one event
	patience time.Duration // for the next byte
	stop     func() bool
}

// openDump asks for the log after a position. With once set, the server ends the
// answer where the log ends.
func openDump(ctx context.Context, cfg *Config, flavor string, from rows.Position, once bool) (*dump, error) {
	limit, cancel := context.WithTimeout(ctx, cfg.Silence)
	defer cancel()
	conn, err := connect(limit, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to production's log at %s as %q: %w", cfg.Address, cfg.User, err)
	}
	d := &dump{conn: conn, raw: conn.Conn.Conn, most: cfg.MaxTxnBytes, patience: cfg.Silence}
	if err := d.begin(cfg, flavor, from, once); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("ask for production's log after %q: %w", from.GTID, err)
	}
	// From here on only we read, so that a pause between two events can be told
	// from one within.
	d.in = bufio.NewReaderSize(d.raw, 256<<10)
	d.stop = context.AfterFunc(ctx, func() { _ = d.raw.Close() })
	return d, nil
}

func (d *dump) close() {
	if d.stop != nil {
		d.stop()
	}
	_ = d.conn.Close()
}

func (d *dump) begin(cfg *Config, flavor string, from rows.Position, once bool) error {
	identity, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	session := []string{
		fmt.Sprintf("SET @master_heartbeat_period=%d, @source_heartbeat_period=%d", heartbeat, heartbeat),
		"SET @master_binlog_checksum='CRC32', @source_binlog_checksum='CRC32'",
		fmt.Sprintf("SET @slave_uuid='%s', @replica_uuid='%s'", identity, identity),
	}
	if flavor == "mariadb" {
		position, err := gtid.ParsePosition(from.GTID)
		if err != nil {
			return err
		}
		session = append(session,
			"SET @mariadb_slave_capability=4", // we know GTIDs
			"SET @slave_connect_state="+rows.Literal(position.String()),
			// A position that is not in the log is an error, whatever comes after.
			"SET @slave_gtid_strict_mode=1",
			"SET @slave_gtid_ignore_duplicates=0")
	}
	for _, s := range session {
		if _, err := d.conn.Execute(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	if err := d.register(cfg); err != nil {
		return fmt.Errorf("register as replica %d: %w", cfg.ServerID, err)
	}
	return d.command(cfg, flavor, from, once)
}

// register makes us visible in SHOW SLAVE HOSTS.
func (d *dump) register(cfg *Config) error {
	host := "imago"
	b := make([]byte, 4, 64)
	b = append(b, mysql.COM_REGISTER_SLAVE)
	b = binary.LittleEndian.AppendUint32(b, cfg.ServerID)
	b = append(b, byte(len(host)))
	b = append(b, host...)
	b = append(b, 0, 0)       // user and password: none of the server's business
	b = append(b, 0, 0)       // port
	b = append(b, 0, 0, 0, 0) // rank
	b = append(b, 0, 0, 0, 0) // master
	d.conn.ResetSequence()
	if err := d.conn.WritePacket(b); err != nil {
		return err
	}
	_, err := d.conn.ReadOKPacket()
	return err
}

const nonBlock = 1 // BINLOG_DUMP_NON_BLOCK

func (d *dump) command(cfg *Config, flavor string, from rows.Position, once bool) error {
	var flags uint16
	if once {
		flags = nonBlock
	}
	b := make([]byte, 4, 256)
	if flavor == "mariadb" {
		b = append(b, mysql.COM_BINLOG_DUMP)
		b = binary.LittleEndian.AppendUint32(b, 4)
		b = binary.LittleEndian.AppendUint16(b, flags)
		b = binary.LittleEndian.AppendUint32(b, cfg.ServerID)
	} else {
		set, err := mysql.ParseMysqlGTIDSet(from.GTID)
		if err != nil {
			return err
		}
		encoded := set.Encode()
		b = append(b, mysql.COM_BINLOG_DUMP_GTID)
		b = binary.LittleEndian.AppendUint16(b, flags)
		b = binary.LittleEndian.AppendUint32(b, cfg.ServerID)
		b = binary.LittleEndian.AppendUint32(b, 0) // no file name
		b = binary.LittleEndian.AppendUint64(b, 4)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(encoded)))
		b = append(b, encoded...)
	}
	d.conn.ResetSequence()
	return d.conn.WritePacket(b)
}

// errPause: no event within the time that wait was given.
var errPause = errors.New("no event yet")

// wait returns when an event begins to arrive, or errPause.
func (d *dump) wait(limit time.Duration) error {
	if d.in.Buffered() > 0 {
		return nil
	}
	if err := d.raw.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	_, err := d.in.Peek(1)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errPause
	}
	return err
}

// next is the next event, header and all. io.EOF is the end of a dump that was to
// end; the server's own error is a *mysql.MyError.
func (d *dump) next() ([]byte, error) {
	p, err := d.packet()
	if err != nil {
		return nil, err
	}
	switch {
	case len(p) == 0:
		return nil, errors.New("an empty packet instead of an event")
	case p[0] == mysql.OK_HEADER:
		return p[1:], nil
	case p[0] == mysql.ERR_HEADER && len(p) >= 9:
		return nil, d.conn.HandleErrorPacket(p)
	case p[0] == mysql.EOF_HEADER && len(p) <= 5:
		return nil, io.EOF
	}
	return nil, fmt.Errorf("a packet of type %#x instead of an event", p[0])
}

// packet reads one packet of the protocol, put together where it was cut.
func (d *dump) packet() ([]byte, error) {
	var p []byte
	for {
		if err := d.raw.SetReadDeadline(time.Now().Add(d.patience)); err != nil {
			return nil, err
		}
		var header [4]byte
		if _, err := io.ReadFull(d.in, header[:]); err != nil {
			return nil, noEOF(err)
		}
		n := int(littleEndian(header[:3]))
		if int64(len(p)+n) > d.most {
			return nil, fmt.Errorf("%w: one event has more than %d bytes", ErrTooLarge, d.most)
		}
		at := len(p)
		p = append(p, make([]byte, n)...)
		if err := d.fill(p[at:]); err != nil {
			return nil, noEOF(err)
		}
		if n < mysql.MaxPayloadLen {
			return p, nil
		}
	}
}

// fill reads with patience for each piece rather than for the whole.
func (d *dump) fill(b []byte) error {
	for len(b) > 0 {
		n, err := d.in.Read(b)
		b = b[n:]
		if err != nil {
			return err
		}
		if len(b) > 0 {
			if err := d.raw.SetReadDeadline(time.Now().Add(d.patience)); err != nil {
				return err
			}
		}
	}
	return nil
}

// noEOF keeps a lost connection apart from the server's word that the log ends.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// connectionKilled is MariaDB's number for what KILL does to a connection.
const connectionKilled = 1927

// fatal tells what the server's refusal to send the log means; nil is no refusal.
func fatal(err error) error {
	switch code := serverError(err); code {
	case 0:
		return nil
	case mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG: // 1236, for many things
		text := err.Error()
		for _, sign := range []string{"purged", "Could not find", "not in the master's binlog", "diverged", "not present in", "missing"} {
			if strings.Contains(text, sign) {
				return fmt.Errorf("%w: the copy must be made anew: %w", ErrPurged, err)
			}
		}
		return fmt.Errorf("production does not send its log: %w", err)
	case mysql.ER_ACCESS_DENIED_ERROR, mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR:
		return fmt.Errorf("production refuses to send its log: %w", err)
	case mysql.ER_SERVER_SHUTDOWN, mysql.ER_QUERY_INTERRUPTED, mysql.ER_CON_COUNT_ERROR, mysql.ER_TOO_MANY_USER_CONNECTIONS,
		mysql.ER_NET_READ_ERROR, mysql.ER_NET_READ_INTERRUPTED, mysql.ER_NET_ERROR_ON_WRITE, mysql.ER_NET_WRITE_INTERRUPTED,
		connectionKilled:
		return nil // it will be there again
	default:
		return fmt.Errorf("production ends its log with an error: %w", err)
	}
}
