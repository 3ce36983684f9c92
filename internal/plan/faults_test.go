package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// faultsOf loads a text and gives its faults.
func faultsOf(t *testing.T, text string) []Fault {
	t.Helper()
	_, err := parse("plan.yaml", "/plans", []byte(text))
	faults, ok := IsInvalid(err)
	if err != nil && !ok {
		t.Fatalf("error of another kind: %v", err)
	}
	return faults
}

// TestOneWrongThing changes one text of the example and expects one fault, at the right place.
func TestOneWrongThing(t *testing.T) {
	for _, c := range []struct{ old, new, path, says string }{
		{"version: 1\n", "version: 2\n", "version", "expected version 1"},
		{"domain: shop-db\n      flavor", "domain: shop-web\n      flavor", "data[0].clone", "no clone of shop-web"},
		{"10.30.0.11:3306", "10.30.0.12:3306", "data[0].source.address", "a clone has production's address"},
		{"flavor: mariadb", "flavor: oracle", "data[0].source.flavor", "one of mariadb, mysql"},
		{"clone: db-old               #", "clone: dbold               #", "data[0].clone", "did you mean"},
		{"skip: [cache, sessions]", "skip: [cache, client]", "data[0].conversions[0].from[0].table", "which is in skip"},
		{"skip: [cache, sessions]", "skip: [cache, cache]", "data[0].skip[1]", "second time"},
		{"key: [client_id]", "key: [client_id, x]", "data[0].conversions[0].from[0].key", "found 2 columns, expected 1"},
		{"[/usr/local/bin/clean-phones,", "[clean-phones,", "data[0].conversions[0].program", "absolute path"},
		{"to: \"web:/var/lib/shop/photos\"", "to: \"db-old:/var/lib/shop/photos\"", "files[0].to", "role is source"},
		{"disk: vda, partition: 0", "disk: vda, partition: -1", "files[0].from.partition", "0 to 128"},
		{"path: /var/lib/shop/photos", "path: photos", "files[0].from.path", "absolute"},
		{"latency_rise: 20", "latency_rise: -1", "limits.latency_rise", "percentage"},
		{"copy_rate: 1GiB/s", "copy_rate: 1KiB/s", "limits.copy_rate", "64KiB/s"},
		{"version: 1\n", "version: one\n", "version", `found the text "one", expected a whole number`},
		{"name: shop     ", "nmae: shop     ", "nmae", `did you mean "name"?`},
		{"name: shop     ", "name: Shop     ", "name", `found "Shop"`},
		{"name: shop     ", "name: 17       ", "name", "found the number 17, expected a text; put it in quotes"},
		{"connect: qemu:///system", "connect: xen:///system", "connect", "libvirt URI"},
		{"virtualization: auto", "virtualization: kvn", "virtualization", `did you mean "kvm"?`},
		{"state_dir: /var/lib/imago", "state_dir: var/lib/imago", "state_dir", "absolute"},
		{"[10.30.0.1/24]", "[10.30.0.0/24]", "production.gateways[0]", "gateway's own address"},
		{"[10.30.0.1/24]", "[10.30.0.1]", "production.gateways[0]", "prefix length"},
		{"[10.30.0.1/24]", "10.30.0.1/24", "production.gateways", "expected a list"},
		{"[10.30.0.1/24]", "[10.30.0.1/24, 10.30.0.1/24]", "production.gateways[1]", "each gateway once"},
		{"network: production ", "bridge: br/0\n  #", "production.bridge", "bridge on the host"},
		{"  # bridge: br0", "  bridge: br0", "production", "network and bridge"},
		{"  network: production ", "  # ", "production", "found none of them"},
		{"    - domain: shop-db\n", "    - domain: shop-db\n    - domain: shop-web\n", "production.vms[2].domain", "second time"},
		{"freeze: never", "freeze: no", "production.vms[0].freeze", "one of auto, required, never"},
		{"  key: ./id_ed25519 ", "  # ", "ssh.key", "required key key"},
		{"100.127.255.0/30", "10.30.0.128/30", "universe.transit", "overlaps"},
		{"100.127.255.0/30", "100.127.255.1/30", "universe.transit", "four addresses"},
		{"100.127.255.0/30", "100.127.255.0/31", "universe.transit", "four addresses"},
		{"clone: shop-db", "clone: shop-dbb", "universe.vms[0].clone", `did you mean "shop-db"?`},
		{"clone: shop-db", "mac: 52:54:00:00:00:09\n      clone: shop-db", "universe.vms[0].mac", "no such key beside clone"},
		{"role: source  ", "role: serve   ", "universe.vms[0].attach", "role source"},
		{"      attach:                   # frozen views of other production disks, as further disks of a source\n        - {", "      attach: 3\n      # {", "universe.vms[0].attach", "found the number 3, expected a list"},
		{"{from: shop-web, disk: vda", "{from: shop-wb, disk: vda", "universe.vms[0].attach[0].from", "did you mean"},
		{"{from: shop-web, disk: vda", "{from: shop-web, disk: /dev/vda", "universe.vms[0].attach[0].disk", "target name"},
		{"serial: web-vda", "serial: a-serial-of-more-than-20-characters", "universe.vms[0].attach[0].serial", "cuts"},
		{"address: 10.30.0.11", "address: 10.31.0.11", "universe.vms[0].address", "subnet"},
		{"address: 10.30.0.11", "address: 10.30.0.1", "universe.vms[0].address", "the gateway has too"},
		{"memory: 768MiB", "memory: 768", "universe.vms[0].memory", "found the number 768, expected a size"},
		{"memory: 768MiB", "memory: 1B", "universe.vms[0].memory", "at least 16MiB"},
		{"memory: 768MiB", "memory: ", "universe.vms[0].memory", "found nothing"},
		{"vcpus: 1                  # default: as", "vcpus: 0 #", "universe.vms[0].vcpus", "1 to 512"},
		{"timeout: 120s", "timeout: 120", "universe.vms[0].ready[0].timeout", "duration"},
		{"timeout: 120s", "timeout: 0s", "universe.vms[0].ready[0].timeout", "above zero"},
		{"{ssh: true, timeout: 120s}", "{ssh: false, timeout: 120s}", "universe.vms[0].ready[0].ssh", "true"},
		{"{tcp: 3306}", "{tcp: 3306, ssh: true}", "universe.vms[0].ready[2]", "ssh and tcp"},
		{"{tcp: 3306}", "{tcp: 99999}", "universe.vms[0].ready[2].tcp", "1 to 65535"},
		{"sha256: 9f86", "sha256: 9f8", "universe.vms[1].image.sha256", "64 hex"},
		{"kernel: ./vmlinuz       # direct boot; leave all three out to boot from the disk\n        initrd: ./initrd.img\n        ", "", "universe.vms[1].image.cmdline", "image without kernel"},
		{"mac: 52:54", "mac: 53:54", "universe.vms[1].mac", "unicast"},
		{"address: 10.30.0.11\n", "address: 10.30.0.10\n", "universe.vms[1].address", "VM db-old has too"},
		{"vip: 198.51.100.80:80", "vip: 198.51.100.80", "services[0].vip", "address and a port"},
		{"vip: 198.51.100.80:80", "vip: 10.30.0.10:80", "services[0].vip", "which is old too"},
		{"vip: 198.51.100.80:80", "vip: 198.51.100.80:0", "services[0].vip", "one host"},
		{"vip: 198.51.100.80:80", "vip: 198.51.100.80:80\n    vip: 198.51.100.81:80", "services[0].vip", "the first is in line"},
		{"old: 10.30.0.10:80", "old: 10.99.0.10:80", "services[0].old", "subnet"},
		{"new: {vm: web, port: 80}", "new: {vm: wbe, port: 80}", "services[0].new.vm", `did you mean "web"?`},
		{"new: {vm: web, port: 80}", "new: {vm: db-old, port: 80}", "services[0].new.vm", "which is a source"},
		{"    on: db-old\n", "    on: db-odl\n", "convert[0].on", `did you mean "db-old"?`},
		{"    on: db-old\n", "", "convert[0].on", "the VM to run on"},
		{"    dir: /root", "    dir: root", "convert[0].dir", "absolute"},
		{"{LC_ALL: C}", "{LC-ALL: C}", "convert[0].env.LC-ALL", "variable"},
		{"{LC_ALL: C}", "{LC_ALL: 1}", "convert[0].env.LC_ALL", "put it in quotes"},
		{"when: both", "when: never", "convert[0].when", "prepare, switch, both"},
		{`{from: "db-old:/root/shop.sql"`, `{from: "db-old:shop.sql"`, "convert[1].copy.from", "vm:/absolute/path"},
		{`{from: "db-old:/root/shop.sql"`, `{from: "dbold:/root/shop.sql"`, "convert[1].copy.from", "did you mean"},
		{`{from: "db-old:/root/shop.sql"`, `{from: "web:/root/shop.sql"`, "convert[1].copy.to", "which is from too"},
		{"  - name: carry the dump\n", "  - name: carry the dump\n    run: ls\n", "convert[1]", "run and copy"},
		{"  - name: carry the dump\n", "  - name: carry the dump\n    on: web\n", "convert[1].on", "beside copy"},
		{"  - name: carry the dump\n", "  - name: dump the database\n", "convert[1].name", "second time"},
		{"owner: www-data", "owner: www data", "convert[2].tree.owner", "user or user:group"},
		{"to: web:/var/lib/shop/files", "to: web:/", "convert[2].tree.to", "whole file system"},
		{"url: http://10.30.0.10/ ", "url: http://shop.example/ ", "test[0].http.url", "name in host"},
		{"url: http://10.30.0.10/ ", "url: ftp://10.30.0.10/ ", "test[0].http.url", "http or https"},
		{"method: GET", "method: get", "test[0].http.method", "method"},
		{"status: 200               #", "status: 20 #", "test[0].http.status", "100 to 599"},
		{`contains: ["Welcome"]`, `contains: [""]`, "test[0].http.contains[0]", "empty"},
		{"{Accept-Language: en}", `{"Accept Language": en}`, "test[0].http.header.Accept Language", "header"},
		{"old: {on: db-old, tree: /mnt/web/var/lib/shop/files}", "old: {on: db-old, run: ls}", "verify[1].new", "as in old"},
		{"old: {on: db-old, tree: /mnt/web/var/lib/shop/files}", "old: {on: db-old, tree: mnt}", "verify[1].old.tree", "absolute"},
		{"hold: 110s", "hold: 121s", "limits.hold", "130 s"},
		{"drain: 30s", "drain: 110s", "limits.drain", "less than hold"},
		{"pull_rate: 200MiB/s", "pull_rate: 200MiB", "limits.pull_rate", "/s"},
		{"pull_rate: 200MiB/s", "pull_rate: 1B/s", "limits.pull_rate", "never end"},
		{`logs: ["./clients/*.jsonl"]`, `logs: ["./clients/[.jsonl"]`, "clients.logs[0]", "bracket"},
		{"old_vms: 168h", "old_vms: -1h", "keep.old_vms", "above zero"},
		{"outbound_after_switch: nat", "outbound_after_switch: open", "outbound_after_switch", "one of nat, sealed"},
		{"name: shop     ", "name: &a shop", "name", "no anchors"},
		{"name: shop     ", "name: !!str shop", "name", "no anchors"},
		{"keep:\n", "keep: [\n", "", "no YAML"},
		{"version: 1\n", "version: 1\n---\n", "", "2 documents"},
	} {
		t.Run(c.path+" "+c.new, func(t *testing.T) {
			if strings.Count(Example(), c.old) < 1 {
				t.Fatalf("the example has no %q", c.old)
			}
			faults := faultsOf(t, strings.Replace(Example(), c.old, c.new, 1))
			if len(faults) != 1 {
				t.Fatalf("want one fault, got %d:\n%v", len(faults), &Errors{faults})
			}
			f := faults[0]
			if f.Path != c.path || !strings.Contains(f.Error(), c.says) || f.Line == 0 || f.Column == 0 {
				t.Errorf("want %s with %q, got\n%s", c.path, c.says, f)
			}
			if !strings.HasPrefix(f.Error(), fmt.Sprintf("plan.yaml:%d:%d: ", f.Line, f.Column)) {
				t.Errorf("the place is not in front: %s", f)
			}
		})
	}
}

func TestPlaceIsThatOfTheValue(t *testing.T) {
	text := strings.Replace(Example(), "vip: 198.51.100.80:80", "vip: nowhere", 1)
	before, _, _ := strings.Cut(text, "nowhere")
	line := strings.Count(before, "\n") + 1
	column := len(before) - strings.LastIndex(before, "\n")
	if f := faultsOf(t, text)[0]; f.Line != line || f.Column != column {
		t.Errorf("want %d:%d, got %d:%d", line, column, f.Line, f.Column)
	}
}

// TestAllFaultsAtOnce is the promise to the operator: one run shows everything, in the order of the file.
func TestAllFaultsAtOnce(t *testing.T) {
	text := Example()
	for _, r := range [][2]string{
		{"name: shop     ", "nmae: shop     "}, {"clone: shop-db", "clone: shop-x"}, {"memory: 768MiB", "memory: lots"},
		{"vm: web", "vm: wbe"}, {"when: both", "when: now"}, {"hold: 110s", "hold: 10m"},
	} {
		text = strings.Replace(text, r[0], r[1], 1)
	}
	faults := faultsOf(t, text)
	var paths []string
	for i, f := range faults {
		paths = append(paths, f.Path)
		if i > 0 && f.Line < faults[i-1].Line {
			t.Error("faults are not in the order of the file")
		}
	}
	want := "[nmae universe.vms[0].clone universe.vms[0].memory services[0].new.vm convert[0].when limits.hold]"
	if got := fmt.Sprint(paths); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestHostileNesting would run for minutes, or out of memory, were depth and length not bounded before parsing.
func TestHostileNesting(t *testing.T) {
	start := time.Now()
	for _, text := range []string{
		strings.Repeat("[", 200_000), strings.Repeat("{a: ", 60_000), strings.Repeat("- ", 120_000),
		strings.Repeat("? ", 120_000), strings.Repeat("!a ", 80_000), strings.Repeat("a: b\n", 50_000),
		strings.Repeat("&a ", 80_000), "\xff\xfe", "", "null", "- a", "just text", "# only a comment",
	} {
		if len(faultsOf(t, text)) == 0 {
			t.Errorf("%.20q was accepted", text)
		}
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Example())
	f.Add("version: 1\nuniverse: {vms: [{name: a, image: {disk: x}}]}\n")
	f.Add("a: &x [*x]\n<<: *x\n? a\n: b\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parse("plan.yaml", "/plans", []byte(text))
		if (p == nil) == (err == nil) {
			t.Fatal("want either a plan or an error")
		}
		if err == nil {
			return
		}
		faults, ok := IsInvalid(err)
		if !ok || len(faults) == 0 {
			t.Fatalf("error of another kind: %v", err)
		}
		lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1 // YAML breaks lines at both
		for _, f := range faults {
			if f.Line > lines+1 || f.Found == "" || f.Expected == "" {
				t.Fatalf("fault without place or words: %+v", f)
			}
		}
	})
}
