package plan

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// decoder walks the syntax tree along the types of Plan. The library's own decoder stops at the first fault and forgets
// where values came from; an operator wants all faults with their places.
type decoder struct {
	file   string
	faults []Fault
	// places has the place of each value that the file gives, by path; validation points with it.
	places map[string]place
	// misspelt marks the paths that an unknown key probably meant: that they are missing would be an echo.
	misspelt map[string]bool
}

func (d *decoder) add(f Fault) {
	f.File = d.file
	d.faults = append(d.faults, f)
}

// at records a fault at path. The place is that of the nearest ancestor in the file, for keys that the file lacks.
func (d *decoder) at(path, found, expected, fix string) {
	f := Fault{Path: path, Found: found, Expected: expected, Fix: fix}
	for p := path; ; {
		if where, ok := d.places[p]; ok {
			f.place(where)
			break
		}
		i := strings.LastIndexAny(p, ".[")
		if i < 0 {
			f.place(d.places[""])
			break
		}
		p = p[:i]
	}
	d.add(f)
}

func (d *decoder) decodePlan(root *ast.MappingNode, p *Plan) {
	d.places[""] = placeOf(root)
	d.fields(root, reflect.ValueOf(p).Elem(), "")
}

// value decodes node into v.
func (d *decoder) value(node ast.Node, v reflect.Value, path string) {
	d.places[path] = placeOf(node)
	switch node.Type() {
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		d.at(path, describe(node), "a plain value", "write the value out; a plan has no anchors, aliases and tags")
		return
	}
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(node, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		target := reflect.New(v.Type().Elem())
		v.Set(target)
		d.value(node, target.Elem(), path)
	case reflect.Struct:
		d.structure(node, v, path)
	case reflect.Slice:
		d.list(node, v, path)
	case reflect.Map:
		d.stringMap(node, v, path)
	default:
		d.scalar(node, v, path)
	}
}

func (d *decoder) structure(node ast.Node, v reflect.Value, path string) {
	if m, ok := asMapping(node); ok {
		d.fields(m, v, path)
		return
	}
	d.at(path, describe(node), "a map with "+strings.Join(keysOf(v.Type()), ", "), "indent the keys below this one")
}

// fields decodes the entries of a mapping into the fields of a struct.
func (d *decoder) fields(m *ast.MappingNode, v reflect.Value, path string) {
	known := fieldsOf(v.Type())
	seen := map[string]place{}
	for _, entry := range m.Values {
		key := keyText(entry)
		child := join(path, key)
		where := placeOf(entry.Key)
		if d.duplicate(seen, key, child, where) {
			continue
		}
		i := slices.IndexFunc(known, func(f field) bool { return f.key == key })
		if i < 0 {
			f := Fault{Path: child, Found: fmt.Sprintf("unknown key %q", shorten(key)), Expected: "a key of the plan's format", Fix: didYouMean(key, keysOf(v.Type()))}
			f.place(where)
			d.add(f)
			if meant := nearest(key, keysOf(v.Type())); meant != "" {
				d.misspelt[join(path, meant)] = true
			}
			continue
		}
		d.value(entry.Value, v.Field(known[i].index), child)
	}
	for _, f := range known {
		child := join(path, f.key)
		if _, given := seen[f.key]; f.required && !given && !d.misspelt[child] {
			d.at(child, "no such key", "the required key "+f.key, "add it: "+f.doc)
		}
	}
}

// duplicate records a key and reports whether it was there before.
func (d *decoder) duplicate(seen map[string]place, key, path string, where place) bool {
	first, twice := seen[key]
	if !twice {
		seen[key] = where
		return false
	}
	f := Fault{Path: path, Found: "the key a second time", Expected: "each key once", Fix: fmt.Sprintf("remove one; the first is in line %d", first.line)}
	f.place(where)
	d.add(f)
	return true
}

func (d *decoder) list(node ast.Node, v reflect.Value, path string) {
	seq, ok := node.(*ast.SequenceNode)
	if !ok {
		d.at(path, describe(node), "a list", "start each entry with a dash, or write [a, b]")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *decoder) stringMap(node ast.Node, v reflect.Value, path string) {
	m, ok := asMapping(node)
	if !ok {
		d.at(path, describe(node), "a map of names to texts", "write NAME: \"value\" below this key")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	seen := map[string]place{}
	for _, entry := range m.Values {
		key := keyText(entry)
		if d.duplicate(seen, key, join(path, key), placeOf(entry.Key)) {
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(entry.Value, item, join(path, key))
		v.SetMapIndex(reflect.ValueOf(key), item)
	}
}
