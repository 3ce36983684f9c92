package internal

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "imago.dev/imago/"

// rooms are the top-level folders that own one thing each.
var rooms = []string{"hypervisor", "snapshot", "netswitch", "transfer", "guestagent", "images"}

// listed is what 'go list' says of a package.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// TestImportsPointOneWay holds the map of the project: cmd enters internal/cli,
// that enters internal/upgrade and internal/lab, those enter the rooms, and a
// room enters nothing of ours but what is inside of it.
func TestImportsPointOneWay(t *testing.T) {
	packages := list(t)
	seen := map[string]bool{}
	for _, p := range packages {
		from := strings.TrimPrefix(p.ImportPath, module)
		seen[from] = true
		for _, imported := range ours(p.Imports) {
			if !allowed(from, imported) {
				t.Errorf("%s imports %s: that is against the map of the project", from, imported)
			}
		}
		if !slices.Contains(rooms, roomOf(from)) {
			continue
		}
		for _, imported := range ours(append(p.TestImports, p.XTestImports...)) {
			if strings.HasPrefix(imported, "internal/") {
				t.Errorf("the tests of %s import %s: a room must be testable alone", from, imported)
			}
		}
	}
	for _, must := range append([]string{"cmd/imago", "cmd/imago-agent", "internal/cli", "internal/upgrade"}, rooms...) {
		if !seen[must] {
			t.Errorf("go list knows no package %s: the rules above held for nothing", must)
		}
	}
}

// allowed tells whether a package may import another of this module.
func allowed(from, to string) bool {
	switch room := roomOf(from); {
	case slices.Contains(rooms, room):
		return roomOf(to) == room
	case from == "cmd/imago":
		return to == "internal/cli"
	case from == "cmd/imago-agent":
		return to == "guestagent/inguest" || to == "guestagent/wire" || to == "transfer/link"
	case strings.HasPrefix(to, "cmd/"), to == "test":
		return false
	case from == "internal/upgrade":
		return to != "internal/cli" && to != "internal/lab"
	case from == "internal/lab":
		return to != "internal/cli" && to != "internal/upgrade"
	case from == "internal/cli", from == "test":
		return true
	case strings.HasPrefix(from, "internal/"):
		// The rest of internal/ is below the engine.
		return !slices.Contains([]string{"internal/cli", "internal/upgrade", "internal/lab"}, to)
	}
	return false
}

func roomOf(path string) string {
	room, _, _ := strings.Cut(path, "/")
	return room
}

// ours are the imports from this module, without its name.
func ours(imports []string) []string {
	var out []string
	for _, i := range imports {
		if rest, ok := strings.CutPrefix(i, module); ok {
			out = append(out, rest)
		}
	}
	return out
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// TestAllowed keeps the rules themselves from being empty.
func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"netswitch", "snapshot", false}, {"netswitch", "internal/plan", false}, {"guestagent", "guestagent/wire", true},
		{"images", "images/recipes", true}, {"cmd/imago", "internal/upgrade", false}, {"cmd/imago", "internal/cli", true},
		{"cmd/imago-agent", "guestagent", false}, {"cmd/imago-agent", "guestagent/inguest", true},
		{"internal/upgrade", "internal/cli", false}, {"internal/upgrade", "netswitch", true},
		{"internal/plan", "internal/upgrade", false}, {"internal/journal", "internal/cli", false}, {"internal/cli", "cmd/imago", false},
	} {
		if got := allowed(c.from, c.to); got != c.want {
			t.Errorf("%s may import %s: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}
