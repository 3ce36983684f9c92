package convert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"imago.dev/imago/transfer/rows"
)

// Prepared is a conversion that was held against both schemas. Its methods may be
// called at the same time, each with a connection of its own; every connection
// has been given rows.SessionSQL. When a method's context ends, its connection is
// cut. Close ends its programs.
//
// Statements that make rows aside first read the old tables the way INSERT … SELECT
// does: without locks only on a connection with READ COMMITTED.
type Prepared struct {
	conv   Conversion
	db     Databases
	target *rows.Table
	key    objectKey
	from   []fromTable
	stmt   *statement

	selected []selectedColumn // what the SELECT gives
	// sorted: the SELECT's keys sort as those of the old tables.
	sorted  bool
	written []*rows.Column // of the target, in the order of the columns of aside
	// identity are the columns that tell the target's rows apart, all of them written.
	identity []*rows.Column
	// auto is the target's AUTO_INCREMENT column when rows keep the value they were
	// given by the server.
	auto  *rows.Column
	aside aside
	pool  *pool
}

// fromTable is a From with what the schema says of it.
type fromTable struct {
	From
	table   *rows.Table
	columns []int // of Key
	via     *statement
	viaCols []string // names of the columns that via gives
}

// selectedColumn is a column that the plan's SELECT gives.
type selectedColumn struct {
	name string
	typ  uint8
	// set is the number of the character set's collation; 63 is binary.
	set uint16
}

// Prepare holds a conversion against both schemas and the server that has the new
// database and the (perhaps still empty) copies of the old tables, and names all
// that does not fit.
func Prepare(ctx context.Context, conn *client.Conn, c Conversion, db Databases, source, target *rows.Schema) (*Prepared, error) {
	p := &Prepared{conv: c, db: db}
	p.conv.Name = c.name()
	fail := func(faults ...error) (*Prepared, error) {
		return nil, fmt.Errorf("conversion %q: %w", p.conv.Name, errors.Join(faults...))
	}
	var faults []error
	faults = append(faults, p.findTarget(target)...)
	faults = append(faults, p.findFrom(source)...)
	if len(faults) > 0 {
		return fail(faults...)
	}
	if faults = p.findKey(); len(faults) > 0 {
		return fail(faults...)
	}
	if err := p.parse(); err != nil {
		return fail(err)
	}
	s, err := begin(ctx, conn, p.db.New)
	if err != nil {
		return fail(err)
	}
	defer s.end()
	if err := p.ask(s); err != nil {
		return fail(err)
	}
	if faults = p.findWritten(); len(faults) > 0 {
		return fail(faults...)
	}
	p.aside = p.newAside()
	if len(c.Program) > 0 {
		p.pool = newPool(c.Program)
	}
	// An error here is one of every later call.
	if err := errors.Join(p.aside.clear(s), p.aside.drop(s)); err != nil {
		return fail(err)
	}
	return p, nil
}

func (p *Prepared) findTarget(target *rows.Schema) []error {
	if p.target = findTable(target, p.conv.Into); p.target == nil {
		return []error{fmt.Errorf("there is no table %q in the new database", p.conv.Into)}
	}
	var faults []error
	if p.target.Unfit != "" {
		faults = append(faults, fmt.Errorf("table %q cannot be written: it is %s", p.conv.Into, p.target.Unfit))
	}
	if e := strings.ToLower(p.target.Engine); slices.Contains([]string{"myisam", "aria", "memory", "csv", "archive", "blackhole"}, e) {
		faults = append(faults, fmt.Errorf("table %q has engine %s, which knows no transactions", p.conv.Into, p.target.Engine))
	}
	if len(p.conv.Key) == 0 {
		faults = append(faults, errors.New("the key has no columns"))
	}
	for i, name := range p.conv.Key {
		c, err := findColumn(p.target, name)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("key: %w", err))
		case c.Generated:
			faults = append(faults, fmt.Errorf("key: column %q is generated", name))
		case slices.ContainsFunc(p.conv.Key[:i], func(k string) bool { return strings.EqualFold(k, name) }):
			faults = append(faults, fmt.Errorf("key: column %q is there twice", name))
		}
	}
	return faults
}

func (p *Prepared) findFrom(source *rows.Schema) []error {
	if len(p.conv.From) == 0 {
		return []error{errors.New("from has no tables")}
	}
	var faults []error
	for i, f := range p.conv.From {
		t := findTable(source, f.Table)
		if t == nil {
			faults = append(faults, fmt.Errorf("from[%d]: there is no table %q in the old database", i, f.Table))
			continue
		}
		if i == 0 && f.Via != "" {
			faults = append(faults, errors.New("from[0]: the first table drives the conversion and must hold the key itself, not by via"))
		}
		if f.Via == "" && len(f.Key) != len(p.conv.Key) {
			faults = append(faults, fmt.Errorf("from[%d]: the key has %d columns, and that of the objects %d", i, len(f.Key), len(p.conv.Key)))
		}
		if f.Via != "" && len(f.Key) == 0 {
			faults = append(faults, fmt.Errorf("from[%d]: via needs the columns that it is asked with", i))
		}
		ft := fromTable{From: f, table: t}
		for _, name := range f.Key {
			c, err := findColumn(t, name)
			switch {
			case err != nil:
				faults = append(faults, fmt.Errorf("from[%d]: %w", i, err))
			case c.Generated:
				faults = append(faults, fmt.Errorf("from[%d]: column %q is generated, and changes do not tell its value", i, name))
			default:
				ft.columns = append(ft.columns, t.Column(name))
			}
		}
		faults = append(faults, ft.plusFault(i)...)
		p.from = append(p.from, ft)
	}
	return faults
}

// plusFault is about a Plus that cannot be added.
func (f *fromTable) plusFault(i int) []error {
	if f.Plus == 0 || len(f.columns) == 0 {
		return nil
	}
	c := &f.table.Columns[f.columns[len(f.columns)-1]]
	switch {
	case f.Via != "":
		return []error{fmt.Errorf("from[%d]: plus and via: let via add", i)}
	case c.Kind != rows.Int && c.Kind != rows.Uint:
		return []error{fmt.Errorf("from[%d]: plus needs a whole number, and column %q is %s", i, c.Name, c.Type)}
	}
	return nil
}

func (p *Prepared) findKey() []error {
	p.key.orderly, p.key.driven = true, true
	var faults []error
	for i, name := range p.conv.Key {
		var columns []*rows.Column
		for j := range p.from {
			if f := &p.from[j]; f.Via == "" {
				columns = append(columns, &f.table.Columns[f.columns[i]])
			}
		}
		part, orderly, err := keyPartOf(columns, &p.target.Columns[p.target.Column(name)])
		if err != nil {
			faults = append(faults, fmt.Errorf("key %q: %w", name, err))
		}
		p.key.parts = append(p.key.parts, part)
		p.key.orderly = p.key.orderly && orderly
		p.key.driven = p.key.driven && !part.mixed
		p.key.spelled = p.key.spelled || !orderly || classOf(columns[0]) == texts
	}
	if !p.key.driven && slices.ContainsFunc(p.from, func(f fromTable) bool { return f.Plus != 0 }) {
		faults = append(faults, errors.New("plus needs tables that sort the key alike"))
	}
	return faults
}

func (p *Prepared) parse() error {
	var err error
	if p.stmt, err = parseStatement(p.conv.Select, p.db); err != nil {
		return err
	}
	for _, name := range p.stmt.paramNames() {
		if name != "keys" && p.keyIndex(name) < 0 {
			return fmt.Errorf("the SELECT has a parameter :%s; there are :keys and the key's columns :%s", name, strings.Join(p.conv.Key, ", :"))
		}
	}
	for i := range p.from {
		f := &p.from[i]
		if f.Via == "" {
			continue
		}
		if f.via, err = parseStatement(f.Via, p.db); err != nil {
			return fmt.Errorf("from[%d].via: %w", i, err)
		}
		for _, name := range f.via.paramNames() {
			if f.param(name) < 0 {
				return fmt.Errorf("from[%d].via has a parameter :%s; there are :%s", i, name, strings.Join(f.Key, ", :"))
			}
		}
	}
	return nil
}

func (p *Prepared) keyIndex(name string) int {
	return slices.IndexFunc(p.conv.Key, func(k string) bool { return strings.EqualFold(k, name) })
}

// param is the index of a parameter of via.
func (f *fromTable) param(name string) int {
	return slices.IndexFunc(f.Key, func(k string) bool { return strings.EqualFold(k, name) })
}

// ask lets the server say which columns the plan's SELECTs give.
func (p *Prepared) ask(s *session) error {
	null := make([]rows.Cell, len(p.conv.Key))
	fields, err := describe(s, p.derived([][]rows.Cell{null}))
	if err != nil {
		return fmt.Errorf("the SELECT: %w", err)
	}
	for _, f := range fields {
		p.selected = append(p.selected, selectedColumn{name: string(f.Name), typ: f.Type, set: f.Charset})
	}
	if err := p.askOrder(s); err != nil {
		return err
	}
	for i := range p.from {
		f := &p.from[i]
		if f.via == nil {
			continue
		}
		var b strings.Builder
		b.WriteString("(\n")
		f.via.bind(&b, func(string) string { return "NULL" })
		b.WriteString("\n)")
		fields, err := describe(s, b.String())
		if err != nil {
			return fmt.Errorf("from[%d].via: %w", i, err)
		}
		if len(fields) != len(p.conv.Key) {
			return fmt.Errorf("from[%d].via gives %d columns, and the key has %d", i, len(fields), len(p.conv.Key))
		}
		for _, field := range fields {
			f.viaCols = append(f.viaCols, string(field.Name))
		}
	}
	return nil
}

// askOrder finds out whether the SELECT gives the key's texts as the first table
// has them. A range of others would not be the same objects.
func (p *Prepared) askOrder(s *session) error {
	p.sorted = p.key.driven
	for i, name := range p.conv.Key {
		j := p.selectedIndex(name)
		first := &p.from[0].table.Columns[p.from[0].columns[i]]
		if j < 0 || p.key.parts[i].asText || classOf(first) != texts && classOf(first) != octets {
			continue
		}
		collation := first.Collation
		if classOf(first) == octets {
			collation = "binary"
		}
		n, err := s.number("SELECT id FROM information_schema.collations WHERE collation_name=" + string(rows.AppendLiteral(nil, &rows.Column{Kind: rows.Date}, rows.Cell(collation))))
		if err != nil {
			return err
		}
		p.sorted = p.sorted && n == int(p.selected[j].set)
	}
	return nil
}

func describe(s *session, derived string) ([]*mysql.Field, error) {
	// To a client that wants bytes, the server calls every column one of bytes.
	if _, err := s.exec("SET character_set_results=NULL"); err != nil {
		return nil, err
	}
	r, err := s.exec("SELECT * FROM " + derived + " c LIMIT 0")
	if _, err := s.exec("SET character_set_results=binary"); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return r.Fields, nil
}

// Close ends the program's processes and waits for them.
func (p *Prepared) Close() error {
	if p.pool == nil {
		return nil
	}
	return p.pool.close()
}

// Conversion is what was prepared, with its name.
func (p *Prepared) Conversion() Conversion { return p.conv }

// KeyColumns describe the cells of an object's key, for literals and for storing
// them. Text of tables with different character sets is in utf8mb4.
func (p *Prepared) KeyColumns() []rows.Column {
	columns := make([]rows.Column, len(p.key.parts))
	for i, part := range p.key.parts {
		columns[i] = part.col
	}
	return columns
}

// CompareKeys orders two objects as Next does; false: only the server knows.
func (p *Prepared) CompareKeys(a, b []rows.Cell) (int, bool) { return p.key.compare(a, b) }

// derived is the plan's SELECT in parentheses, bound to some objects.
func (p *Prepared) derived(keys [][]rows.Cell) string {
	var b strings.Builder
	b.WriteString("(\n")
	p.stmt.bind(&b, func(param string) string {
		if i := p.keyIndex(param); i >= 0 {
			return p.key.literal(i, keys[0][i])
		}
		return p.key.list(keys)
	})
	b.WriteString("\n)")
	return b.String()
}

// list is what :keys stands for.
func (k *objectKey) list(keys [][]rows.Cell) string {
	items := make([]string, len(keys))
	for i, key := range keys {
		cells := make([]string, len(key))
		for j, v := range key {
			cells[j] = k.literal(j, v)
		}
		items[i] = strings.Join(cells, ",")
		if len(key) > 1 {
			items[i] = "(" + items[i] + ")"
		}
	}
	return strings.Join(items, ",")
}

// perObject tells whether the SELECT takes one object at a time.
func (p *Prepared) perObject() bool {
	return slices.ContainsFunc(p.stmt.paramNames(), func(n string) bool { return p.keyIndex(n) >= 0 })
}

func (p *Prepared) selectPlace() place { return place{alias: "c", names: p.conv.Key} }
func (p *Prepared) asidePlace() place  { return place{alias: "n", names: p.conv.Key} }
func (p *Prepared) targetPlace() place { return place{alias: "t", names: p.conv.Key} }
func (p *Prepared) targetName() string {
	return rows.Name{Database: p.db.New, Table: p.target.Name.Table}.SQL()
}
func (f *fromTable) name(db Databases) string {
	return rows.Name{Database: db.Old, Table: f.table.Name.Table}.SQL()
}
