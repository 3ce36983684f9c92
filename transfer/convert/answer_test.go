package convert

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"bufio"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// answering is a conversion whose program's answers are read without a server.
func answering() (*Prepared, *object) {
	p := &Prepared{conv: Conversion{Into: "t", Key: []string{"id"}}, target: &rows.Table{
		Name: rows.Name{Database: "n", Table: "t"},
		Columns: []rows.Column{
			{Name: "id", Kind: rows.Int}, {Name: "t", Kind: rows.Text, Charset: "utf8mb4"}, {Name: "b", Kind: rows.Bytes},
			{Name: "g", Generated: true}, {Name: "auto", Kind: rows.Int, AutoIncrement: true},
		},
	}}
	p.key = objectKey{parts: []keyPart{{col: rows.Column{Name: "id", Kind: rows.Int}}}}
	p.selected = []selectedColumn{{name: "id", typ: 3, set: 63}}
	for i := range p.target.Columns {
		if c := &p.target.Columns[i]; !c.Generated {
			p.written = append(p.written, c)
		}
	}
	return p, &object{key: key("5"), rows: [][]value{{value("5")}}}
}

func TestParseAnswer(t *testing.T) {
	p, o := answering()
	for _, c := range []struct{ line, want string }{
		{`{"rows":[]}`, ""},
		{`{"rows":[{}]}`, "5,DEFAULT,DEFAULT,NULL"},
		{`{"rows":[{"ID":5,"t":"it's \\ \u0000","b":"x"},{"b":{"base64":"AP8="},"auto":7,"t":null}]}`, `5,_utf8mb4'it\'s \\ \0',_binary'x',NULL;5,NULL,_binary'` + "\\0\xff" + `',7`},
		{`{"rows":[{"t":1.50,"b":false}]}`, "5,_utf8mb4'1.50',0,NULL"},
		{`{"reject":"no\ngood"}`, "reject no good"},
		{`{"reject":""}`, "reject the program gave no reason"},
		{`{}`, "fault"}, {`null`, "fault"}, {`[]`, "fault"}, {``, "fault"}, {`{"rows":null}`, "fault"}, {`{"rows":[1]}`, "fault"},
		{`{"rows":[],"reject":"x"}`, "fault"}, {`{"rows":[{"g":1}]}`, "fault"}, {`{"rows":[{"nix":1}]}`, "fault"}, {`{"rows":[{"id":6}]}`, "fault"},
		{`{"rows":[{"t":{"base64":"AA==","x":1}}]}`, "fault"}, {`{"rows":[{"t":{}}]}`, "fault"}, {`{"rows":[{"t":"a","T":"b"}]}`, "fault"}, {`{"rows":[]}{}`, "fault"},
	} {
		a, err := p.parseAnswer([]byte(c.line), o)
		got := "fault"
		if err == nil {
			lines := make([]string, len(a.rows))
			for i, r := range a.rows {
				lines[i] = string(bytes.Join(r, []byte(",")))
			}
			got = strings.Join(lines, ";")
			if a.reject != "" {
				got = "reject " + a.reject
			}
		}
		if got != c.want {
			t.Errorf("%s:\n got %q, %v\nwant %q", c.line, got, err, c.want)
		}
	}
}

// FuzzParseAnswer: whatever a program says, each literal is one.
func FuzzParseAnswer(f *testing.F) {
	for _, s := range []string{`{"rows":[{"t":"'\\"}]}`, `{"rows":[{"b":{"base64":"AA=="}}]}`, `{"reject":"x"}`, `{"rows":[{"auto":1e999,"t":true}]}`} {
		f.Add([]byte(s))
	}
	p, o := answering()
	f.Fuzz(func(t *testing.T, line []byte) {
		a, err := p.parseAnswer(line, o)
		if err != nil {
			return
		}
		for _, row := range a.rows {
			if len(row) != len(p.written) {
				t.Fatalf("%d values", len(row))
			}
			for _, l := range row {
				if _, err := parseStatement("SELECT "+strings.ReplaceAll(string(l), "\x00", ""), Databases{}); err != nil {
					t.Fatalf("%q: %v", l, err)
				}
			}
		}
	})
}

func TestReadLine(t *testing.T) {
	r := bufio.NewReaderSize(strings.NewReader("one\n"+strings.Repeat("x", 100)+"\nend"), 16)
	if line, err := readLine(r, 50); string(line) != "one" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	if _, err := readLine(r, 50); err == nil || !strings.Contains(err.Error(), "more than 50 bytes") {
		t.Error(err)
	}
	r = bufio.NewReader(strings.NewReader("half"))
	if _, err := readLine(r, 50); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
