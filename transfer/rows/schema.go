package rows

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
)

// ReadSchema asks a server for all base tables of a database. Views are left out;
// a table whose rows cannot be transferred says why in Unfit. The connection is begun
// with SessionSQL, if it was not yet.
func ReadSchema(ctx context.Context, conn *client.Conn, database string) (*Schema, error) {
	s := &schemaReader{conn: conn, database: database}
	stop := interrupt(ctx, conn)
	err := s.read()
	stop()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read the schema of database %q: %w", database, err)
	}
	return &s.schema, nil
}

// ReadCreate is the statement that makes the table, in UTF-8. It must be run after
// SET NAMES utf8mb4: with SessionSQL's character set the server would take labels of
// an ENUM, defaults and comments for bytes of their columns.
func ReadCreate(ctx context.Context, conn *client.Conn, n Name) (string, error) {
	stop := interrupt(ctx, conn)
	defer stop()
	var create string
	err := Query(conn, "SHOW CREATE TABLE "+n.SQL(), func(v [][]byte) error {
		if len(v) < 2 {
			return errors.New("the answer has no statement")
		}
		create = string(v[1])
		return nil
	})
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("read how table %s is made: %w", n, err)
	}
	return create, nil
}

// interrupt lets a context end what waits on the connection, which is of no use
// afterwards.
func interrupt(ctx context.Context, conn *client.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

type schemaReader struct {
	conn     *client.Conn
	database string
	schema   Schema
	byName   map[string]*Table
}

func (s *schemaReader) read() error {
	for _, step := range []func() error{func() error { return Begin(s.conn) }, s.version, s.tables, s.columns, s.labels, s.keys, s.foreignKeys, s.triggers} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, t := range s.schema.Tables {
		judge(t)
	}
	return nil
}

// query runs a SELECT whose %s is the database's name as a literal.
func (s *schemaReader) query(format string, each func(v []string, null []bool) error) error {
	query := strings.ReplaceAll(format, "%s", Literal(s.database))
	return Query(s.conn, query, func(values [][]byte) error {
		v, null := make([]string, len(values)), make([]bool, len(values))
		for i := range values {
			v[i], null[i] = string(values[i]), values[i] == nil
		}
		return each(v, null)
	})
}

// Literal is a plain string literal, such as a name in a WHERE of information_schema.
func Literal(s string) string { return string(appendQuoted(nil, []byte(s))) }

func (s *schemaReader) version() error {
	err := s.query("SELECT @@version, @@version_comment", func(v []string, _ []bool) error {
		s.schema.Version, s.schema.Flavor = v[0], Flavor(v[0]+" "+v[1])
		return nil
	})
	if err != nil || s.schema.Flavor != "mysql" {
		return err
	}
	// MySQL 8 answers with the AUTO_INCREMENT of up to a day ago otherwise.
	if _, err := s.conn.Execute("SET information_schema_stats_expiry=0"); err != nil && !strings.HasPrefix(s.schema.Version, "5.") {
		return err
	}
	return nil
}

// Flavor tells from a server's version whether it is MariaDB or MySQL.
func Flavor(version string) string {
	if strings.Contains(strings.ToLower(version), "mariadb") {
		return "mariadb"
	}
	return "mysql"
}

func (s *schemaReader) tables() error {
	s.byName = make(map[string]*Table)
	exists := false
	if err := s.query("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME=%s", func([]string, []bool) error {
		exists = true
		return nil
	}); err != nil {
		return err
	}
	if !exists {
		return errors.New("there is no such database, or the user may not see it")
	}
	return s.query("SELECT TABLE_NAME, TABLE_TYPE, ENGINE, AUTO_INCREMENT, TABLE_ROWS, CREATE_OPTIONS, TABLE_COMMENT"+
		" FROM information_schema.TABLES WHERE TABLE_SCHEMA=%s AND TABLE_TYPE NOT LIKE '%VIEW'"+
		" ORDER BY TABLE_NAME", func(v []string, null []bool) error {
		t := &Table{Name: Name{s.database, v[0]}, Engine: v[2]}
		t.NextAuto, _ = strconv.ParseUint(v[3], 10, 64)
		t.Rows, _ = strconv.ParseUint(v[4], 10, 64)
		switch {
		case v[1] == "SEQUENCE":
			t.Unfit = "it is a sequence"
		case v[1] == "SYSTEM VERSIONED":
			t.Unfit = "it is system-versioned: its history cannot be written"
		case v[1] == "TEMPORARY":
			return nil
		case v[1] != "BASE TABLE":
			t.Unfit = fmt.Sprintf("it is a %q", v[1])
		case null[2]:
			t.Unfit = fmt.Sprintf("the server cannot open it: %s", v[6])
		case !strings.EqualFold(v[2], "InnoDB"):
			t.Unfit = fmt.Sprintf("its engine %s has no transactions: change it to InnoDB or leave the table out", v[2])
		}
		s.schema.Tables = append(s.schema.Tables, t)
		s.byName[t.Table] = t
		return nil
	})
}

func (s *schemaReader) columns() error {
	return s.query("SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, CHARACTER_SET_NAME, COLLATION_NAME,"+
		" IS_NULLABLE, COLUMN_DEFAULT, EXTRA, GENERATION_EXPRESSION, DATETIME_PRECISION, NUMERIC_SCALE"+
		" FROM information_schema.COLUMNS WHERE TABLE_SCHEMA=%s ORDER BY TABLE_NAME, ORDINAL_POSITION",
		func(v []string, null []bool) error {
			t := s.byName[v[0]]
			if t == nil {
				return nil
			}
			extra := strings.ToLower(v[8])
			c := Column{
				Name: v[1], Type: v[2], Charset: v[4], Collation: v[5],
				Nullable: v[6] == "YES", AutoIncrement: strings.Contains(extra, "auto_increment"),
				Generated: v[9] != "",
			}
			if !null[7] {
				c.Default = &v[7]
			}
			c.Kind = kindOf(strings.ToLower(v[3]), strings.ToLower(v[2]))
			switch c.Kind {
			case Time, DateTime, Timestamp:
				c.Digits, _ = strconv.Atoi(v[10])
			case Decimal:
				c.Digits, _ = strconv.Atoi(v[11])
			case Enum, Set:
				labels, err := parseLabels(v[2])
				if err != nil {
					return fmt.Errorf("column %q of table %q: %w", c.Name, t.Table, err)
				}
				c.Labels = labels
			case Bytes:
				c.Charset, c.Collation = "", ""
			}
			t.Columns = append(t.Columns, c)
			return nil
		})
}

// kindOf tells the kind by DATA_TYPE and COLUMN_TYPE, both in lower case.
func kindOf(data, column string) Kind {
	if strings.Contains(column, "compressed*/") {
		return Unsupported
	}
	switch data {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		if strings.Contains(column, "unsigned") || strings.Contains(column, "zerofill") {
			return Uint
		}
		return Int
	case "decimal":
		return Decimal
	case "float":
		return Float
	case "double":
		return Double
	case "bit":
		return Bit
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		return Text
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		return Bytes
	case "date":
		return Date
	case "time", "datetime", "timestamp":
		// A fraction in the format of before MariaDB 10.1 has no form in the log
		// that tells its length.
		if strings.Contains(column, "mariadb-5.3") && strings.Contains(column, "(") {
			return Unsupported
		}
		return map[string]Kind{"time": Time, "datetime": DateTime, "timestamp": Timestamp}[data]
	case "year":
		if column == "year(2)" {
			return Unsupported
		}
		return Year
	case "enum":
		return Enum
	case "set":
		return Set
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
		"geometrycollection", "geomcollection":
		return Geometry
	case "inet4":
		return Inet4
	case "inet6":
		return Inet6
	case "uuid":
		return UUID
	}
	return Unsupported
}

// parseLabels reads the labels of a type such as "enum('a','b”c')".
func parseLabels(columnType string) ([]string, error) {
	_, rest, ok := strings.Cut(columnType, "(")
	if !ok {
		return nil, fmt.Errorf("type %q has no labels", columnType)
	}
	var labels []string
	for {
		if !strings.HasPrefix(rest, "'") {
			return nil, fmt.Errorf("type %q cannot be read", columnType)
		}
		rest = rest[1:]
		var label strings.Builder
		for {
			i := strings.IndexAny(rest, `'\\`)
			if i < 0 || i+1 == len(rest) {
				return nil, fmt.Errorf("type %q cannot be read", columnType)
			}
			label.WriteString(rest[:i])
			mark, next := rest[i], rest[i+1]
			if mark == '\'' && next != '\'' {
				rest = rest[i+1:]
				break
			}
			if mark == '\\' {
				next = unescape(next)
			}
			label.WriteByte(next)
			rest = rest[i+2:]
		}
		labels = append(labels, label.String())
		if strings.HasPrefix(rest, ")") {
			return labels, nil
		}
		if !strings.HasPrefix(rest, ",") {
			return nil, fmt.Errorf("type %q cannot be read", columnType)
		}
		rest = rest[1:]
	}
}

// unescape is what a backslash and a letter stand for.
func unescape(b byte) byte {
	switch b {
	case '0':
		return 0
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'Z':
		return 0x1a
	}
	return b
}

// labels turns the labels, which the server describes in UTF-8, into the bytes of
// their columns.
func (s *schemaReader) labels() error {
	for _, t := range s.schema.Tables {
		for i := range t.Columns {
			if c := &t.Columns[i]; len(c.Labels) > 0 {
				if err := s.convertLabels(c); err != nil {
					return fmt.Errorf("labels of column %q of table %q: %w", c.Name, t.Table, err)
				}
			}
		}
	}
	return nil
}

func (s *schemaReader) convertLabels(c *Column) error {
	ascii := !slices.ContainsFunc(c.Labels, func(l string) bool {
		return strings.ContainsFunc(l, func(r rune) bool { return r >= 0x80 || r == '?' || r == '\\' })
	})
	if ascii && !wide(c.Charset) || c.Charset == "binary" {
		return nil
	}
	var list strings.Builder
	for i, l := range c.Labels {
		if i > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, "CONVERT(_utf8mb4%s USING %s)", Literal(l), c.Charset)
	}
	return Query(s.conn, "SELECT "+list.String(), func(v [][]byte) error {
		for i := range v {
			// The server describes in three-byte UTF-8 and puts a question mark
			// for all else, so what such a label really is cannot be known.
			if strings.Contains(c.Labels[i], "?") && (strings.HasPrefix(c.Charset, "utf8mb4") || wide(c.Charset) || c.Charset == "gb18030") {
				c.Kind = Unsupported
			}
			c.Labels[i] = string(v[i])
		}
		return nil
	})
}

// wide tells the character sets in which no character is one byte.
func wide(charset string) bool {
	switch charset {
	case "ucs2", "utf16", "utf16le", "utf32":
		return true
	}
	return false
}

func (s *schemaReader) keys() error {
	type key struct {
		name     string
		columns  []int
		nullable bool
		broken   bool // a part of it is an expression
	}
	keys := make(map[*Table][]*key)
	err := s.query("SELECT TABLE_NAME, INDEX_NAME, COLUMN_NAME, INDEX_TYPE FROM information_schema.STATISTICS"+
		" WHERE TABLE_SCHEMA=%s AND NON_UNIQUE=0 ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
		func(v []string, null []bool) error {
			t := s.byName[v[0]]
			if t == nil {
				return nil
			}
			if n := len(keys[t]); n == 0 || keys[t][n-1].name != v[1] {
				keys[t] = append(keys[t], &key{name: v[1]})
				if s.schema.Flavor == "mariadb" && v[3] == "HASH" && strings.EqualFold(t.Engine, "InnoDB") {
					t.Hidden++
				}
			}
			k := keys[t][len(keys[t])-1]
			column := t.Column(v[2])
			if null[2] || column < 0 {
				k.broken = true
				return nil
			}
			k.columns = append(k.columns, column)
			k.nullable = k.nullable || t.Columns[column].Nullable
			return nil
		})
	if err != nil {
		return err
	}
	for t, all := range keys {
		all = slices.DeleteFunc(all, func(k *key) bool { return k.broken })
		names := func(k *key) bool {
			return !k.nullable && !slices.ContainsFunc(k.columns, func(c int) bool { return t.Columns[c].Generated })
		}
		// The primary key first, then the shortest one that names a row.
		slices.SortStableFunc(all, func(a, b *key) int {
			rank := func(k *key) int {
				switch {
				case k.name == "PRIMARY":
					return 0
				case names(k):
					return len(k.columns)
				}
				return 1 << 16
			}
			return cmp.Compare(rank(a), rank(b))
		})
		for i, k := range all {
			if i == 0 && names(k) {
				t.Key = k.columns
				continue
			}
			t.Unique = append(t.Unique, k.columns)
		}
	}
	return nil
}

func (s *schemaReader) foreignKeys() error {
	return s.query("SELECT k.TABLE_NAME, k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_SCHEMA,"+
		" k.REFERENCED_TABLE_NAME, k.REFERENCED_COLUMN_NAME, r.DELETE_RULE, r.UPDATE_RULE"+
		" FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r"+
		" ON r.CONSTRAINT_SCHEMA=k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME=k.CONSTRAINT_NAME AND r.TABLE_NAME=k.TABLE_NAME"+
		" WHERE k.TABLE_SCHEMA=%s AND r.CONSTRAINT_SCHEMA=%s AND k.REFERENCED_TABLE_NAME IS NOT NULL"+
		" ORDER BY k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION",
		func(v []string, _ []bool) error {
			t := s.byName[v[0]]
			if t == nil {
				return nil
			}
			if n := len(t.ForeignKeys); n == 0 || t.ForeignKeys[n-1].Name != v[1] {
				t.ForeignKeys = append(t.ForeignKeys, ForeignKey{Name: v[1], Database: v[3], Table: v[4], OnDelete: v[6], OnUpdate: v[7]})
			}
			f := &t.ForeignKeys[len(t.ForeignKeys)-1]
			f.Columns = append(f.Columns, v[2])
			f.References = append(f.References, v[5])
			return nil
		})
}

func (s *schemaReader) triggers() error {
	return s.query("SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS"+
		" WHERE EVENT_OBJECT_SCHEMA=%s ORDER BY EVENT_OBJECT_TABLE, TRIGGER_NAME",
		func(v []string, _ []bool) error {
			if t := s.byName[v[0]]; t != nil {
				t.Triggers = append(t.Triggers, v[1])
			}
			return nil
		})
}

// judge says why a table is unfit if one of its columns is.
func judge(t *Table) {
	if t.Unfit != "" {
		return
	}
	var unfit []string
	for _, c := range t.Columns {
		if c.Kind == Unsupported {
			unfit = append(unfit, fmt.Sprintf("column %q has type %s, whose values cannot be transferred", c.Name, c.Type))
		}
	}
	t.Unfit = strings.Join(unfit, "; ")
}
