package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func render(t *testing.T, r Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := Render(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestJSONShape holds the fields that others read by name.
func TestJSONShape(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "for it")
	if _, err := Write(dir, sample(t)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, JSONFile))
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Result string
		Phases []struct {
			Name    string
			Started time.Time
			Seconds float64
		}
		Clone struct {
			Seconds float64
			PerVM   []struct{ Name string } `json:"per_vm"`
		}
		Isolation struct {
			XML    *bool   `json:"domain_xml_unchanged"`
			Chain  *bool   `json:"disk_chain_unchanged"`
			Left   *uint64 `json:"packets_left"`
			Sealed any
		}
		Clients struct {
			Requests, Failed int64
			Longest          float64          `json:"longest_pause_ms"`
			ByVersion        map[string]int64 `json:"by_version"`
		}
		Data   struct{ Objects, Verified, Missing, Extra *int64 }
		Switch struct {
			Hold  float64 `json:"hold_ms"`
			Drain float64 `json:"drain_ms"`
			Flip  float64 `json:"flip_us"`
		}
		Seconds float64
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	switch {
	case r.Result != "switched" || len(r.Phases) != 5 || r.Phases[1].Name != "clone" || r.Phases[1].Seconds != 64:
		t.Errorf("result or phases: %+v", r)
	case len(r.Clone.PerVM) != 3 || r.Clone.Seconds != 63.2:
		t.Errorf("clone: %+v", r.Clone)
	case r.Isolation.XML == nil || !*r.Isolation.XML || r.Isolation.Chain == nil || !*r.Isolation.Chain || r.Isolation.Left == nil || *r.Isolation.Left != 0:
		t.Errorf("isolation: %+v", r.Isolation)
	case r.Clients.Requests < 500 || r.Clients.Failed != 0 || r.Clients.Longest < 50_000 || len(r.Clients.ByVersion) != 2:
		t.Errorf("clients: %+v", r.Clients)
	case *r.Data.Objects != 2162 || *r.Data.Verified != 2162 || *r.Data.Missing != 0 || *r.Data.Extra != 0:
		t.Errorf("data: %+v", r.Data)
	case r.Switch.Hold != 56250 || r.Switch.Drain != 812 || r.Switch.Flip != 37 || r.Seconds != 275:
		t.Errorf("switch: %+v, %v seconds", r.Switch, r.Seconds)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// TestEmptyReportSaysWhatWasNotMeasured holds that nothing is claimed that was not seen.
func TestEmptyReportSaysWhatWasNotMeasured(t *testing.T) {
	text, err := json.Marshal(func() Report { r := Report{Result: Aborted}; r.complete(); return r }())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"domain_xml_unchanged":null`, `"packets_left":null`, `"phases":[]`, `"by_version":{}`, `"per_vm":[]`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the JSON lacks %s", want)
		}
	}
	page := render(t, Report{Result: Aborted})
	for _, claim := range []string{"Held.", "equal", "good-text\">", "None tried", "No answer came from the wrong version"} {
		if strings.Contains(page, claim) {
			t.Errorf("the page claims %q", claim)
		}
	}
}

func TestIsolationVerdict(t *testing.T) {
	same := DomainProof{"a", "1", "1", "2", "2"}
	for _, c := range []struct {
		name       string
		domains    []DomainProof
		xml, chain string
	}{
		{"nothing measured", nil, "null", "null"},
		{"all the same", []DomainProof{same, same}, "true", "true"},
		{"one not taken at the end", []DomainProof{same, {"b", "1", "", "2", "2"}}, "null", "true"},
		{"one changed", []DomainProof{{"b", "1", "3", "2", "2"}, same}, "false", "true"},
		{"one changed and one not taken", []DomainProof{{"b", "1", "3", "2", ""}, {"c", "", "", "2", "2"}}, "false", "null"},
	} {
		i := Isolation{Domains: c.domains}
		i.complete()
		xml, err1 := json.Marshal(i.DomainXMLUnchanged)
		chain, err2 := json.Marshal(i.DiskChainUnchanged)
		if err1 != nil || err2 != nil || string(xml) != c.xml || string(chain) != c.chain {
			t.Errorf("%s: %s, %s; want %s, %s", c.name, xml, chain, c.xml, c.chain)
		}
	}
}

func TestVerdicts(t *testing.T) {
	good := sample(t)
	page := render(t, good)
	if strings.Count(page, "Held. ") != 3 || strings.Contains(page, "Not held") || strings.Contains(page, `class="bad-text"`) {
		t.Error("a good upgrade does not look like one")
	}
	page = render(t, broken(t))
	for _, want := range []string{`class="verdict bad"`, "A production domain&#39;s definition changed; 3 packets left the universe.", "1 failed and 2 were answered by the wrong version", "1 of 3 checks failed", "not taken", "differs", "1204", "connection reset by peer"} {
		if !strings.Contains(page, want) {
			t.Errorf("a broken upgrade does not say %q", want)
		}
	}
	// A good result does not hide what went wrong on the way.
	good.Clients.Failed = 1
	if v := good.verdict(time.UTC); v.Tone != bad {
		t.Errorf("a switch with a lost request is %s", v.Tone)
	}
}

// TestHostileTextIsEscaped puts markup and hidden characters wherever guests, clients and plans put text.
func TestHostileTextIsEscaped(t *testing.T) {
	const evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e\x00\x1b[31m{{.}}"
	r := broken(t)
	r.Reason, r.Run, r.Plan = evil, evil, Plan{evil, evil, evil, evil}
	r.Warnings, r.Versions = []string{evil}, map[string]string{evil: evil}
	r.Phases[0].Name, r.Phases[0].Detail, r.Phases[0].Outcome, r.Phases[2].Steps[0].Name = evil, evil, evil, evil
	r.Clone.PerVM[0], r.Clone.Frozen[0].Consistency = CloneVM{Name: evil, From: evil}, evil
	r.Isolation.Domains[0] = DomainProof{evil, evil, evil, evil, evil}
	r.Isolation.Attempts[0].Destination, r.Isolation.Attempts[0].Protocol = evil, evil
	r.Tests[1] = Test{Name: evil, Error: evil}
	r.Data.Checks[1].Name, r.Data.Checks[1].Missing.Sample = evil, []string{evil}
	r.Clients.ByVersion[evil], r.Clients.OldVersion = 4, evil
	r.Clients.Failures[0] = Failure{Client: evil, Method: evil, Path: evil, Error: evil}
	r.Points[0].ByVersion[evil] = 3
	r.Rollback.Lost[0].Name = evil
	page := render(t, r)
	for _, bad := range []string{"<script", "<img", "onerror=alert(1)>\u202e", "\u202e", "\x00", "\x1b"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	if strings.Count(page, "&lt;script&gt;") < 20 {
		t.Error("hostile text was dropped, not escaped")
	}
}

// TestPageStandsAlone holds that no browser asks anybody for anything.
func TestPageStandsAlone(t *testing.T) {
	page := render(t, sample(t))
	if m := regexp.MustCompile(`(?i)(<script|<link|<iframe|<img|src=|href=|url\(|@import|https?://)`).FindString(page); m != "" {
		t.Errorf("the page contains %q", m)
	}
	if !strings.Contains(page, "default-src 'none'") {
		t.Error("the page does not forbid it either")
	}
}

// TestDrawingsStayInside holds every shape inside its drawing, whatever the times.
func TestDrawingsStayInside(t *testing.T) {
	odd := broken(t)
	odd.Phases = append(odd.Phases, Phase{Name: "no time"}, Phase{Name: "long", Started: began, Seconds: 1e7}, Phase{Name: "before", Started: began.Add(-time.Hour), Seconds: 0})
	odd.Switch.HeldFrom, odd.Switch.Flipped = began.Add(-time.Hour), began.Add(time.Hour)
	for name, r := range map[string]Report{"good": sample(t), "broken": broken(t), "odd": odd} {
		g := drawGantt(r.Phases, time.UTC)
		for _, row := range g.Rows {
			if row.X < nameWidth || row.X+row.W > drawWidth || row.Y+row.BarHeight > g.Height {
				t.Errorf("%s: bar of %s at %.0f, %.0f wide", name, row.Name, row.X, row.W)
			}
		}
		s := r.drawStrip(time.UTC)
		for _, b := range append(s.Bars, s.Waits...) {
			if b.X < stripLeft-0.1 || b.X+b.W > drawWidth || b.Y < countTop-0.1 || b.H < 0 || b.Y+b.H > slowBase+0.1 {
				t.Errorf("%s: bar %+v", name, b)
			}
		}
		if s.Hold.X < stripLeft || s.Hold.X+s.Hold.W > drawWidth {
			t.Errorf("%s: hold %+v", name, s.Hold)
		}
	}
}

// TestLongWaitIsCut holds that two days between phases do not press the work into a line.
func TestLongWaitIsCut(t *testing.T) {
	g := drawGantt([]Phase{{Name: "test", Started: began, Seconds: 60}, {Name: "switch", Started: began.Add(48 * time.Hour), Seconds: 60}}, time.UTC)
	if len(g.Gaps) != 1 || g.Rows[0].W < 200 || g.Rows[1].W < 200 {
		t.Errorf("gaps %v, widths %.0f and %.0f", g.Gaps, g.Rows[0].W, g.Rows[1].W)
	}
}

// TestWriteReplacesWhole holds that a failed write leaves the old report.
func TestWriteReplacesWhole(t *testing.T) {
	dir := t.TempDir()
	for _, run := range []string{"first", "second"} {
		if _, err := Write(dir, Report{Run: run}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, JSONFile))
	if err != nil || !strings.Contains(string(text), `"run": "second"`) {
		t.Errorf("not replaced: %v", err)
	}
	blocked := t.TempDir()
	if err := os.MkdirAll(filepath.Join(blocked, HTMLFile, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(blocked, Report{}); err == nil {
		t.Error("wrote over a folder")
	}
	if left, err := filepath.Glob(filepath.Join(blocked, ".report*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWords(t *testing.T) {
	plain := func(s string) string { return strings.ReplaceAll(s, thin, " ") }
	for _, c := range [][2]string{
		{seconds(0.0042), "4.20 ms"}, {seconds(0.812), "812 ms"}, {seconds(41.23), "41.2 s"}, {seconds(185), "3 min 05 s"}, {seconds(119.7), "2 min 00 s"},
		{seconds(8040), "2 h 14 min"}, {seconds(259200), "3.0 days"}, {seconds(-1), "–"}, {micros(37), "37 µs"}, {micros(13900), "13.9 ms"},
		{size(17), "17 B"}, {size(3 << 30), "3.0 GiB"}, {number(1234567), "1 234 567"}, {number(-1000), "−1 000"}, {number(999), "999"},
	} {
		if plain(c[0]) != c[1] {
			t.Errorf("got %q, want %q", plain(c[0]), c[1])
		}
	}
}
