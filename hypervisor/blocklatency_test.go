package hypervisor

import (
	"testing"
	"time"

	"libvirt.org/go/libvirt"
)

func TestBlockCounters(t *testing.T) {
	at := time.Unix(1000, 0)
	order := []string{"vda", "vdb"}
	before := BlockCounters{at: at, disks: map[string]blockTimes{"vda": {reads: 10, writes: 5, flushes: 1, readTime: time.Second, writeTime: time.Second, flushTime: time.Second}}}
	now := BlockCounters{at: at.Add(time.Second), disks: map[string]blockTimes{
		"vda": {reads: 12, writes: 6, flushes: 2, readTime: time.Second + 4*time.Millisecond, writeTime: time.Second + 6*time.Millisecond, flushTime: time.Second + 10*time.Millisecond},
		"vdb": {reads: 1},
	}}
	if got := now.since(BlockCounters{}, order); got != nil {
		t.Errorf("the first filling tells %v", got)
	}
	got := now.since(before, order)
	want := BlockLatency{"vda", before.at, now.at, 2, 2, 2 * time.Millisecond, 8 * time.Millisecond, 5 * time.Millisecond}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := before.since(now, order); got != nil {
		t.Errorf("counters that went back tell %v", got)
	}
	if got := now.since(now, order); len(got) != 2 || !got[0].Idle() || got[0].Mean != 0 {
		t.Errorf("no request: %v", got)
	}
}

func TestTimesOf(t *testing.T) {
	s := &libvirt.DomainBlockStats{RdReqSet: true, WrReqSet: true, RdTotalTimesSet: true, WrTotalTimesSet: true, RdReq: 3, RdTotalTimes: 9e6}
	if got, err := timesOf(s); err != nil || got.reads != 3 || got.readTime != 9*time.Millisecond {
		t.Errorf("%+v %v", got, err)
	}
	s.RdTotalTimesSet = false
	if _, err := timesOf(s); err == nil {
		t.Error("no times, no error")
	}
}

// TestRealBlockLatency asks a running guest, which reads the boot sector of its disk.
func TestRealBlockLatency(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a virtual machine")
	}
	if isolate(t) {
		return
	}
	conn := privateLibvirt(t)
	prod := production(t, conn)
	var last BlockCounters
	first, err := prod.BlockLatency(t.Context(), &last)
	if err != nil || first != nil {
		t.Fatalf("first: %v %v", first, err)
	}
	if len(last.disks) == 0 {
		t.Fatal("no disk was asked")
	}
	// As if the counters had been read before the guest started.
	start := BlockCounters{at: last.at, disks: map[string]blockTimes{}}
	for name := range last.disks {
		start.disks[name] = blockTimes{}
	}
	var busy bool
	for end := time.Now().Add(20 * time.Second); !busy && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		c := start
		all, err := prod.BlockLatency(t.Context(), &c)
		must(t, err)
		for _, l := range all {
			t.Logf("%+v", l)
			busy = busy || l.Reads > 0 && l.Mean > 0 && l.Mean < 10*time.Second
		}
	}
	if !busy {
		t.Error("the guest's firmware never read its disk")
	}
	if _, err := prod.Pressure(t.Context()); err == nil {
		t.Log("this guest has a control group")
	} else {
		t.Log(err)
	}
}
