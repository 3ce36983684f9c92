package convert

import (
	"errors"
	"fmt"
	"strings"
)

// statement is a SELECT of a plan, cut at its placeholders, so that it can be put
// into a larger one many times without being looked at again.
type statement struct {
	pieces []piece
	params bool // it has named parameters
}

// piece is text, or the named parameter that stands in its place.
type piece struct {
	text, param string
}

// parseStatement reads a SELECT: it puts the databases' names in place of {old}
// and {new} and finds the named parameters, and refuses what would end the
// parentheses that imago puts around it. Text in quotes and comments is left alone.
func parseStatement(sql string, db Databases) (*statement, error) {
	p := &parser{rest: strings.TrimSpace(sql), db: db, stmt: &statement{}}
	p.rest = strings.TrimSpace(strings.TrimSuffix(p.rest, ";"))
	if p.rest == "" {
		return nil, errors.New("the SELECT is empty")
	}
	if strings.IndexByte(p.rest, 0) >= 0 {
		return nil, errors.New("the SELECT has a NUL byte in it")
	}
	for p.rest != "" {
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	if p.depth > 0 {
		return nil, errors.New("the SELECT has a ( without )")
	}
	p.flush()
	return p.stmt, nil
}

type parser struct {
	rest  string
	text  strings.Builder
	depth int
	last  byte // before rest, to tell a parameter from a name with a colon in front
	db    Databases
	stmt  *statement
}

// next takes one token: a quoted text, a comment, a placeholder or one byte.
func (p *parser) next() error {
	switch c := p.rest[0]; {
	case c == '\'' || c == '"' || c == '`':
		return p.quoted(c)
	case c == '#', strings.HasPrefix(p.rest, "-- "), strings.HasPrefix(p.rest, "--\n"), strings.HasPrefix(p.rest, "--\t"), p.rest == "--":
		line, rest, _ := strings.Cut(p.rest, "\n")
		_, p.rest = line, rest
		p.keep("\n")
	case strings.HasPrefix(p.rest, "/*"):
		return p.comment()
	case c == ';':
		return errors.New("the SELECT has a ; in it: it must be one statement")
	case c == '(':
		p.depth++
		p.take(1)
	case c == ')':
		if p.depth--; p.depth < 0 {
			return errors.New("the SELECT has a ) without (")
		}
		p.take(1)
	case strings.HasPrefix(p.rest, "{old}"):
		p.database(p.db.Old)
	case strings.HasPrefix(p.rest, "{new}"):
		p.database(p.db.New)
	case c == ':' && len(p.rest) > 1 && nameStart(p.rest[1]) && !nameByte(p.last) && p.last != ':' && p.last != '@':
		p.param()
	default:
		p.take(1)
	}
	return nil
}

func (p *parser) database(name string) {
	p.rest = p.rest[len("{old}"):]
	p.keep("`" + strings.ReplaceAll(name, "`", "``") + "`")
}

func (p *parser) param() {
	end := 1
	for end < len(p.rest) && nameByte(p.rest[end]) {
		end++
	}
	name := p.rest[1:end]
	p.flush()
	p.stmt.pieces = append(p.stmt.pieces, piece{param: name})
	p.stmt.params = true
	p.rest, p.last = p.rest[end:], name[len(name)-1]
}

// quoted takes a text in quotes; the quote in it is doubled or, but for names,
// behind a backslash.
func (p *parser) quoted(quote byte) error {
	for i := 1; i < len(p.rest); i++ {
		switch {
		case p.rest[i] == '\\' && quote != '`':
			i++
		case p.rest[i] == quote && i+1 < len(p.rest) && p.rest[i+1] == quote:
			i++
		case p.rest[i] == quote:
			p.take(i + 1)
			return nil
		}
	}
	return fmt.Errorf("the SELECT has a %c that is never closed", quote)
}

// comment drops a comment. One that the server would run is refused: what is in
// it was not looked at.
func (p *parser) comment() error {
	end := strings.Index(p.rest[2:], "*/")
	if end < 0 {
		return errors.New("the SELECT has a /* that is never closed")
	}
	body := p.rest[2 : 2+end]
	if strings.HasPrefix(body, "!") || strings.HasPrefix(body, "M!") {
		return errors.New("the SELECT has a /*! comment, which would be run")
	}
	p.rest = p.rest[end+4:]
	p.keep(" ")
	return nil
}

func (p *parser) take(n int) {
	p.text.WriteString(p.rest[:n])
	p.last, p.rest = p.rest[n-1], p.rest[n:]
}

func (p *parser) keep(text string) {
	p.text.WriteString(text)
	p.last = text[len(text)-1]
}

func (p *parser) flush() {
	if p.text.Len() > 0 {
		p.stmt.pieces = append(p.stmt.pieces, piece{text: p.text.String()})
		p.text.Reset()
	}
}

func nameStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
func nameByte(c byte) bool { return nameStart(c) || c >= '0' && c <= '9' || c == '$' }

// paramNames are the parameters, each once.
func (s *statement) paramNames() []string {
	var names []string
	seen := map[string]bool{}
	for _, p := range s.pieces {
		if p.param != "" && !seen[p.param] {
			seen[p.param] = true
			names = append(names, p.param)
		}
	}
	return names
}

// bind writes the statement with a text in place of each parameter.
func (s *statement) bind(b *strings.Builder, value func(param string) string) {
	for _, p := range s.pieces {
		if p.param != "" {
			b.WriteString(value(p.param))
			continue
		}
		b.WriteString(p.text)
	}
}
