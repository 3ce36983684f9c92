package binlog

import (
	"fmt"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// statements judges what stands in the log as text. It lets pass only what cannot,
// with certainty, change a row or the shape of a table that is transferred.
type statements struct {
	database string
	skip     map[string]bool
	tables   map[string]bool // of the schema
}

// mostWords bounds how much of a statement is looked at: what names tables stands
// in front. A list longer than this is not certain.
const mostWords = 400

// judge returns nil for a statement that may pass, else an error that wraps ErrDDL
// or ErrStatement and says what to do.
func (s *statements) judge(schema, statement string) error {
	if strings.HasPrefix(statement, "# Dum") {
		// What a server sends in the place of an event it thinks too new for us.
		return fmt.Errorf("%w: %q", ErrUnknownEvent, statement)
	}
	list, ok := words(statement, mostWords)
	if ok && len(list) == 0 {
		return nil
	}
	if !ok || len(list) == mostWords && !s.longPasses(list) {
		return s.stop(ErrDDL, statement)
	}
	c := clause{words: list}
	verb := strings.ToUpper(c.next().text)
	switch verb {
	case "GRANT", "REVOKE", "FLUSH", "INSTALL", "UNINSTALL":
		return nil
	case "SET":
		if c.take("PASSWORD") || c.take("DEFAULT") {
			return nil
		}
	case "ANALYZE", "OPTIMIZE", "REPAIR", "CHECK", "CHECKSUM": // of tables: ANALYZE UPDATE … is another thing
		if _ = c.take("LOCAL") || c.take("NO_WRITE_TO_BINLOG"); c.take("TABLE") || c.take("TABLES") || c.take("VIEW") {
			return nil
		}
	case "CREATE", "DROP", "ALTER", "RENAME", "TRUNCATE":
		if s.definition(verb, &c, schema) {
			return nil
		}
		return s.stop(ErrDDL, statement)
	case "DELETE":
		// After a restart the server empties tables in memory this way.
		if c.take("FROM") {
			if name, ok := c.name(schema); ok && c.done() && s.elsewhere(name) {
				return nil
			}
		}
	}
	return s.stop(ErrStatement, statement)
}

// longPasses: statements about users and routines may be long.
func (s *statements) longPasses(list []word) bool {
	for _, keyword := range []string{"GRANT", "REVOKE"} {
		if list[0].is(keyword) {
			return true
		}
	}
	for _, w := range list[:min(len(list), 12)] {
		for _, keyword := range []string{"VIEW", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE"} {
			if w.is(keyword) {
				return list[0].is("CREATE") || list[0].is("ALTER")
			}
		}
	}
	// CREATE TABLE names its table in front.
	return list[0].is("CREATE")
}

func (s *statements) stop(kind error, statement string) error {
	const most = 300
	text := strings.ToValidUTF8(strings.TrimSpace(statement), "?")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " …"
	}
	do := "the copy no longer fits: abort this run and begin a new one after the change, or make the new version from the changed schema"
	if kind == ErrStatement {
		do = "set binlog_format=ROW for all sessions (SET GLOBAL binlog_format='ROW', then reconnect the application), and begin a new run"
	}
	return fmt.Errorf("%w: %s; %s", kind, text, do)
}

// elsewhere tells whether the name is surely no table that is transferred.
func (s *statements) elsewhere(n rows.Name) bool {
	if !ascii(n.Database) || n.Database == "" {
		return false // in whatever character set the client spoke
	}
	if !strings.EqualFold(n.Database, s.database) {
		return true
	}
	return n.Database == s.database && ascii(n.Table) && s.skip[n.Table]
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// definition tells whether a definition of something surely leaves our tables alone.
func (s *statements) definition(verb string, c *clause, schema string) bool {
	replace := false
	if verb == "CREATE" && c.take("OR") {
		if !c.take("REPLACE") {
			return false
		}
		replace = true
	}
	if verb == "ALTER" || verb == "CREATE" {
		for c.take("ONLINE") || c.take("OFFLINE") || c.take("IGNORE") {
		}
	}
	if c.take("TEMPORARY") {
		return true
	}
	if verb == "CREATE" || verb == "ALTER" {
		c.definer()
		if c.take("AGGREGATE") {
			return true
		}
	}
	kind := strings.ToUpper(c.next().text)
	switch kind {
	case "USER", "ROLE", "SERVER", "FUNCTION", "PROCEDURE", "PACKAGE", "EVENT", "VIEW", "TABLESPACE", "LOGFILE", "INSTANCE", "RESOURCE":
		return true
	case "DATABASE", "SCHEMA":
		c.ifExists()
		if c.done() {
			return false
		}
		name := c.next()
		for _, option := range []string{"CHARACTER", "CHARSET", "COLLATE", "DEFAULT", "COMMENT", "UPGRADE"} {
			if verb == "ALTER" && name.is(option) { // of the session's own database
				return false
			}
		}
		return ascii(name.text) && !strings.EqualFold(name.text, s.database) && name.text != ""
	case "SEQUENCE":
		c.ifExists()
		return s.all(c, schema, s.elsewhere)
	case "TABLE", "TABLES":
		return s.table(verb, c, schema, replace)
	case "UNIQUE", "FULLTEXT", "SPATIAL", "INDEX":
		for !c.done() && !c.take("ON") {
			c.next()
		}
		name, ok := c.name(schema)
		return ok && s.elsewhere(name)
	case "TRIGGER":
		return s.trigger(verb, c, schema)
	}
	if verb == "TRUNCATE" { // TABLE may be left out
		c.back()
		name, ok := c.name(schema)
		return ok && s.elsewhere(name)
	}
	return false
}

func (s *statements) table(verb string, c *clause, schema string, replace bool) bool {
	exists := c.ifExists()
	switch verb {
	case "CREATE":
		name, ok := c.name(schema)
		if !ok {
			return false
		}
		// A table that exists stays as it is.
		return s.elsewhere(name) || exists && !replace && name.Database == s.database && s.tables[name.Table]
	case "ALTER":
		name, ok := c.name(schema)
		if !ok || !s.elsewhere(name) {
			return false
		}
		// These can reach another table.
		for !c.done() {
			if w := c.next(); w.is("RENAME") || w.is("EXCHANGE") || w.is("CONVERT") || w.is("UNION") {
				return false
			}
		}
		return true
	case "RENAME":
		for {
			from, ok := c.name(schema)
			if !ok || !s.elsewhere(from) {
				return false
			}
			for c.take("WAIT") || c.take("NOWAIT") || numeric(c.peek()) {
				c.next()
			}
			if !c.take("TO") {
				return false
			}
			to, ok := c.name(schema)
			if !ok || !s.elsewhere(to) {
				return false
			}
			if !c.take(",") {
				return c.done()
			}
		}
	case "DROP":
		return s.all(c, schema, func(n rows.Name) bool { return s.elsewhere(n) || exists && s.unknown(n) })
	case "TRUNCATE":
		return s.all(c, schema, s.elsewhere)
	}
	return false
}

// unknown tells whether there is surely no such table.
func (s *statements) unknown(n rows.Name) bool {
	if !ascii(n.Table) || n.Database != s.database {
		return false
	}
	for t := range s.tables {
		if strings.EqualFold(t, n.Table) {
			return false
		}
	}
	return true
}

// all reads a list of names, each of which must pass.
func (s *statements) all(c *clause, schema string, pass func(rows.Name) bool) bool {
	for {
		name, ok := c.name(schema)
		if !ok || !pass(name) {
			return false
		}
		if !c.take(",") {
			return true
		}
	}
}

func (s *statements) trigger(verb string, c *clause, schema string) bool {
	c.ifExists()
	name, ok := c.name(schema)
	if !ok {
		return false
	}
	if verb == "DROP" {
		return ascii(name.Database) && name.Database != "" && !strings.EqualFold(name.Database, s.database)
	}
	for !c.done() && !c.take("ON") {
		c.next()
	}
	on, ok := c.name(schema)
	return ok && s.elsewhere(on)
}

func numeric(w word) bool {
	return !w.quoted && w.text != "" && strings.Trim(w.text, "0123456789") == ""
}

// clause walks over the words of a statement.
type clause struct {
	words []word
	at    int
}

func (c *clause) done() bool { return c.at >= len(c.words) || c.words[c.at].is(";") }

func (c *clause) peek() word {
	if c.done() {
		return word{}
	}
	return c.words[c.at]
}

func (c *clause) next() word {
	w := c.peek()
	if !c.done() {
		c.at++
	}
	return w
}

func (c *clause) back() { c.at = max(0, c.at-1) }

func (c *clause) take(keyword string) bool {
	if c.peek().is(keyword) {
		c.at++
		return true
	}
	return false
}

// ifExists takes IF EXISTS and IF NOT EXISTS.
func (c *clause) ifExists() bool {
	if !c.take("IF") {
		return false
	}
	c.take("NOT")
	return c.take("EXISTS")
}

// definer takes ALGORITHM=…, DEFINER=… and SQL SECURITY ….
func (c *clause) definer() {
	for {
		switch {
		case c.take("ALGORITHM"), c.take("DEFINER"):
			c.take("=")
			c.next()
			for c.take("@") || c.take("(") || c.take(")") {
				if w := c.peek(); w.quoted || w.text == "'" || w.is("%") {
					c.next()
				}
			}
		case c.take("SQL"):
			c.take("SECURITY")
			c.next()
		default:
			return
		}
	}
}

// name takes a table's name, with or without its database.
func (c *clause) name(schema string) (rows.Name, bool) {
	first := c.next()
	if !nameWord(first) {
		return rows.Name{}, false
	}
	if !c.take(".") {
		return rows.Name{Database: schema, Table: first.text}, true
	}
	second := c.next()
	return rows.Name{Database: first.text, Table: second.text}, nameWord(second)
}

func nameWord(w word) bool {
	return w.text != "" && (w.quoted || wordByte(w.text[0]))
}
