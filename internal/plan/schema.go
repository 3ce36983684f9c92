package plan

import (
	_ "embed" // for the example plan
	"encoding/json"
	"reflect"
	"strconv"
)

//go:embed example.yaml
var example string

// Example gives a commented plan that uses every key and that [Load] accepts.
func Example() string { return example }

// SchemaJSON gives the JSON schema (draft 2020-12) of a plan, for editors. What needs more than one key to judge (that
// references resolve, that exactly one of several keys is there) only [Load] checks.
func SchemaJSON() []byte {
	s := schemaOf(reflect.TypeFor[Plan]())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "imago upgrade plan"
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil // maps of strings, numbers and lists always marshal; a test holds the result to be there
	}
	return append(text, '\n')
}

func schemaOf(t reflect.Type) map[string]any {
	if f, ok := formats[t]; ok {
		return map[string]any{"type": "string", "pattern": f.pattern}
	}
	if c, ok := reflect.Zero(t).Interface().(choice); ok {
		return map[string]any{"type": "string", "enum": c.choices()}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Struct:
		return structSchema(t)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Uint16:
		return map[string]any{"type": "integer", "minimum": 1, "maximum": 65535}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	}
	return map[string]any{"type": "string"}
}

func structSchema(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, f := range fieldsOf(t) {
		p := schemaOf(t.Field(f.index).Type)
		p["description"] = f.doc
		if f.text != "" {
			p["default"] = defaultValue(t.Field(f.index).Type, f.text)
		}
		if f.required {
			required = append(required, f.key)
		}
		properties[f.key] = p
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func defaultValue(t reflect.Type, text string) any {
	if n, err := strconv.Atoi(text); err == nil && t.Kind() == reflect.Int {
		return n
	}
	return text
}
