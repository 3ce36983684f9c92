package plan

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds keep a hostile file from costing time and memory: the parser's cost grows with the square of a map's
// length and without bound with the depth.
const (
	maxSize   = 256 << 10
	maxTokens = 30_000
	maxDepth  = 32
)

// document parses text into the one mapping that a plan is, or records why it is none and gives nil.
func (d *decoder) document(text []byte) (root *ast.MappingNode) {
	if !d.bounded(text) {
		return nil
	}
	// The YAML parser is foreign code fed with foreign text; a crash in it is a fault of the file, not of imago.
	defer func() {
		if r := recover(); r != nil {
			root = nil
			d.add(Fault{Found: "text that the YAML parser cannot read", Expected: "YAML", Fix: "look for unusual syntax"})
		}
	}()
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntaxFault(err)
		return nil
	}
	return d.mappingOf(file)
}

// bounded checks size and depth on the tokens, before the parser sees them.
func (d *decoder) bounded(text []byte) bool {
	switch {
	case len(text) > maxSize:
		d.add(Fault{Found: "a larger file", Expected: fmt.Sprintf("at most %d KiB", maxSize>>10), Fix: "move long scripts into the images"})
		return false
	case !utf8.Valid(text):
		d.add(Fault{Found: "bytes that are no UTF-8", Expected: "a text file in UTF-8", Fix: "save the file as UTF-8"})
		return false
	}
	tokens := lexer.Tokenize(string(text))
	if len(tokens) > maxTokens {
		d.add(Fault{Found: "too many entries", Expected: fmt.Sprintf("at most %d words and signs", maxTokens), Fix: "make the plan smaller"})
		return false
	}
	if deep := tooDeep(tokens); deep != nil {
		f := Fault{Found: "a nest of lists and maps", Expected: fmt.Sprintf("at most %d levels", maxDepth), Fix: "look for stray brackets or dashes"}
		f.Line, f.Column = deep.Position.Line, deep.Position.Column
		d.add(f)
		return false
	}
	return true
}

// tooDeep gives the first token that nests too deep, by open brackets or by dashes in one line.
func tooDeep(tokens token.Tokens) *token.Token {
	flow, dashes, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			dashes, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			dashes++
		}
		if flow > maxDepth || dashes > maxDepth {
			return t
		}
	}
	return nil
}

func (d *decoder) syntaxFault(err error) {
	f := Fault{Found: "text that is no YAML", Expected: "YAML", Fix: "look at indentation, quotes and colons near this place"}
	var yamlErr yaml.Error
	if errors.As(err, &yamlErr) {
		f.Found = "text that is no YAML (" + strings.TrimSpace(yamlErr.GetMessage()) + ")"
		if t := yamlErr.GetToken(); t != nil {
			f.Line, f.Column = t.Position.Line, t.Position.Column
		}
	}
	d.add(f)
}

// mappingOf gives the mapping of the only document.
func (d *decoder) mappingOf(file *ast.File) *ast.MappingNode {
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType && doc.Body.Type() != ast.NullType {
			bodies = append(bodies, doc.Body)
		}
	}
	f := Fault{Expected: "one mapping with version, name and so on", Fix: "start from the example plan"}
	switch len(bodies) {
	case 0:
		f.Found = "an empty file"
	case 1:
		if m, ok := asMapping(bodies[0]); ok {
			return m
		}
		f.Found = describe(bodies[0])
		f.place(placeOf(bodies[0]))
	default:
		f.Found, f.Fix = fmt.Sprintf("%d documents", len(bodies)), "keep one plan in one file"
		f.place(placeOf(bodies[1]))
	}
	d.add(f)
	return nil
}
