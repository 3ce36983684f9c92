package images

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestParseRecipeNamesFaults(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"unknown key":      {"name: a\nsuite: bookworm\npackges: [x]\n", "[3:1]"},
		"wrong type":       {"name: a\nsuite: bookworm\npackages: {}\n", "[3:"},
		"bad package":      {"name: a\nsuite: bookworm\npackages: ['rm -rf']\n", `packages[0]: "rm -rf"`},
		"no suite":         {"name: a\n", "suite:"},
		"suite and layer":  {"name: a\nlayer: b\nsuite: bookworm\n", "layer: suite"},
		"relative path":    {"name: a\nsuite: s\nfiles: [{path: etc/x}]\n", "files[0].path"},
		"dots in path":     {"name: a\nsuite: s\nfiles: [{path: /etc/../x}]\n", "files[0].path"},
		"bad mode":         {"name: a\nsuite: s\nfiles: [{path: /x, mode: '0999'}]\n", "files[0].mode"},
		"content twice":    {"name: a\nsuite: s\nfiles: [{path: /x, content: a, source: b}]\n", "both content and source"},
		"bad size":         {"name: a\nsuite: s\ndisk: {size: 3X}\n", "disk.size"},
		"script of nobody": {"name: a\nsuite: s\nscripts: [{name: x}]\n", "scripts[0]"},
		"artifact root":    {"name: a\nsuite: s\nartifacts: {x: {root: no, path: /x}}\n", "artifacts.x.root"},
		"upper case name":  {"name: A\nsuite: s\n", "name:"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseRecipe([]byte(c.yaml))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something with %q", err, c.want)
			}
		})
	}
}

func TestParseRecipeNamesAllFaultsAtOnce(t *testing.T) {
	_, err := parseRecipe([]byte("name: A\nsuite: s\npackages: [B, C]\n"))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want three lines, got %v", err)
	}
}

func FuzzParseRecipe(f *testing.F) {
	f.Add([]byte("name: a\nsuite: bookworm\npackages: [x]\nfiles: [{path: /x, content: y}]\ndisk: {size: 1G}\n"))
	f.Add([]byte("name: [\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecipe(data)
		if err != nil {
			return
		}
		for _, file := range r.Files {
			if !strings.HasPrefix(file.Path, "/") || strings.Contains(file.Path, "..") && strings.Contains(file.Path, "/../") {
				t.Errorf("accepted path %q", file.Path)
			}
		}
	})
}

func load(t *testing.T, files map[string]string) (*Catalogue, error) {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, content := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return LoadCatalogue(fsys)
}

func mustLoad(t *testing.T, files map[string]string) *Catalogue {
	t.Helper()
	c, err := load(t, files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCatalogueRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"missing layer":    {map[string]string{"a.yaml": "name: a\nlayer: b\n"}, `needs "b"`},
		"cycle":            {map[string]string{"a.yaml": "name: a\nlayer: b\n", "b.yaml": "name: b\nlayer: a\n"}, "needs itself"},
		"wrong file name":  {map[string]string{"a.yaml": "name: b\nsuite: s\n"}, `must be the file's name "a"`},
		"missing source":   {map[string]string{"a.yaml": "name: a\nsuite: s\nscripts: [{name: x, source: no.sh}]\n"}, "no.sh"},
		"missing artifact": {map[string]string{"a.yaml": "name: a\nsuite: s\n", "b.yaml": "name: b\nlayer: a\nunpack: [{from: a, artifact: x}]\n"}, `no artifact "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := load(t, c.files); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something with %q", err, c.want)
			}
		})
	}
}

// The hash must change with everything that decides the content, and with nothing else.
func TestHashNamesContent(t *testing.T) {
	base := map[string]string{
		"a.yaml": "name: a\nsuite: s\nseconds: 1\nscripts: [{name: x, source: x.sh}]\n", "b.yaml": "name: b\nlayer: a\n", "x.sh": "true",
	}
	was := mustLoad(t, base)
	for name, c := range map[string]struct {
		file, content string
		same          bool
	}{
		"estimate":        {"a.yaml", "name: a\nsuite: s\nseconds: 9\nscripts: [{name: x, source: x.sh}]\n", true},
		"comment":         {"a.yaml", "# hi\nname: a\nsuite: s\nscripts: [{name: x, source: x.sh}]\n", true},
		"script below":    {"x.sh", "false", false},
		"package below":   {"a.yaml", "name: a\nsuite: s\npackages: [p]\nscripts: [{name: x, source: x.sh}]\n", false},
		"own variable":    {"b.yaml", "name: b\nlayer: a\nvars: {k: v}\n", false},
		"suite of a base": {"a.yaml", "name: a\nsuite: z\nscripts: [{name: x, source: x.sh}]\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			for k, v := range base {
				files[k] = v
			}
			files[c.file] = c.content
			if got := mustLoad(t, files).Hash("b") == was.Hash("b"); got != c.same {
				t.Errorf("same hash: %v, want %v", got, c.same)
			}
		})
	}
}

func TestLayerInherits(t *testing.T) {
	c := mustLoad(t, map[string]string{
		"a.yaml": "name: a\nsuite: trixie\nmirror: http://m\nvars: {x: '1', y: '1'}\nkernel: {cmdline: k, modules: [m]}\n",
		"b.yaml": "name: b\nlayer: a\nvars: {y: '2'}\n",
	})
	b := c.recipes["b"]
	if b.Suite != "trixie" || b.Mirror != "http://m" || b.Vars["x"] != "1" || b.Vars["y"] != "2" || b.Kernel.Cmdline != "k" {
		t.Errorf("inherited %+v", b)
	}
	if c.recipes["a"].Vars["y"] != "1" {
		t.Error("the layer above changed the layer below")
	}
}

func TestTemplateRefusesUnknownVariable(t *testing.T) {
	if _, err := (File{Path: "/x", Content: "{{.no}}", Template: true}).render(map[string]string{"yes": "1"}); err == nil {
		t.Error("an unknown variable was taken for empty")
	}
}
