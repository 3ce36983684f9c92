package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func (v *validator) steps() {
	seen := map[string]bool{}
	for i, s := range v.p.Convert {
		at := fmt.Sprintf("convert[%d]", i)
		v.title(at+".name", s.Name, seen)
		v.positive(at+".timeout", s.Timeout.Duration)
		switch v.exactlyOne(at, "run", "copy", "tree") {
		case "run":
			v.script(at, s.On, s.Run)
			v.environment(at+".env", s.Env)
			if v.given(at + ".dir") {
				v.absolute(at+".dir", s.Dir)
			}
		case "copy":
			v.only(at, "copy", "on", "env", "dir")
			if s.Copy != nil {
				v.carry(at+".copy", s.Copy.From, s.Copy.To)
			}
		case "tree":
			v.only(at, "tree", "on", "env", "dir")
			if s.Tree != nil {
				v.carry(at+".tree", s.Tree.From, s.Tree.To)
				v.owner(at+".tree.owner", s.Tree.Owner)
			}
		}
	}
}

// script checks a run with the VM that it is on.
func (v *validator) script(at, on, run string) {
	v.present(at+".run", run)
	if strings.ContainsRune(run, 0) {
		v.fault(at+".run", "a NUL byte", "a shell script", "remove it")
	}
	if !v.given(at + ".on") {
		v.fault(at+".on", "no such key", "the VM to run on", "add on: with one of "+strings.Join(v.vms, ", "))
		return
	}
	v.login(at+".on", on)
}

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (v *validator) environment(at string, env map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !variableForm.MatchString(name) {
			v.fault(join(at, name), quote(name), "the name of a variable", "use letters, digits and _")
		}
		if strings.ContainsRune(env[name], 0) {
			v.fault(join(at, name), "a NUL byte", "a text without one", "remove it")
		}
	}
}

func (v *validator) carry(at string, from, to GuestPath) {
	for _, end := range []struct {
		key string
		GuestPath
	}{{".from", from}, {".to", to}} {
		if end.VM == "" {
			continue
		}
		v.login(at+end.key, end.VM)
		if end.Path == "/" {
			v.fault(at+end.key, quote(end.String()), "a file or folder", "the whole file system cannot be carried")
		}
	}
	if from == to && from.VM != "" {
		v.fault(at+".to", quote(to.String())+", which is from too", "another place", "correct one of the two")
	}
}

var ownerForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)

func (v *validator) owner(path, owner string) {
	if v.given(path) && !ownerForm.MatchString(owner) {
		v.fault(path, quote(owner), "user or user:group", "write such as www-data")
	}
}

func (v *validator) checks() {
	seen := map[string]bool{}
	for i, c := range v.p.Test {
		at := fmt.Sprintf("test[%d]", i)
		v.title(at+".name", c.Name, seen)
		v.positive(at+".timeout", c.Timeout.Duration)
		switch v.exactlyOne(at, "http", "run") {
		case "http":
			v.only(at, "http", "on")
			v.request(at+".http", c.HTTP)
		case "run":
			v.script(at, c.On, c.Run)
		}
	}
}

var methodForm = regexp.MustCompile(`^[A-Z]+$`)

// request checks a URL to be one of the universe: names would be looked up outside of it.
func (v *validator) request(at string, h *HTTP) {
	if h == nil {
		return
	}
	u, err := url.Parse(h.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		v.fault(at+".url", quote(h.URL), "an http or https URL", "write such as http://10.20.0.10/")
	default:
		addr, err := netip.ParseAddr(u.Hostname())
		if err != nil || !slices.ContainsFunc(v.p.Universe.VMs, func(vm VM) bool { return vm.Address == addr }) {
			v.fault(at+".url", quote(h.URL), "the address of a VM of the universe as the URL's host", "write the address there and the name in host:")
		}
	}
	if !methodForm.MatchString(h.Method) {
		v.fault(at+".method", quote(h.Method), "a request method", "write such as GET")
	}
	if h.Status < 100 || h.Status > 599 {
		v.fault(at+".status", fmt.Sprint(h.Status), "100 to 599", "write the status that the answer must have")
	}
	for _, name := range slices.Sorted(maps.Keys(h.Header)) {
		if !headerForm.MatchString(name) || strings.ContainsAny(h.Header[name], "\r\n\x00") {
			v.fault(join(at+".header", name), quote(name), "the name of a header and a value of one line", "correct it")
		}
	}
	for key, texts := range map[string][]string{"contains": h.Contains, "not_contains": h.NotContains} {
		for i, t := range texts {
			if t == "" {
				v.fault(fmt.Sprintf("%s.%s[%d]", at, key, i), "an empty text", "a text to look for", "every answer contains the empty text")
			}
		}
	}
}

var headerForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func (v *validator) readiness(at string, vm VM) {
	for i, r := range vm.Ready {
		p := fmt.Sprintf("%s.ready[%d]", at, i)
		if !v.given(at + ".ready") {
			p = at + ".host_keys" // the default condition stands there because of the host keys
		} else if kind := v.exactlyOne(p, "ssh", "run", "tcp", "http"); kind == "ssh" && !r.SSH {
			v.fault(p+".ssh", "false", "true", "remove the entry")
		}
		v.positive(p+".timeout", r.Timeout.Duration)
		v.request(p+".http", r.HTTP)
		v.reachable(p, vm, r)
	}
}

// reachable checks that the VM has what the condition needs.
func (v *validator) reachable(path string, vm VM, r Readiness) {
	switch {
	case r.SSH || r.Run != "":
		v.login(path, vm.Name)
	case r.TCP != 0 && !vm.Address.IsValid():
		v.fault(path, "tcp on a VM without address", "a VM with an address", "give the VM its address")
	}
}

func (v *validator) comparisons() {
	seen := map[string]bool{}
	for i, c := range v.p.Verify {
		at := fmt.Sprintf("verify[%d]", i)
		v.title(at+".name", c.Name, seen)
		oldKind, newKind := v.view(at+".old", c.Old), v.view(at+".new", c.New)
		if oldKind != newKind && oldKind != "" && newKind != "" {
			v.fault(at+".new", newKind, oldKind+", as in old", "both sides must name objects in the same way")
		}
	}
}

// view checks one side of a comparison and gives its kind.
func (v *validator) view(at string, view DataView) string {
	if !v.given(at) {
		return ""
	}
	if v.given(at + ".on") {
		v.login(at+".on", view.On)
	}
	kind := v.exactlyOne(at, "run", "tree")
	switch kind {
	case "run":
		v.present(at+".run", view.Run)
	case "tree":
		v.absolute(at+".tree", view.Tree)
	}
	return kind
}

// maxHold stays below the time after which clients' kernels give up a connection that nobody answers (about 130 s).
const maxHold = 120 * time.Second

func (v *validator) limits() {
	l := v.p.Limits
	v.positive("limits.hold", l.Hold.Duration)
	v.positive("limits.drain", l.Drain.Duration)
	v.positive("limits.freeze", l.Freeze.Duration)
	v.positive("keep.old_vms", v.p.Keep.OldVMs.Duration)
	if l.Hold.Duration > maxHold {
		v.fault("limits.hold", l.Hold.String(), "at most "+maxHold.String(), "clients' kernels give up connecting after about 130 s")
	}
	if l.Drain.Duration >= l.Hold.Duration && l.Hold.Duration > 0 {
		v.fault("limits.drain", l.Drain.String(), "less than hold ("+l.Hold.String()+")", "draining is a part of the hold")
	}
	if l.PullRate < 64<<10 {
		v.fault("limits.pull_rate", l.PullRate.String(), "at least 64KiB/s", "a slower copy would never end")
	}
	if l.CopyRate < 64<<10 {
		v.fault("limits.copy_rate", l.CopyRate.String(), "at least 64KiB/s", "a slower copy would never end")
	}
	for _, n := range []struct {
		path  string
		value int
	}{{"limits.latency_rise", l.LatencyRise}, {"limits.io_pressure", l.IOPressure}} {
		if n.value < 0 || n.value > 1000 {
			v.fault(n.path, fmt.Sprint(n.value), "a percentage from 0 to 1000", "0 switches the signal off")
		}
	}
	for i, g := range v.p.Clients.Logs {
		at := fmt.Sprintf("clients.logs[%d]", i)
		v.present(at, g)
		if _, err := filepath.Match(g, ""); err != nil {
			v.fault(at, quote(g), "a pattern of file names", "look for an open bracket")
		}
	}
}
