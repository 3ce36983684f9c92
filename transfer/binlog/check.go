package binlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"imago.dev/imago/transfer/rows"
)

// Report is what Check found out about a server whose log can be used.
type Report struct {
	Flavor, Version string
	// Position is that of the server's last commit.
	Position rows.Position
	// SyncBinlog and FlushLog are sync_binlog and innodb_flush_log_at_trx_commit.
	SyncBinlog, FlushLog string
	// Durable: both are 1, so that after a cut of the power the engine has just what
	// the log has, and the clone's own recovered position may be used.
	Durable bool
	// FlushEvery is the age after which a commit is surely on the engine's disk.
	FlushEvery time.Duration
	// Retention is how long the server keeps its log; 0 is for ever or until
	// someone purges it.
	Retention time.Duration
	// Process: the PROCESS privilege is there, so that OpenTransactions answers.
	Process bool
	// Tables that are transferred.
	Tables int
	// Notes are worth a look but do not stand against a transfer.
	Notes []string
}

// leastRetention: a copy of some size takes longer than this.
const leastRetention = time.Hour

// Check tells all that stands against reading the changes of the database from
// the server's log, all at once: the error joins *Fault. It changes nothing, and
// asks the server for its log as Stream does.
func Check(ctx context.Context, cfg Config) (*Report, error) {
	cfg.setDefaults()
	limit, cancel := context.WithTimeout(ctx, cfg.Silence)
	conn, err := connect(limit, &cfg)
	cancel()
	if err != nil {
		return nil, fmt.Errorf("connect to production's database at %s as %q: %w", cfg.Address, cfg.User, err)
	}
	defer func() { _ = conn.Close() }()
	c := &checker{ctx: ctx, cfg: &cfg, conn: conn}
	stop := interrupt(ctx, conn)
	err = c.run()
	stop()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("check production's log: %w", err)
	}
	if len(c.faults) > 0 {
		return &c.report, errors.Join(c.faults...)
	}
	return &c.report, nil
}

type checker struct {
	ctx      context.Context // of the one call of Check
	cfg      *Config
	conn     *client.Conn
	settings variables
	report   Report
	faults   []error
	rights   map[string]bool // global privileges that are missing
	reads    bool            // the SELECT privilege is missing, too
}

func (c *checker) fault(what, want, do string) {
	c.faults = append(c.faults, &Fault{What: what, Want: want, Do: do})
}

func (c *checker) run() error {
	var err error
	if c.report.Flavor = c.cfg.Flavor; c.report.Flavor == "" {
		c.report.Flavor = rows.Flavor(c.conn.GetServerVersion())
	}
	if c.settings, err = readVariables(c.conn); err != nil {
		return err
	}
	// Not what it greeted us with: MariaDB says 5.5.5 in front.
	c.report.Version = c.settings["version"]
	c.rights = make(map[string]bool)
	c.durability()
	if !c.settings.on("log_bin") {
		c.fault("log_bin is OFF", "ON", "add log_bin to the [mysqld] section and restart the server")
	}
	c.format()
	if c.report.Flavor == "mysql" {
		c.mysqlSettings()
	} else {
		c.mariadbSettings()
	}
	c.retention()
	for _, step := range []func() error{c.filter, c.process, c.tables, c.position} {
		if err := step(); err != nil {
			return err
		}
	}
	if c.settings.on("log_bin") && !c.rights["position"] {
		if err := c.dump(); err != nil {
			return err
		}
	}
	return c.privileges()
}

func (c *checker) durability() {
	c.report.SyncBinlog, c.report.FlushLog = c.settings["sync_binlog"], c.settings["innodb_flush_log_at_trx_commit"]
	c.report.Durable, c.report.FlushEvery = durableAtCommit(c.settings), flushEvery(c.settings)
	if !c.report.Durable {
		c.report.Notes = append(c.report.Notes, fmt.Sprintf("sync_binlog is %s and innodb_flush_log_at_trx_commit %s: the copy begins at a position of before the clone's instant",
			c.report.SyncBinlog, c.report.FlushLog))
	}
}

func (c *checker) format() {
	if v := c.settings["binlog_format"]; v != "" && !strings.EqualFold(v, "ROW") {
		c.fault("binlog_format is "+v, "ROW", "SET GLOBAL binlog_format='ROW', then reconnect all clients; and binlog_format=ROW in the server's configuration")
	}
	if v := c.settings["binlog_row_image"]; !strings.EqualFold(v, "FULL") {
		c.fault("binlog_row_image is "+v, "FULL", "SET GLOBAL binlog_row_image='FULL', then reconnect all clients; and binlog_row_image=FULL in the server's configuration")
	}
}

func (c *checker) mariadbSettings() {
	if c.settings.on("wsrep_on") && !c.settings.on("log_slave_updates") {
		c.fault("the server is a node of a cluster (wsrep_on) and does not log what others write", "log_slave_updates=ON", "add log_slave_updates to the [mysqld] section and restart the node")
	}
}

func (c *checker) mysqlSettings() {
	if v := c.settings["gtid_mode"]; !strings.EqualFold(v, "ON") {
		c.fault("gtid_mode is "+v, "ON", "SET GLOBAL gtid_mode step by step to ON, with enforce_gtid_consistency=ON")
	}
	if v := c.settings["binlog_row_value_options"]; v != "" {
		c.fault("binlog_row_value_options is "+v, "empty", "SET GLOBAL binlog_row_value_options=''")
	}
	if c.settings.on("binlog_transaction_compression") {
		c.fault("binlog_transaction_compression is ON", "OFF", "SET GLOBAL binlog_transaction_compression=OFF, then reconnect all clients")
	}
}

// retention: a log that is purged while the copy is made is a copy for nothing.
func (c *checker) retention() {
	seconds, _ := strconv.ParseFloat(c.settings["binlog_expire_logs_seconds"], 64)
	if seconds == 0 { // the older name of the same
		days, _ := strconv.ParseFloat(c.settings["expire_logs_days"], 64)
		seconds = days * 86400
	}
	c.report.Retention = time.Duration(seconds * float64(time.Second))
	if c.report.Retention > 0 && c.report.Retention < leastRetention {
		c.fault(fmt.Sprintf("the binary log is kept for %v only", c.report.Retention), "at least "+leastRetention.String(), "SET GLOBAL binlog_expire_logs_seconds=86400")
	}
	if v := c.settings["max_binlog_total_size"]; v != "" && v != "0" {
		c.report.Notes = append(c.report.Notes, "max_binlog_total_size is "+v+": the log may be purged while the copy is made")
	}
}

// filter looks at binlog_do_db and binlog_ignore_db, which are no variables in most
// versions, and at a replica that does not log what it applies.
func (c *checker) filter() error {
	if !c.settings.on("log_bin") {
		return nil
	}
	show := "SHOW MASTER STATUS"
	if newer, err := mysql.CompareServerVersions(c.report.Version, "8.4.0"); c.report.Flavor == "mysql" && err == nil && newer >= 0 {
		show = "SHOW BINARY LOG STATUS"
	}
	err := rows.Query(c.conn, show, func(v [][]byte) error {
		if len(v) < 4 {
			return nil
		}
		do, ignore := strings.Split(string(v[2]), ","), strings.Split(string(v[3]), ",")
		if do[0] != "" && !contains(do, c.cfg.Database) || contains(ignore, c.cfg.Database) {
			c.fault(fmt.Sprintf("database %q is left out of the log (binlog_do_db %q, binlog_ignore_db %q)", c.cfg.Database, v[2], v[3]),
				"no such filter", "take binlog_do_db and binlog_ignore_db out of the server's configuration and restart it")
		}
		return nil
	})
	if denied(err) {
		c.rights[c.monitor()] = true
		return nil
	}
	if err != nil {
		return err
	}
	if running, err := readStatus(c.conn, "Slaves_running"); err == nil && running != "0" && !c.settings.on("log_slave_updates") {
		c.fault("the server is a replica and does not log what it applies", "log_slave_updates=ON", "add log_slave_updates to the [mysqld] section and restart the server")
	}
	return nil
}

func contains(list []string, name string) bool {
	for _, l := range list {
		if strings.EqualFold(strings.TrimSpace(l), name) {
			return true
		}
	}
	return false
}

// monitor is the privilege to see the state of the log.
func (c *checker) monitor() string {
	if c.report.Flavor == "mariadb" {
		if newer, err := mysql.CompareServerVersions(c.report.Version, "10.5.2"); err == nil && newer >= 0 {
			return "BINLOG MONITOR"
		}
	}
	return "REPLICATION CLIENT"
}

func (c *checker) process() error {
	_, err := selectOne(c.conn, "SELECT COUNT(*) FROM information_schema.INNODB_TRX")
	c.report.Process = err == nil
	if denied(err) {
		c.report.Notes = append(c.report.Notes, "without the PROCESS privilege nobody can tell which transactions are open at the switch")
		return nil
	}
	return err
}

// tables names those that cannot be transferred.
func (c *checker) tables() error {
	schema, err := rows.ReadSchema(c.ctx, c.conn, c.cfg.Database)
	if err != nil {
		if isServerError(err) {
			return err
		}
		c.reads = true
		c.fault(err.Error(), "", "")
		return nil
	}
	skip := make(map[string]bool)
	for _, t := range c.cfg.Skip {
		skip[t] = true
		if schema.Table(rows.Name{Database: c.cfg.Database, Table: t}) == nil {
			c.fault(fmt.Sprintf("table %q, which is to be left out, does not exist", t), "", "")
		}
	}
	for _, t := range schema.Tables {
		if skip[t.Table] {
			continue
		}
		c.report.Tables++
		if t.Unfit != "" {
			c.fault(fmt.Sprintf("table %s cannot be transferred: %s", t.Name, t.Unfit), "", "leave it out of the plan (skip) and move it by a step of its own")
		}
	}
	if c.report.Tables == 0 {
		c.reads = true
		c.fault(fmt.Sprintf("the user sees no table of database %q", c.cfg.Database), "", "")
	}
	return nil
}

func (c *checker) position() error {
	p, err := loggedPosition(c.conn, c.report.Flavor)
	if denied(err) {
		c.rights[c.monitor()], c.rights["position"] = true, true
		return nil
	}
	if err != nil {
		return err
	}
	c.report.Position = p
	if p.GTID == "" && c.settings.on("log_bin") {
		c.fault("the log has no transaction with a GTID yet", "", "wait for the first commit, or write one")
		c.rights["position"] = true
	}
	return nil
}

// dump asks for the end of the log, as Stream would.
func (c *checker) dump() error {
	d, err := openDump(c.ctx, c.cfg, c.report.Flavor, c.report.Position, true)
	if err == nil {
		defer d.close()
		for err == nil {
			_, err = d.next()
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case denied(err):
		c.rights["REPLICATION SLAVE"] = true
		return nil
	case errors.Is(fatal(err), ErrPurged):
		c.faults = append(c.faults, fatal(err))
		return nil
	}
	return err
}

// denied tells whether an answer was that a privilege is missing.
func denied(err error) bool {
	switch serverError(err) {
	case mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR, mysql.ER_ACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_TABLEACCESS_DENIED_ERROR:
		return true
	}
	return false
}

// privileges puts all that are missing into one text to be copied.
func (c *checker) privileges() error {
	delete(c.rights, "position")
	if len(c.rights) == 0 && !c.reads {
		return nil
	}
	user, err := selectOne(c.conn, "SELECT CURRENT_USER()")
	if err != nil {
		return err
	}
	at := strings.LastIndexByte(user, '@')
	if at < 0 {
		return fmt.Errorf("user %q has no host", user)
	}
	account := rows.Literal(user[:at]) + "@" + rows.Literal(user[at+1:])
	var missing, grants []string
	if len(c.rights) > 0 {
		for right := range c.rights {
			missing = append(missing, right)
		}
		all := []string{"REPLICATION SLAVE", c.monitor(), "PROCESS"}
		grants = append(grants, fmt.Sprintf("GRANT %s ON *.* TO %s;", strings.Join(all, ", "), account))
	}
	if c.reads {
		missing = append(missing, "SELECT")
		grants = append(grants, fmt.Sprintf("GRANT SELECT ON %s.* TO %s;", rows.QuoteName(c.cfg.Database), account))
	}
	c.fault(fmt.Sprintf("user %s lacks %s", account, strings.Join(missing, ", ")), "", strings.Join(grants, " "))
	return nil
}
