package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// write puts a plan into a folder of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plan.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExampleLoads(t *testing.T) {
	path := write(t, Example())
	p, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(Example()))
	if p.SHA256 != hex.EncodeToString(sum[:]) || p.Text != Example() || p.Dir != filepath.Dir(path) {
		t.Error("file facts differ from the file")
	}
	if p.SSH.Key != filepath.Join(p.Dir, "id_ed25519") || p.Clients.Logs[0] != filepath.Join(p.Dir, "clients/*.jsonl") {
		t.Errorf("relative paths not resolved: %q, %q", p.SSH.Key, p.Clients.Logs)
	}
	got := p.Universe.VMs[0]
	if got.Memory != 768<<20 || got.Address != netip.MustParseAddr("10.30.0.11") || got.Attach[0].Serial != "web-vda" {
		t.Errorf("db-old is %+v", got)
	}
	if _, err := got.HostKeys[0].PublicKey(); err != nil {
		t.Error(err)
	}
	if s := p.Convert[1]; s.Copy.To != (GuestPath{"web", "/root/shop.sql"}) || s.Timeout.Duration != 10*time.Minute || s.When != WhenBoth {
		t.Errorf("copy step is %+v", s)
	}
}

// TestDefaults drops every line that the example calls a default, and expects the same plan.
func TestDefaults(t *testing.T) {
	full, err := Load(write(t, Example()))
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, line := range strings.Split(Example(), "\n") {
		if !strings.Contains(line, "default)") && !strings.Contains(line, "# default") || strings.Contains(line, "as in production") || strings.Contains(line, "chosen by") || strings.Contains(line, "delete:") || strings.Contains(line, "owner:") || strings.Contains(line, "  ready:") || strings.Contains(line, "role:") || strings.Contains(line, "protocol:") || strings.Contains(line, "freeze: never") || strings.HasPrefix(line, "# An imago") {
			kept = append(kept, line)
		}
	}
	text := strings.Replace(strings.Join(kept, "\n"), "limits:\n", "", 1)
	text = strings.Replace(text, "keep:\n", "", 1)
	short, err := Load(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	opts := cmp.Options{cmpopts.IgnoreFields(Plan{}, "Path", "Dir", "Text", "SHA256"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}
	short.SSH.Key, short.Clients = full.SSH.Key, full.Clients
	*short.Universe.VMs[1].Image = *full.Universe.VMs[1].Image
	if diff := cmp.Diff(full, short, opts); diff != "" {
		t.Errorf("defaults differ from what the example calls defaults (-written +default):\n%s", diff)
	}
	if strings.Count(text, "\n") > strings.Count(Example(), "\n")-15 {
		t.Error("the test dropped almost nothing")
	}
}

// TestExampleHasEveryKey keeps the example complete: it is the reference that people read.
func TestExampleHasEveryKey(t *testing.T) {
	walkKeys(reflect.TypeFor[Plan](), func(f field) {
		if !strings.Contains(Example(), f.key+":") {
			t.Errorf("the example lacks %q", f.key)
		}
		if !strings.HasSuffix(f.doc, ".") {
			t.Errorf("%q has no sentence of documentation", f.key)
		}
	})
}

// TestTagDefaultsParse holds the promise that setDefault relies on.
func TestTagDefaultsParse(t *testing.T) {
	p, err := parse("p", "/", []byte("version: 1\n"))
	if p != nil || err == nil {
		t.Fatal("an almost empty plan was accepted")
	}
	empty := &Plan{}
	fill(empty, nil)
	if empty.Limits.Hold.Duration != 110*time.Second || empty.Limits.PullRate != 200<<20 || empty.Connect != "qemu:///system" || !empty.Universe.Transit.IsValid() || empty.Keep.OldVMs.Hours() != 168 {
		t.Errorf("defaults are %+v", empty)
	}
}

func walkKeys(t reflect.Type, visit func(field)) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if _, leaf := formats[t]; leaf || t.Kind() != reflect.Struct {
		return
	}
	for _, f := range fieldsOf(t) {
		visit(f)
		walkKeys(t.Field(f.index).Type, visit)
	}
}

func TestSchemaNamesEveryKey(t *testing.T) {
	var s map[string]any
	if err := json.Unmarshal(SchemaJSON(), &s); err != nil {
		t.Fatal(err)
	}
	keys := 0
	walkKeys(reflect.TypeFor[Plan](), func(f field) {
		keys++
		if !strings.Contains(string(SchemaJSON()), fmt.Sprintf("%q: {", f.key)) {
			t.Errorf("the schema lacks %q", f.key)
		}
	})
	if keys < 70 || s["additionalProperties"] != false {
		t.Errorf("%d keys, additionalProperties %v", keys, s["additionalProperties"])
	}
}

func TestLoadSaysWhyAFileCannotBeRead(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if _, invalid := IsInvalid(err); err == nil || invalid {
		t.Errorf("got %v", err)
	}
}
