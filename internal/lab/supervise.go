package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"imago.dev/imago/hypervisor"
	"imago.dev/imago/images"
	"imago.dev/imago/images/recipes"
)

// Supervise runs inside the lab's namespaces: it makes the host, the
// production VMs and the plan, tells events what it does, and stays until ctx
// ends.
func Supervise(ctx context.Context, o Options, events io.Writer, log *slog.Logger) error {
	tell := &teller{enc: json.NewEncoder(events)}
	s := &supervisor{o: o, tell: tell, log: log}
	if err := s.up(ctx); err != nil {
		tell.send(Event{Error: err.Error()})
		return err
	}
	tell.send(Event{Ready: true})
	<-ctx.Done()
	return nil
}

// teller writes events from several goroutines.
type teller struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (t *teller) send(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.enc.Encode(e) // the reader may be gone once the lab is ready
}

type supervisor struct {
	o    Options
	tell *teller
	log  *slog.Logger
}

func (s *supervisor) say(format string, args ...any) {
	s.tell.send(Event{Text: fmt.Sprintf(format, args...)})
}

// up makes the lab, in the order in which parts need each other.
func (s *supervisor) up(ctx context.Context) error {
	sys, err := SystemByName(s.o.System)
	if err != nil {
		return err
	}
	if err := mountHost(s.o.Dir); err != nil {
		return err
	}
	if err := hostNetwork(ctx, sys); err != nil {
		return err
	}
	if _, err := startLibvirtd(ctx, s.o.Dir); err != nil {
		return err
	}
	s.say("a private libvirtd answers; making the disks of the VMs")
	if err := s.defineNetwork(ctx); err != nil {
		return err
	}
	machines, err := s.makeMachines(ctx, sys)
	if err != nil {
		return err
	}
	if err := writePlan(s.o.Dir, sys, machines); err != nil {
		return err
	}
	if err := writeKnownHosts(s.o.Dir, sys, machines); err != nil {
		return err
	}
	if err := s.boot(ctx, sys, machines); err != nil {
		return err
	}
	return s.awaitService(ctx, sys)
}

// defineNetwork makes the production network as an admin would, with virsh.
func (s *supervisor) defineNetwork(ctx context.Context) error {
	gateway := netip.MustParsePrefix(gatewayPrefix)
	xml := fmt.Sprintf(`<network><name>%s</name><forward mode='open'/><bridge name='%s' stp='off' delay='0'/>`+
		`<dns enable='no'/><ip address='%s' prefix='%d'/></network>`, network, bridge, gateway.Addr(), gateway.Bits())
	path := filepath.Join(s.o.Dir, "network.xml")
	if err := os.WriteFile(path, []byte(xml), 0o600); err != nil {
		return err
	}
	if err := run(ctx, "virsh", "-q", "net-define", path); err != nil {
		return err
	}
	return run(ctx, "virsh", "-q", "net-start", network)
}

// makeMachines makes a disk for every VM, also for those of the new version:
// those stand for the images that an admin prepared.
func (s *supervisor) makeMachines(ctx context.Context, sys *System) (map[string]builtMachine, error) {
	cat, err := images.LoadCatalogue(recipes.FS)
	if err != nil {
		return nil, err
	}
	b := &images.Builder{Catalogue: cat, CacheDir: s.o.CacheDir, Log: s.log}
	imgs, err := b.Build(ctx, sys.Images()...)
	if err != nil {
		return nil, fmt.Errorf("look up the lab's images: %w", err)
	}
	authorized, err := writeUserKey(s.o.Dir)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	built := map[string]builtMachine{}
	g, ctx := errgroup.WithContext(ctx)
	for _, m := range slices.Concat(sys.Production, sys.New) {
		g.Go(func() error {
			bm, err := s.makeMachine(ctx, sys, m, imgs[m.Image], authorized)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			built[m.Name] = bm
			return nil
		})
	}
	return built, g.Wait()
}

func (s *supervisor) makeMachine(ctx context.Context, sys *System, m Machine, img images.Image, authorized string) (builtMachine, error) {
	private, public, err := images.NewHostKey()
	if err != nil {
		return builtMachine{}, err
	}
	mac, err := net.ParseMAC(m.MAC)
	if err != nil {
		return builtMachine{}, err
	}
	gateway := netip.MustParsePrefix(gatewayPrefix)
	bm := builtMachine{Machine: m, Kernel: img.Kernel, Initrd: img.Initrd, Cmdline: img.Cmdline,
		HostKey: string(public[:len(public)-1]), Disk: filepath.Join(s.o.Dir, m.Name+"."+m.Format)}
	err = images.Instantiate(ctx, img, bm.Disk, images.Instance{
		Hostname: m.Name, Address: netip.PrefixFrom(m.Address, gateway.Bits()), Gateway: gateway.Addr(), MAC: mac,
		AuthorizedKeys: []string{authorized}, HostKey: private, HostKeyPublic: public, Format: m.Format,
	})
	if err != nil {
		return builtMachine{}, fmt.Errorf("make the disk of %s: %w", m.Name, err)
	}
	if slices.ContainsFunc(sys.New, func(n Machine) bool { return n.Name == m.Name }) {
		bm.SHA256, err = images.FileSHA256(ctx, bm.Disk) // for the plan
	}
	return bm, err
}

// boot defines and starts the production VMs.
func (s *supervisor) boot(ctx context.Context, sys *System, machines map[string]builtMachine) error {
	kvm, why, err := hypervisor.UsableKVM("auto")
	if err != nil {
		return err
	}
	kind := hypervisor.TypeQEMU
	if kvm {
		kind = hypervisor.TypeKVM
	}
	s.say("virtualization: %s (%s)", kind, why)
	for _, m := range sys.Production {
		if err := s.bootMachine(ctx, machines[m.Name], kind); err != nil {
			return fmt.Errorf("start %s: %w", m.Name, err)
		}
	}
	return nil
}

func (s *supervisor) bootMachine(ctx context.Context, m builtMachine, kind string) error {
	disks := []hypervisor.MachineDisk{{CloneDisk: hypervisor.CloneDisk{Path: m.Disk, Format: m.Format}, Target: "vda", Serial: m.Name + "-root"}}
	if m.ExtraDiskMiB > 0 {
		path := filepath.Join(s.o.Dir, m.Name+"-data.raw")
		if err := run(ctx, "qemu-img", "create", "-q", "-f", "raw", path, strconv.FormatUint(uint64(m.ExtraDiskMiB), 10)+"M"); err != nil {
			return err
		}
		disks = append(disks, hypervisor.MachineDisk{CloneDisk: hypervisor.CloneDisk{Path: path, Format: "raw"}, Target: "vdb", Serial: m.Name + "-data"})
	}
	uuid, err := newUUID()
	if err != nil {
		return err
	}
	doc, err := hypervisor.NewMachineXML(hypervisor.MachineSpec{
		Name: m.Name, UUID: uuid, Run: "lab", MemoryMiB: m.MemoryMiB, VCPUs: 1, Type: kind, CPUModel: "qemu64", NoCX16: true, Disks: disks,
		NICs:   []hypervisor.MachineNIC{{MAC: m.MAC, Network: network}},
		Kernel: m.Kernel, Initrd: m.Initrd, Cmdline: m.Cmdline,
		ConsoleLog: filepath.Join(s.o.Dir, m.Name+".console.log"),
	})
	if err != nil {
		return err
	}
	doc.Metadata = nil // production VMs are not imago's
	text, err := doc.Marshal()
	if err != nil {
		return fmt.Errorf("write its XML: %w", err)
	}
	path := filepath.Join(s.o.Dir, m.Name+".xml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if err := run(ctx, "virsh", "-q", "define", path); err != nil {
		return err
	}
	s.say("%s boots", m.Name)
	return run(ctx, "virsh", "-q", "start", m.Name)
}

// awaitService waits until a client gets a good answer through the virtual IP.
func (s *supervisor) awaitService(ctx context.Context, sys *System) error {
	began := time.Now()
	err := waitFor(ctx, 5*time.Minute, "the production system to answer at "+sys.VIP.String(), func() error {
		if sys.LedgerRequest == nil {
			return dialOnce(ctx, sys.VIP)
		}
		req, err := sys.LedgerRequest("nobody")
		if err != nil {
			return err
		}
		req.URL.Path, req.URL.RawQuery = "/", ""
		resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 500 {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	})
	if err == nil {
		s.say("production answers after %.0f s", time.Since(began).Seconds())
	}
	return err
}

// dialOnce tries a connection: all that is asked of a service that speaks no HTTP.
func dialOnce(ctx context.Context, at netip.AddrPort) error {
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	// A server that is there says something first, as MariaDB does.
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = conn.Read(make([]byte, 1))
	return err
}
