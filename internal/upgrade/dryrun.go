package upgrade

import (
	"context"
	"fmt"
	"strings"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/journal"
	"imago.dev/imago/internal/plan"
)

// Act is one thing that a verb would do.
type Act struct {
	Do     string `json:"do"` // make, run, change, remove, …
	What   string `json:"what"`
	Detail string `json:"detail,omitempty"` // XML, a script, rules
}

// DryRun tells what a verb would make or do now, in order, and does nothing.
// Names hold the run's token; before the first run it stands as RUN.
func (e *Engine) DryRun(ctx context.Context, verb string) ([]Act, error) {
	if !e.live() {
		e.n = names{plan: e.plan.Name, run: "RUN", stateDir: e.plan.StateDir}
	}
	d := &dryRun{e: e}
	parts := map[string]func(context.Context) error{
		"check": d.check, "clone": d.clone, "convert": d.convert, "test": d.test, "catchup": d.data,
		"switch": d.switchover, "rollback": d.rollback, "finalize": d.finalize, "abort": d.abort,
	}
	order := []string{verb}
	if verb == "upgrade" {
		order = []string{"check", "clone", "convert", "test", "switch"}
	}
	for _, p := range order {
		if err := parts[p](ctx); err != nil {
			return nil, err
		}
	}
	return d.acts, nil
}

type dryRun struct {
	e    *Engine
	acts []Act
}

func (d *dryRun) add(do, what, detail string) { d.acts = append(d.acts, Act{do, what, detail}) }

// check really checks: that changes nothing.
func (d *dryRun) check(ctx context.Context) error {
	d.add("look at", "domains, images, addresses, memory and disk space", "")
	return d.e.check(ctx)
}

func (d *dryRun) clone(ctx context.Context) error {
	e := d.e
	domains, err := e.productionDomains(ctx)
	if err != nil {
		return refuse(err)
	}
	for _, dir := range []string{e.n.dir(), e.n.sockets()} {
		d.add("make", "directory "+dir, "")
	}
	network, err := hypervisor.NewNetworkXML(e.networkSpec())
	if err != nil {
		return err
	}
	text, err := network.Marshal()
	if err != nil {
		return err
	}
	d.add("make", "network "+e.n.network(), text)
	d.add("make", fmt.Sprintf("network namespace %s with the addresses %v, sealed", e.n.netns(), e.plan.Production.Gateways), "")
	sources, err := e.sources(ctx, domains, e.wantsClones(false))
	if err != nil {
		return err
	}
	for _, s := range sources {
		for _, disk := range s.Disks {
			d.add("make", fmt.Sprintf("scratch file of %s for the frozen view of disk %s of %s", BytesText(disk.Capacity), disk.Target, s.Name), "")
		}
		d.add("begin and end", "a pull-mode backup job on "+s.Name+" (production's XML and images stay as they are)", "")
	}
	return d.machines(ctx, domains)
}

// machines are the VMs of the universe, with their XML.
func (d *dryRun) machines(ctx context.Context, domains map[string]*hypervisor.Domain) error {
	for _, vm := range d.e.plan.Universe.VMs {
		doc, err := d.e.imageOrCloneXML(ctx, vm, domains)
		if err != nil {
			return refuse(err)
		}
		text, err := doc.Marshal()
		if err != nil {
			return err
		}
		d.add("make", "domain "+doc.Name, text)
	}
	return nil
}

func (d *dryRun) convert(ctx context.Context) error {
	if err := d.steps(plan.WhenPrepare)(ctx); err != nil {
		return err
	}
	return d.data(ctx)
}

// data is what flows from production into the new version.
func (d *dryRun) data(context.Context) error {
	for _, set := range d.e.plan.Data {
		d.add("read", fmt.Sprintf("the row log of %s at %s as %s, and the first rows of database %s from %s", set.Source.Domain, set.Source.Address, set.Source.User, set.Source.Database, set.Clone), "")
		d.add("make", fmt.Sprintf("databases imago and imago_old_%s on %s, for the state and the old rows", set.Target.Database, set.Target.VM), "")
		for _, c := range set.Conversions {
			d.add("convert", fmt.Sprintf("rows into %s of %s", c.Into, set.Target.Database), c.Select)
		}
	}
	for _, f := range d.e.plan.Files {
		d.add("copy", fmt.Sprintf("%s on disk %s of %s to %s, from frozen views of that disk", f.From.Path, f.From.Disk, f.From.Domain, f.To), "")
	}
	return nil
}

func (d *dryRun) steps(when plan.When) func(context.Context) error {
	return func(context.Context) error {
		for _, st := range d.e.plan.Convert {
			if !st.When.During(when) {
				continue
			}
			switch {
			case st.Copy != nil:
				d.add("copy", fmt.Sprintf("%s to %s (%s)", st.Copy.From, st.Copy.To, st.Name), "")
			case st.Tree != nil:
				d.add("copy", fmt.Sprintf("the folder %s to %s (%s)", st.Tree.From, st.Tree.To, st.Name), "")
			default:
				d.add("run", fmt.Sprintf("on %s: %s", st.On, st.Name), st.Run)
			}
		}
		return nil
	}
}

func (d *dryRun) test(context.Context) error {
	for _, v := range d.e.plan.Verify {
		d.add("compare", fmt.Sprintf("%s of %s with %s", v.Name, v.Old.On, v.New.On), v.New.Run)
	}
	for _, c := range d.e.plan.Test {
		if c.HTTP != nil {
			d.add("ask", fmt.Sprintf("%s %s (%s)", c.HTTP.Method, c.HTTP.URL, c.Name), "")
			continue
		}
		d.add("run", fmt.Sprintf("on %s: %s", c.On, c.Name), c.Run)
	}
	return nil
}

func (d *dryRun) switchover(ctx context.Context) error {
	e := d.e
	services, _ := e.services()
	var rules strings.Builder
	for _, s := range services {
		fmt.Fprintf(&rules, "%s %s: %s -> %s\n", s.Proto, s.VIP, s.Old, s.New)
	}
	d.add("make", "nftables table ip imago_vip_"+e.n.run+" with the VIP map, pointing at the old version", "")
	d.add("hold", fmt.Sprintf("clients for at most %s, after requests in flight had at most %s", e.plan.Limits.Hold, e.plan.Limits.Drain), "")
	for _, vm := range e.plan.Universe.VMs {
		if vm.Role == plan.RoleSource {
			d.add("clone", vm.Clone+" afresh as "+e.n.domain(vm.Name), "")
		}
	}
	if err := d.data(ctx); err != nil {
		return err
	}
	if err := d.steps(plan.WhenSwitch)(ctx); err != nil {
		return err
	}
	for _, v := range e.plan.Verify {
		d.add("compare", fmt.Sprintf("%s of %s with %s", v.Name, v.Old.On, v.New.On), v.New.Run)
	}
	d.add("change", "the VIP map, in one transaction", rules.String())
	return nil
}

func (d *dryRun) rollback(context.Context) error {
	services, _ := d.e.services()
	var rules strings.Builder
	for _, s := range services {
		fmt.Fprintf(&rules, "%s %s: %s -> %s\n", s.Proto, s.VIP, s.New, s.Old)
	}
	d.add("compare", "the new version's data with its list from the switch, to tell what would be lost", "")
	d.add("change", "the VIP map, in one transaction", rules.String())
	return nil
}

func (d *dryRun) finalize(context.Context) error {
	for _, vm := range d.e.plan.Production.VMs {
		d.add("shut down", vm.Domain+"; its definition and disks stay", "")
	}
	for _, vm := range d.e.plan.Universe.VMs {
		if vm.Role != plan.RoleSource {
			d.add("move", "the network cards of "+d.e.n.domain(vm.Name)+" to the production network", "")
		}
	}
	d.add("change", "the VIP map, to the new VMs on the production network", "")
	d.add("remove", "network namespace "+d.e.n.netns(), "")
	d.add("remove", "network "+d.e.n.network(), "")
	return nil
}

func (d *dryRun) abort(ctx context.Context) error {
	if !d.e.live() {
		return nil
	}
	standing, err := d.e.j.Standing(ctx, d.e.run.ID)
	if err != nil {
		return err
	}
	for _, r := range standing {
		what := fmt.Sprintf("%s %s", r.Kind, r.Name)
		if r.Status == journal.Intended {
			what += " (if it is there)"
		}
		d.add("remove", what, "")
	}
	return nil
}
