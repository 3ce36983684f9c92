package plan

import (
	"encoding"
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"time"
)

// fill sets what the file left out: first the defaults of the tags, then those that depend on other keys.
func fill(p *Plan, places map[string]place) {
	f := filler{places}
	f.value(reflect.ValueOf(p).Elem(), "")
	for i := range p.Universe.VMs {
		f.vm(&p.Universe.VMs[i], fmt.Sprintf("universe.vms[%d]", i))
	}
	for i := range p.Data {
		for j := range p.Data[i].Conversions {
			if c := &p.Data[i].Conversions[j]; c.Name == "" {
				c.Name = c.Into
			}
		}
	}
}

type filler struct{ places map[string]place }

func (f filler) vm(vm *VM, path string) {
	given := func(key string) bool { _, ok := f.places[join(path, key)]; return ok }
	if vm.Image != nil && !given("memory") {
		vm.Memory = 1 << 30
	}
	if vm.Image != nil && !given("vcpus") {
		vm.VCPUs = 1
	}
	if !given("ready") && len(vm.HostKeys) > 0 {
		vm.Ready = []Readiness{{SSH: true, Timeout: Duration{180 * time.Second}, Hint: "look at the VM's console and its sshd"}}
	}
}

// value walks structs, lists and what pointers lead to. An absent section counts as an empty one; a value that the
// file gives is kept even when it is zero, for validation to judge.
func (f filler) value(v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			f.value(v.Elem(), path)
		}
	case reflect.Slice:
		for i := range v.Len() {
			f.value(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Struct:
		for _, field := range fieldsOf(v.Type()) {
			child := join(path, field.key)
			if _, given := f.places[child]; !given && field.text != "" {
				setDefault(v.Field(field.index), field.text)
				continue
			}
			f.value(v.Field(field.index), child)
		}
	}
}

// setDefault sets a default of a tag. A test holds every tag to a text that its type reads.
func setDefault(v reflect.Value, text string) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		_ = u.UnmarshalText([]byte(text))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int:
		n, _ := strconv.ParseInt(text, 10, 64)
		v.SetInt(n)
	}
}

// resolvePaths makes the host paths absolute, so that nothing depends on where imago was started.
func resolvePaths(p *Plan) {
	resolve := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(p.Dir, *path)
		}
	}
	resolve(&p.SSH.Key)
	for _, vm := range p.Universe.VMs {
		if vm.Image != nil {
			resolve(&vm.Image.Disk)
			resolve(&vm.Image.Kernel)
			resolve(&vm.Image.Initrd)
		}
	}
	for i := range p.Data {
		resolve(&p.Data[i].Source.PasswordFile)
	}
	resolve(&p.Clients.Ledger)
	for i := range p.Clients.Logs {
		resolve(&p.Clients.Logs[i])
	}
}
