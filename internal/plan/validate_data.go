package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// sqlName keeps names to what needs no care in any tool; the servers allow more.
var sqlName = regexp.MustCompile(`^[0-9A-Za-z_$\x{80}-\x{ffff}-]{1,64}$`)

func (v *validator) data() {
	seen, targets := map[string]bool{}, map[string]bool{}
	for i, d := range v.p.Data {
		at := fmt.Sprintf("data[%d]", i)
		v.title(at+".name", d.Name, seen)
		v.dataSource(at+".source", d.Source)
		if v.known(at+".clone", d.Clone, "a VM of the universe", v.vms) {
			vm, place, _ := v.vm(d.Clone)
			if vm.Clone != d.Source.Domain && !v.faulted(place+".clone") && !v.faulted(at+".source.domain") {
				v.fault(at+".clone", fmt.Sprintf("%q, which is no clone of %s", d.Clone, d.Source.Domain), "a VM with clone: "+d.Source.Domain, "the first rows are read from a clone of the very server whose log is followed")
			} else if vm.Address.IsValid() && d.Source.Address.IsValid() && vm.Address != d.Source.Address.Addr() && !v.addressFaulted() {
				v.fault(at+".source.address", d.Source.Address.String(), "the address of "+d.Clone+" ("+vm.Address.String()+")", "a clone has production's address")
			}
		}
		v.login(at+".target.vm", d.Target.VM)
		v.absolute(at+".target.socket", d.Target.Socket)
		v.present(at+".target.user", d.Target.User)
		v.sqlName(at+".target.database", d.Target.Database)
		if place := d.Target.VM + " " + strings.ToLower(d.Target.Database); targets[place] {
			v.fault(at+".target", "the database "+d.Target.Database+" on "+d.Target.VM+" a second time", "a database of its own", "two data sets cannot fill the same database")
		} else {
			targets[place] = true
		}
		v.tables(at, d)
	}
}

// faulted tells whether a place was found at fault already: what follows from it
// would be an echo.
func (v *validator) faulted(path string) bool {
	return v.decoded[path] || slices.ContainsFunc(v.d.faults, func(f Fault) bool { return f.Path == path })
}

// addressFaulted tells whether the VMs' addresses are not in order already.
func (v *validator) addressFaulted() bool {
	for i := range v.vms {
		if v.faulted(fmt.Sprintf("universe.vms[%d].address", i)) {
			return true
		}
	}
	return false
}

func (v *validator) dataSource(at string, s DataSource) {
	v.known(at+".domain", s.Domain, "a production domain of this plan", v.domains)
	v.present(at+".user", s.User)
	v.sqlName(at+".database", s.Database)
	v.exactlyOne(at, "password", "password_file")
}

func (v *validator) sqlName(at, name string) {
	if !sqlName.MatchString(name) {
		v.fault(at, quote(name), "the name of a database, table or column", "write it without quotes")
	}
}

func (v *validator) tables(at string, d DataSet) {
	skipped := map[string]bool{}
	for i, t := range d.Skip {
		p := fmt.Sprintf("%s.skip[%d]", at, i)
		v.sqlName(p, t)
		if skipped[t] {
			v.fault(p, quote(t)+" a second time", "each table once", "remove one")
		}
		skipped[t] = true
	}
	names := map[string]bool{}
	for i, c := range d.Conversions {
		p := fmt.Sprintf("%s.conversions[%d]", at, i)
		v.sqlName(p+".into", c.Into)
		v.present(p+".select", c.Select)
		v.title(p+".name", c.Name, names)
		v.columns(p+".key", c.Key)
		if v.given(p+".from") && len(c.From) == 0 {
			v.fault(p+".from", "an empty list", "at least one old table", "name the table that has a row for each object")
		}
		for j, f := range c.From {
			q := fmt.Sprintf("%s.from[%d]", p, j)
			v.sqlName(q+".table", f.Table)
			v.columns(q+".key", f.Key)
			if f.Via == "" && len(f.Key) != len(c.Key) && len(f.Key) > 0 && len(c.Key) > 0 {
				v.fault(q+".key", fmt.Sprintf("%d columns", len(f.Key)), fmt.Sprintf("%d, as in the conversion's key", len(c.Key)), "name for each column of the key where its value stands in "+f.Table)
			}
			if skipped[f.Table] {
				v.fault(q+".table", quote(f.Table)+", which is in skip", "a table that is transferred", "take it out of skip")
			}
		}
		if v.given(p+".program") && (len(c.Program) == 0 || !strings.HasPrefix(c.Program[0], "/")) {
			v.fault(p+".program", "no absolute path", "the program's absolute path in the VM and its arguments", "write [/usr/local/bin/convert, --fast]")
		}
	}
}

func (v *validator) columns(at string, key []string) {
	if v.given(at) && len(key) == 0 {
		v.fault(at, "an empty list", "at least one column", "name the columns of the key")
	}
	for i, c := range key {
		v.sqlName(fmt.Sprintf("%s[%d]", at, i), c)
	}
}

func (v *validator) files() {
	seen, targets := map[string]bool{}, map[string]bool{}
	for i, f := range v.p.Files {
		at := fmt.Sprintf("files[%d]", i)
		v.title(at+".name", f.Name, seen)
		v.known(at+".from.domain", f.From.Domain, "a production domain of this plan", v.domains)
		v.present(at+".from.disk", f.From.Disk)
		if f.From.Partition < 0 || f.From.Partition > 128 {
			v.fault(at+".from.partition", fmt.Sprint(f.From.Partition), "0 to 128", "0 is the whole disk")
		}
		v.absolute(at+".from.path", f.From.Path)
		if f.To.VM != "" {
			v.login(at+".to", f.To.VM)
			if vm, _, ok := v.vm(f.To.VM); ok && vm.Role == RoleSource {
				v.fault(at+".to", quote(f.To.VM)+", whose role is source", "a VM of the new version", "files go where the new version reads them")
			}
			if f.To.Path == "/" {
				v.fault(at+".to", quote(f.To.String()), "a folder", "the whole file system cannot be kept equal")
			}
			if targets[f.To.String()] {
				v.fault(at+".to", quote(f.To.String())+" a second time", "a folder of its own", "two file sets cannot fill the same folder")
			}
			targets[f.To.String()] = true
		}
		v.owner(at+".owner", f.Owner)
	}
}
