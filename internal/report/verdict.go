package report

import (
	"fmt"
	"strings"
	"time"
)

// tone is how a statement is coloured. It is always said in words too.
type tone string

const (
	good    tone = "good"
	bad     tone = "bad"
	neutral tone = "neutral" // not measured, or not applicable
)

// verdict is the top of the page.
type verdict struct {
	Tone            tone
	Headline, Where string
}

func (r *Report) verdict(zone *time.Location) verdict {
	v := verdict{Tone: neutral}
	switch r.Result {
	case Switched, Finalized:
		v.Tone, v.Headline = good, "Switched to the new version"
		if r.Result == Finalized {
			v.Headline = "The new version has taken over for good"
		}
		v.Where = "Clients are on the new version" + since(r.Switch, zone) + "."
		if r.Result == Switched {
			v.Where += " The old version is kept unchanged for a way back."
		}
	case RolledBack:
		v.Headline, v.Where = "Rolled back to the old version", "Clients were on the new version for a time and are back on the old one."
	case Aborted:
		v.Headline, v.Where = "Given up before the switch", "Clients stayed on the old version all the time."
	case Ready:
		v.Tone, v.Headline = good, "Ready to switch"
		v.Where = "The new version is converted and tested. Clients are on the old version until somebody switches."
	default:
		v.Tone, v.Headline = bad, "Failed"
		v.Where = "The upgrade stopped and a person must look before it goes on."
	}
	for _, p := range r.promises() {
		if p.Tone == bad {
			v.Tone = bad
		}
	}
	return v
}

func since(s *Switch, zone *time.Location) string {
	if s == nil || s.Flipped.IsZero() {
		return ""
	}
	return " since " + clock(s.Flipped, zone) + " (" + s.Flipped.In(zone).Format("2 January 2006, MST") + ")"
}

// promise is one of the three properties that an upgrade must have, and whether it held.
type promise struct {
	Tone              tone
	Name, Means, Held string
}

func (r *Report) promises() []promise {
	return []promise{r.atomicity(), r.isolation(), r.testing()}
}

func (r *Report) atomicity() promise {
	p := promise{Name: "Atomicity", Means: "A client reaches all of the old version or all of the new one, never a mixture, and no request is lost."}
	c := r.Clients
	switch {
	case c.Requests == 0:
		p.Tone, p.Held = neutral, "Not measured: there are no logs of clients."
	case c.Failed > 0 || c.Mixed > 0:
		p.Tone = bad
		p.Held = fmt.Sprintf("Of %s, %s failed and %s answered by the wrong version.", plural(c.Requests, "request", "requests"), number(c.Failed), wereAnswered(c.Mixed))
	default:
		p.Tone = good
		p.Held = fmt.Sprintf("All %s were answered, each by exactly the right version; the longest took %s.", plural(c.Requests, "request", "requests"), millis(c.LongestPauseMS))
	}
	return p
}

func wereAnswered(n int64) string {
	if n == 1 {
		return "1 was"
	}
	return number(n) + " were"
}

func (r *Report) isolation() promise {
	p := promise{Name: "Isolation", Means: "Nothing done for the upgrade changes production, and nothing leaves the universe before the switch."}
	i := r.Isolation
	var faults, gaps []string
	verdictOf(i.DomainXMLUnchanged, "a production domain's definition changed", "definitions", &faults, &gaps)
	verdictOf(i.DiskChainUnchanged, "a production disk chain changed", "disk chains", &faults, &gaps)
	switch {
	case i.PacketsLeft == nil:
		gaps = append(gaps, "packets")
	case *i.PacketsLeft > 0:
		faults = append(faults, plural(int64(*i.PacketsLeft), "packet", "packets")+" left the universe")
	}
	switch {
	case len(faults) > 0:
		text := strings.Join(faults, "; ") + "."
		p.Tone, p.Held = bad, strings.ToUpper(text[:1])+text[1:]
	case len(gaps) > 0:
		p.Tone, p.Held = neutral, "Not measured at the end: "+strings.Join(gaps, ", ")+"."
	default:
		p.Tone = good
		p.Held = fmt.Sprintf("Definitions and disk chains of %s are equal before and after, by SHA-256; no packet left.", plural(int64(len(i.Domains)), "production VM", "production VMs"))
	}
	return p
}

func verdictOf(unchanged *bool, fault, gap string, faults, gaps *[]string) {
	switch {
	case unchanged == nil:
		*gaps = append(*gaps, gap)
	case !*unchanged:
		*faults = append(*faults, fault)
	}
}

func (r *Report) testing() promise {
	p := promise{Name: "Tested before use", Means: "The new version is tested, and its data compared with the old, before a client sees it."}
	failed := 0
	for _, t := range r.Tests {
		if !t.Passed {
			failed++
		}
	}
	compared := fmt.Sprintf("%s of %s verified", number(r.Data.Verified), plural(r.Data.Objects, "object", "objects"))
	switch {
	case failed > 0 || len(r.Data.Checks) > 0 && !r.Data.OK():
		p.Tone = bad
		p.Held = fmt.Sprintf("%d of %s failed; %s.", failed, plural(int64(len(r.Tests)), "check", "checks"), compared)
	case len(r.Tests) == 0 && len(r.Data.Checks) == 0:
		p.Tone, p.Held = neutral, "Neither checks nor comparisons were made."
	case len(r.Data.Checks) == 0:
		p.Tone, p.Held = neutral, fmt.Sprintf("%s passed; no data was compared.", plural(int64(len(r.Tests)), "check", "checks"))
	default:
		p.Tone = good
		p.Held = fmt.Sprintf("%s passed; %s, none missing, extra or different.", plural(int64(len(r.Tests)), "check", "checks"), compared)
	}
	return p
}
