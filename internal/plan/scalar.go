package plan

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// format says how a value with a text form is written.
type format struct{ expected, fix, pattern string }

// formats has every type that reads itself from text.
var formats = map[reflect.Type]format{
	reflect.TypeFor[Duration]():       {"a duration", `write a number and a unit, such as "90s", "10m" or "7d"`, `^([0-9.]+(ns|us|µs|ms|s|m|h))+$|^[0-9]+d$|^0$`},
	reflect.TypeFor[Bytes]():          {"a size", `write a number and a unit, such as "768MiB" or "2GiB"`, `^[0-9.]+([KMGT]iB|[kMGT]?B)$`},
	reflect.TypeFor[Rate]():           {"a rate", `write a size and /s, such as "50MiB/s"`, `^[0-9.]+([KMGT]iB|[kMGT]?B)/s$`},
	reflect.TypeFor[MAC]():            {"a unicast MAC address", "write six pairs of hex digits, such as 52:54:00:0a:0b:0c", `^[0-9A-Fa-f:.-]+$`},
	reflect.TypeFor[HostKey]():        {"one SSH public key", `write it as in the guest's /etc/ssh/ssh_host_ed25519_key.pub, such as "ssh-ed25519 AAAA..."`, `^\S+ \S+`},
	reflect.TypeFor[GuestPath]():      {"a VM and a path in it", "write vm:/absolute/path", `^[a-z0-9-]+:/.*$`},
	reflect.TypeFor[netip.Addr]():     {"an IP address", "write it without prefix length, such as 10.20.0.11", `^[0-9A-Fa-f:.]+$`},
	reflect.TypeFor[netip.Prefix]():   {"an IP address with prefix length", "write both, such as 10.20.0.1/24", `^[0-9A-Fa-f:.]+/[0-9]+$`},
	reflect.TypeFor[netip.AddrPort](): {"an IP address and a port", "write both, such as 198.51.100.80:80", `^[0-9A-Fa-f:.\[\]]+:[0-9]+$`},
}

// text decodes a value that reads itself from text.
func (d *decoder) text(node ast.Node, v reflect.Value, path string) {
	f := formats[v.Type()]
	s, ok := stringOf(node)
	if !ok {
		d.at(path, describe(node), f.expected, f.fix)
		return
	}
	if s == "" {
		// Some standard types take an empty text for their zero value; a plan leaves the key out instead.
		d.at(path, "an empty text", f.expected, f.fix)
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
		d.at(path, fmt.Sprintf("%q", shorten(s)), f.expected, f.fix)
	}
}

// scalar decodes a string, a choice, a number or a boolean.
func (d *decoder) scalar(node ast.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		d.string(node, v, path)
	case reflect.Bool:
		if b, ok := node.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
			return
		}
		d.at(path, describe(node), "true or false", "write true or false without quotes")
	default:
		d.integer(node, v, path)
	}
}

func (d *decoder) string(node ast.Node, v reflect.Value, path string) {
	s, ok := stringOf(node)
	if !ok {
		fix := "write a text"
		if node.Type() == ast.IntegerType || node.Type() == ast.FloatType || node.Type() == ast.BoolType {
			fix = "put it in quotes"
		}
		d.at(path, describe(node), "a text", fix)
		return
	}
	if c, ok := v.Interface().(choice); ok && !slices.Contains(c.choices(), s) {
		d.at(path, fmt.Sprintf("%q", shorten(s)), "one of "+strings.Join(c.choices(), ", "), didYouMean(s, c.choices()))
		return
	}
	v.SetString(s)
}

func (d *decoder) integer(node ast.Node, v reflect.Value, path string) {
	n, ok := node.(*ast.IntegerNode)
	if !ok {
		d.at(path, describe(node), "a whole number", "write digits without quotes")
		return
	}
	value, err := strconv.ParseInt(n.GetToken().Value, 10, 64)
	switch {
	case err != nil:
		d.at(path, n.GetToken().Value, "a whole number", "write it in plain digits")
	case v.Kind() == reflect.Uint16 && (value < 1 || value > 65535):
		d.at(path, strconv.FormatInt(value, 10), "a port from 1 to 65535", "correct it")
	case v.Kind() == reflect.Uint16:
		v.SetUint(uint64(value))
	case v.OverflowInt(value):
		d.at(path, strconv.FormatInt(value, 10), "a smaller number", "correct it")
	default:
		v.SetInt(value)
	}
}
