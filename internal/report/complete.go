package report

import "time"

// complete derives what follows from the rest, so that a report cannot contradict itself.
func (r *Report) complete() {
	r.Format = 1
	if !r.Started.IsZero() && r.Ended.After(r.Started) {
		r.Seconds = r.Ended.Sub(r.Started).Seconds()
	}
	r.Isolation.complete()
	r.Data.complete()
	r.Clients.complete()
	// Readers of the JSON find a list, if an empty one, where a list belongs.
	r.Phases, r.Tests = notNil(r.Phases), notNil(r.Tests)
	r.Clone.PerVM, r.Clone.Frozen = notNil(r.Clone.PerVM), notNil(r.Clone.Frozen)
	r.Isolation.Attempts, r.Isolation.Domains = notNil(r.Isolation.Attempts), notNil(r.Isolation.Domains)
	r.Data.Checks = notNil(r.Data.Checks)
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func (i *Isolation) complete() {
	i.DomainXMLUnchanged = unchanged(i.Domains, func(d DomainProof) (string, string) { return d.XMLBefore, d.XMLAfter })
	i.DiskChainUnchanged = unchanged(i.Domains, func(d DomainProof) (string, string) { return d.DiskChainBefore, d.DiskChainAfter })
}

// unchanged is false when any pair of sums differs, nil when none does but some were not taken, and else true.
func unchanged(domains []DomainProof, sums func(DomainProof) (before, after string)) *bool {
	same, missing := true, len(domains) == 0
	for _, d := range domains {
		before, after := sums(d)
		if before == "" || after == "" {
			missing = true
		} else if before != after {
			same = false
		}
	}
	if same && missing {
		return nil
	}
	return &same
}

func (d *Data) complete() {
	d.Objects, d.Verified, d.Missing, d.Extra, d.Different, d.Doubled, d.Lost, d.OutOfOrder = 0, 0, 0, 0, 0, 0, 0, 0
	for _, c := range d.Checks {
		d.Objects += c.Objects
		d.Verified += c.Verified
		d.Missing += c.Missing.Count
		d.Extra += c.Extra.Count
		d.Different += c.Different.Count
		d.Doubled += c.Doubled.Count
	}
	d.Lost = d.Missing
	if l := d.Ledger; l != nil {
		d.Lost += int64(len(l.Lost))
		d.Doubled += int64(len(l.Doubled))
		d.OutOfOrder += int64(len(l.OutOfOrder))
	}
}

// OK reports whether all data was compared and found the same.
func (d Data) OK() bool {
	return len(d.Checks) > 0 && d.Verified == d.Objects && d.Lost+d.Extra+d.Different+d.Doubled+d.OutOfOrder == 0
}

// OK reports whether the comparison found both sides the same.
func (c DataCheck) OK() bool {
	return c.Verified == c.Objects && c.Missing.Count+c.Extra.Count+c.Different.Count+c.Doubled.Count == 0
}

// held gives the time during which clients were held for the switch; ok is false when they were not.
func (r *Report) held() (from, to time.Time, ok bool) {
	if r.Switch == nil || r.Switch.HeldFrom.IsZero() {
		return from, to, false
	}
	from = r.Switch.HeldFrom
	return from, from.Add(time.Duration(r.Switch.HoldMS * float64(time.Millisecond))), true
}
