package hypervisor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// Fingerprint proves that a production domain is as it was: its XML, running
// and configured, and the headers of every image of every disk's chain.
type Fingerprint struct {
	Domain          string `json:"domain"`
	XMLSHA256       string `json:"xml_sha256"`
	DiskChainSHA256 string `json:"disk_chain_sha256"`

	// What the hashes were made of, for [Diff]. The XML here is without
	// passwords; the hash covers them.
	ActiveXML   string                   `json:"active_xml,omitempty"`
	InactiveXML string                   `json:"inactive_xml,omitempty"`
	DiskChain   map[string][]ImageHeader `json:"disk_chain"`
}

// Fingerprint reads the domain without changing it.
func (d *Domain) Fingerprint(ctx context.Context) (Fingerprint, error) {
	fp := Fingerprint{Domain: d.name}
	if err := d.fingerprintXML(ctx, &fp); err != nil {
		return Fingerprint{}, err
	}
	if err := d.fingerprintDisks(ctx, &fp); err != nil {
		return Fingerprint{}, fmt.Errorf("fingerprint the disks of domain %q: %w", d.name, err)
	}
	return fp, nil
}

func (d *Domain) fingerprintXML(ctx context.Context, fp *Fingerprint) error {
	sum := sha256.New()
	for _, part := range []struct {
		flags libvirt.DomainXMLFlags
		keep  *string
	}{{0, &fp.ActiveXML}, {libvirt.DOMAIN_XML_INACTIVE, &fp.InactiveXML}} {
		secret, err := d.stableXML(ctx, part.flags|libvirt.DOMAIN_XML_SECURE)
		if err != nil {
			return err
		}
		sum.Write([]byte(secret))
		if *part.keep, err = d.stableXML(ctx, part.flags); err != nil {
			return err
		}
	}
	fp.XMLSHA256 = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// stableXML is the domain's XML without what the guest itself changes at any
// time: whether its agent is connected, its balloon, its clock, its CD tray.
func (d *Domain) stableXML(ctx context.Context, flags libvirt.DomainXMLFlags) (string, error) {
	dom, err := d.describe(ctx, flags)
	if err != nil {
		return "", err
	}
	dropGuestState(dom)
	text, err := dom.Marshal()
	if err != nil {
		return "", fmt.Errorf("write the XML of domain %q: %w", d.name, err)
	}
	return text, nil
}

func dropGuestState(dom *libvirtxml.Domain) {
	dom.CurrentMemory = nil
	if dom.Clock != nil {
		dom.Clock.Adjustment = ""
	}
	if dom.Devices == nil {
		return
	}
	for i := range dom.Devices.Channels {
		if t := dom.Devices.Channels[i].Target; t != nil && t.VirtIO != nil {
			t.VirtIO.State = ""
		}
	}
	for i := range dom.Devices.Disks {
		if t := dom.Devices.Disks[i].Target; t != nil {
			t.Tray = ""
		}
	}
}

func (d *Domain) fingerprintDisks(ctx context.Context, fp *Fingerprint) error {
	disks, err := d.Disks(ctx)
	if err != nil {
		return err
	}
	fp.DiskChain = map[string][]ImageHeader{}
	for _, disk := range disks {
		if disk.Path == "" {
			continue
		}
		chain, err := ReadImageChain(disk.Path, disk.Format)
		if err != nil {
			return err
		}
		fp.DiskChain[disk.Target] = chain
	}
	// Map keys come out sorted, so equal chains give equal text.
	text, err := json.Marshal(fp.DiskChain)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	fp.DiskChainSHA256 = hex.EncodeToString(sum[:])
	return nil
}

// Diff explains, a line each, how b differs from a; empty if they are equal.
func Diff(a, b Fingerprint) []string {
	if a.XMLSHA256 == b.XMLSHA256 && a.DiskChainSHA256 == b.DiskChainSHA256 {
		return nil
	}
	var out []string
	out = append(out, diffLines("running", a.ActiveXML, b.ActiveXML)...)
	out = append(out, diffLines("configured", a.InactiveXML, b.InactiveXML)...)
	if a.DiskChainSHA256 != b.DiskChainSHA256 {
		out = append(out, diffLines("disks", chainText(a), chainText(b))...)
	}
	if len(out) == 0 {
		out = append(out, "a secret in the XML differs (not shown)")
	}
	return out
}

func chainText(f Fingerprint) string {
	text, err := json.MarshalIndent(f.DiskChain, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// diffLines compares texts by their longest common subsequence of lines.
func diffLines(label, a, b string) []string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	common := commonTable(x, y)
	var out []string
	i, j := 0, 0
	for i < len(x) || j < len(y) {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			i, j = i+1, j+1
		case j == len(y) || i < len(x) && common[i+1][j] >= common[i][j+1]:
			out, i = append(out, label+": - "+strings.TrimSpace(x[i])), i+1
		default:
			out, j = append(out, label+": + "+strings.TrimSpace(y[j])), j+1
		}
	}
	return out
}

// commonTable holds the length of the longest common subsequence of x[i:] and y[j:].
func commonTable(x, y []string) [][]int {
	t := make([][]int, len(x)+1)
	for i := range t {
		t[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				t[i][j] = t[i+1][j+1] + 1
			} else {
				t[i][j] = max(t[i+1][j], t[i][j+1])
			}
		}
	}
	return t
}
