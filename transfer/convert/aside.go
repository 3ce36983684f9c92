package convert

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// aside is a temporary table of a connection with the columns of the target: what
// a conversion gives is put there first. Only the server knows what a value becomes
// in a column, so rows are compared after they went through one.
type aside struct {
	name   string // for statements
	create string
}

func (p *Prepared) newAside() aside {
	var columns, definitions []string
	for _, c := range p.asideColumns() {
		columns = append(columns, rows.QuoteName(c.Name))
	}
	if p.auto != nil {
		definitions = append(definitions, rows.QuoteName(p.auto.Name)+" "+p.auto.Type+" NULL")
	}
	if index := p.asideIndex(); index != "" {
		definitions = append(definitions, index)
	}
	list := ""
	if len(definitions) > 0 {
		list = "(" + strings.Join(definitions, ",") + ")"
	}
	rest := fmt.Sprintf(" %s ENGINE=InnoDB AS SELECT %s FROM %s LIMIT 0", list, strings.Join(columns, ","), p.targetName())
	sum := sha256.Sum256([]byte(p.conv.Name + rest))
	name := rows.Name{Database: p.db.Old, Table: fmt.Sprintf("imago_aside_%x", sum[:6])}.SQL()
	return aside{name: name, create: "CREATE TEMPORARY TABLE " + name + rest}
}

// asideColumns are the written ones and, if rows keep it, the server's own.
func (p *Prepared) asideColumns() []*rows.Column {
	if p.auto == nil || slices.Contains(p.written, p.auto) {
		return p.written
	}
	return append(slices.Clone(p.written), p.auto)
}

// asideIndex makes two objects that claim the same row fail early, and joins fast.
func (p *Prepared) asideIndex() string {
	columns, kind := p.identity, "PRIMARY KEY"
	if p.conv.Add {
		return ""
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = rows.QuoteName(c.Name)
		if t := strings.ToLower(c.Type); strings.Contains(t, "blob") || strings.Contains(t, "text") {
			names[i] += "(100)"
			kind = "KEY"
		}
	}
	return kind + " (" + strings.Join(names, ",") + ")"
}

// clear makes an empty table. Rows that are deleted from a temporary table stay
// in its way for ever, so it is made anew; neither ends a transaction.
func (a aside) clear(s *session) error {
	if err := a.drop(s); err != nil {
		return err
	}
	if _, err := s.exec(a.create); err != nil {
		return fmt.Errorf("make a table aside: %w", err)
	}
	return nil
}

func (a aside) drop(s *session) error {
	if _, err := s.exec("DROP TEMPORARY TABLE IF EXISTS " + a.name); err != nil {
		return fmt.Errorf("remove the table aside: %w", err)
	}
	return nil
}

func (p *Prepared) writtenList(alias string) string {
	return list(alias, p.written)
}

func list(alias string, columns []*rows.Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = alias + rows.QuoteName(c.Name)
	}
	return strings.Join(names, ",")
}

// sameIdentity joins a row aside, n, with the row of the target, t, in its place.
func (p *Prepared) sameIdentity() string {
	terms := make([]string, len(p.identity))
	for i, c := range p.identity {
		q := rows.QuoteName(c.Name)
		terms[i] = "t." + q + "=n." + q
	}
	return strings.Join(terms, " AND ")
}

// sameRow joins a row aside with an equal row of the target.
func (p *Prepared) sameRow() string {
	terms := []string{p.sameIdentity()}
	for _, c := range p.written {
		q := rows.QuoteName(c.Name)
		switch {
		case c == p.auto:
			terms = append(terms, "(n."+q+" IS NULL OR t."+q+"=n."+q+")")
		case c.Kind == rows.Text || c.Kind == rows.Enum || c.Kind == rows.Set:
			// To a collation, other bytes may be the same.
			terms = append(terms, "BINARY t."+q+" <=> BINARY n."+q)
		case !slices.Contains(p.identity, c):
			terms = append(terms, "t."+q+" <=> n."+q)
		}
	}
	return strings.Join(terms, " AND ")
}

// sameKey joins a row aside with any row of the same object.
func (p *Prepared) sameKey() string {
	terms := make([]string, len(p.conv.Key))
	for i, name := range p.conv.Key {
		q := rows.QuoteName(name)
		terms[i] = "t." + q + " <=> n." + q
	}
	return strings.Join(terms, " AND ")
}

// absent is the condition that a LEFT JOIN found no row.
func (p *Prepared) absent(alias string) string {
	c := p.identity[0]
	expr := alias + "." + rows.QuoteName(c.Name)
	if classOf(c) == dates {
		return isNull(expr)
	}
	return expr + " IS NULL" // which the server stops at the first match for
}
