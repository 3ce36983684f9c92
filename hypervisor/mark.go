package hypervisor

import (
	"context"
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"libvirt.org/go/libvirt"
)

// Namespace is the XML namespace of imago's mark in <metadata>.
const Namespace = "https://imago.dev/xmlns/1"

// Mark says in a domain's <metadata> that imago made it and for which run.
type Mark struct {
	Run        string    // the run's identifier; never empty
	SourceUUID string    // the production domain it was cloned from; empty for a VM from a new image
	Expires    time.Time // when nobody needs it any more; zero means never
}

// markXML is the mark on the wire. It carries the UUID of the domain it was
// written for, so that a copy made with other tools does not pass as ours.
type markXML struct {
	XMLName xml.Name `xml:"vm"`
	Run     string   `xml:"run,attr"`
	UUID    string   `xml:"uuid,attr"`
	Source  string   `xml:"source,attr,omitempty"`
	Expires string   `xml:"expires,attr,omitempty"`
}

// encodeMark writes the mark with a namespace prefix, as libvirt wants it.
func encodeMark(m Mark, uuid string) (string, error) {
	type prefixed struct {
		XMLName xml.Name `xml:"imago:vm"`
		NS      string   `xml:"xmlns:imago,attr"`
		Run     string   `xml:"run,attr"`
		UUID    string   `xml:"uuid,attr"`
		Source  string   `xml:"source,attr,omitempty"`
		Expires string   `xml:"expires,attr,omitempty"`
	}
	p := prefixed{NS: Namespace, Run: m.Run, UUID: uuid, Source: m.SourceUUID}
	if !m.Expires.IsZero() {
		p.Expires = m.Expires.UTC().Format(time.RFC3339)
	}
	out, err := xml.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("write imago's mark: %w", err)
	}
	return string(out), nil
}

// decodeMark reads a mark; it is ours only if it was written for that UUID.
// space is the XML namespace that its element must have.
func decodeMark(text, space, uuid string) (Mark, bool) {
	var w markXML
	if err := xml.Unmarshal([]byte(text), &w); err != nil {
		return Mark{}, false
	}
	if w.XMLName.Space != space || w.Run == "" || !strings.EqualFold(w.UUID, uuid) {
		return Mark{}, false
	}
	m := Mark{Run: w.Run, SourceUUID: w.Source}
	if t, err := time.Parse(time.RFC3339, w.Expires); err == nil {
		m.Expires = t
	}
	return m, true
}

// IsOurs reads the domain's mark. Without a valid one, ours is false.
func (d *Domain) IsOurs(ctx context.Context) (mark Mark, ours bool, err error) {
	if ctx.Err() != nil {
		return Mark{}, false, context.Cause(ctx)
	}
	text, err := d.raw.GetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, Namespace, libvirt.DOMAIN_AFFECT_CURRENT)
	if isCode(err, libvirt.ERR_NO_DOMAIN_METADATA) {
		return Mark{}, false, nil
	}
	if err != nil {
		return Mark{}, false, fmt.Errorf("read the metadata of domain %q: %w", d.name, err)
	}
	// libvirt chose the element by its namespace, and strips that from its answer.
	mark, ours = decodeMark(text, "", d.uuid)
	return mark, ours, nil
}

// Marked lists the domains of ours that belong to run; all of ours when run is
// empty. The caller frees them.
func (c *Conn) Marked(ctx context.Context, run string) ([]*Domain, error) {
	all, err := c.raw.ListAllDomains(0)
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", err)
	}
	var found []*Domain
	for i := range all {
		d, err := c.wrap(&all[i])
		if err != nil {
			continue // it vanished between the list and the question
		}
		mark, ours, err := d.IsOurs(ctx)
		if err == nil && ours && (run == "" || mark.Run == run) {
			found = append(found, d)
			continue
		}
		_ = d.Free()
		if err != nil && ignoreGone(err) != nil {
			freeAll(found)
			return nil, err
		}
	}
	return found, nil
}

func freeAll(list []*Domain) {
	for _, d := range list {
		_ = d.Free()
	}
}
