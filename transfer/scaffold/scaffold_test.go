package scaffold

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"imago.dev/imago/transfer/convert"
	"imago.dev/imago/transfer/convert/dbtest"
	"imago.dev/imago/transfer/rows"
)

// part is what WriteYAML writes, as a plan reads it.
type part struct {
	Skip        []string `yaml:"skip"`
	Conversions []struct {
		Into string   `yaml:"into"`
		Key  []string `yaml:"key"`
		From []struct {
			Table string   `yaml:"table"`
			Key   []string `yaml:"key"`
		} `yaml:"from"`
		Select string `yaml:"select"`
	} `yaml:"conversions"`
}

func read(t *testing.T, text []byte) part {
	t.Helper()
	var p part
	if err := yaml.UnmarshalWithOptions(text, &p, yaml.Strict()); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

func write(t *testing.T, r *Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteYAML(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestScaffold holds the whole output for two versions of a wiki against
// testdata/wiki.yaml, and the conversions it proposes against the server.
func TestScaffold(t *testing.T) {
	s := dbtest.Start(t)
	c := s.Connect(t)
	s.Exec(t, c, "CREATE DATABASE old", "CREATE DATABASE new")
	s.Script(t, "old", "testdata/old.sql")
	s.Script(t, "new", "testdata/new.sql")
	schema := func(name string) *rows.Schema {
		schema, err := rows.ReadSchema(context.Background(), c, name)
		if err != nil {
			t.Fatal(err)
		}
		return schema
	}
	source, target := schema("old"), schema("new")
	got := write(t, Compare(source, target, []string{"objectcache"}))
	golden := filepath.Join("testdata", "wiki.yaml")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("UPDATE=1 writes it anew:\n%s", diff)
	}
	for _, p := range read(t, got).Conversions {
		conv := convert.Conversion{Into: p.Into, Key: p.Key, Select: p.Select}
		for _, f := range p.From {
			conv.From = append(conv.From, convert.From{Table: f.Table, Key: f.Key})
		}
		prepare := func() error {
			p, err := convert.Prepare(context.Background(), c, conv, convert.Databases{Old: "old", New: "new"}, source, target)
			if err == nil {
				err = p.Close()
			}
			return err
		}
		// What is to be done stops it by name; done, it runs.
		if strings.Contains(p.Select, "TODO AS") {
			if err := prepare(); err == nil || !strings.Contains(err.Error(), "'TODO'") {
				t.Errorf("%s: %v", p.Into, err)
			}
		}
		conv.Select = strings.ReplaceAll(p.Select, "TODO AS", "1 AS")
		if err := prepare(); err != nil {
			t.Errorf("%s: %v", p.Into, err)
		}
	}
}

// TestHostileNames: a name is data in the YAML, whatever is in it.
func TestHostileNames(t *testing.T) {
	for _, name := range []string{"a: b", "x\n- y", "'\"`\\", "#c", "null", "yes", "- a", "日本", "{old}", "a\tb", "&a", "*b", "!c", "%d%s", " lead", "trail ", "1e3", "\u2028", "\x1b[31m"} {
		table := func(more ...rows.Column) *rows.Table {
			return &rows.Table{Name: rows.Name{Database: "d", Table: name}, Key: []int{0},
				Columns: append([]rows.Column{{Name: name, Type: "int(11)", Kind: rows.Int}}, more...)}
		}
		gone := table(rows.Column{Name: name + "2", Type: "int(11)", Kind: rows.Int, Nullable: true})
		source := &rows.Schema{Tables: []*rows.Table{gone, {Name: rows.Name{Database: "d", Table: "keyless " + name}, Columns: gone.Columns}, {Name: rows.Name{Database: "d", Table: name + "z"}, Key: []int{0}, Columns: gone.Columns[1:]}}}
		target := &rows.Schema{Tables: []*rows.Table{table(rows.Column{Name: name + "3", Type: "int(11)", Kind: rows.Int}), {Name: rows.Name{Database: "d", Table: "new " + name}}}}
		p := read(t, write(t, Compare(source, target, nil)))
		if len(p.Conversions) != 1 || p.Conversions[0].Into != name || !slices.Equal(p.Conversions[0].Key, []string{name}) || p.Conversions[0].From[0].Table != name {
			t.Errorf("%q: %+v", name, p)
			continue
		}
		if !strings.Contains(p.Conversions[0].Select, rows.QuoteName(name)) {
			t.Errorf("%q: %q", name, p.Conversions[0].Select)
		}
		if !slices.Equal(p.Skip, []string{"keyless " + name, name + "z"}) {
			t.Errorf("%q: skip %q", name, p.Skip)
		}
	}
}

func TestNothingToDo(t *testing.T) {
	p := read(t, write(t, Compare(&rows.Schema{}, &rows.Schema{}, nil)))
	if len(p.Skip) > 0 || len(p.Conversions) > 0 {
		t.Errorf("%+v", p)
	}
}
