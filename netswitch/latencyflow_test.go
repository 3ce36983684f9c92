package netswitch

import (
	"net/netip"
	"testing"
	"time"
)

var benchNow = time.Now()

// flowStep is one segment at a time in ms: from the client ('>') or the server ('<').
type flowStep struct {
	ms       int
	way      byte
	flags    byte
	seq, ack uint32
	payload  uint32
}

const syn, ack, fin, rst = flagSYN, flagACK, flagFIN, flagRST

// TestLatencyFlows plays segments and compares the times, in ms, that were measured.
func TestLatencyFlows(t *testing.T) {
	open := []flowStep{{0, '>', syn, 99, 0, 0}, {1, '<', syn | ack, 499, 100, 0}, {2, '>', ack, 100, 500, 0}}
	with := func(more ...flowStep) []flowStep { return append(append([]flowStep(nil), open...), more...) }
	for name, c := range map[string]struct {
		steps []flowStep
		want  []int
		left  bool // the connection is still known at the end
	}{
		"one request":          {with(flowStep{10, '>', ack, 100, 500, 50}, flowStep{12, '<', ack, 500, 150, 0}, flowStep{40, '<', ack, 500, 150, 100}, flowStep{41, '<', ack, 600, 150, 100}), []int{30}, true},
		"keep-alive":           {with(flowStep{10, '>', ack, 100, 500, 50}, flowStep{40, '<', ack, 500, 150, 100}, flowStep{1000, '>', ack, 150, 600, 10}, flowStep{1007, '<', ack, 600, 160, 1}), []int{30, 7}, true},
		"request sent again":   {with(flowStep{10, '>', ack, 100, 500, 50}, flowStep{210, '>', ack, 100, 500, 50}, flowStep{240, '<', ack, 500, 150, 100}, flowStep{245, '>', ack, 100, 500, 50}, flowStep{250, '<', ack, 600, 150, 10}), []int{230}, true},
		"answer sent again":    {with(flowStep{10, '>', ack, 100, 500, 50}, flowStep{40, '<', ack, 500, 150, 100}, flowStep{60, '>', ack, 150, 600, 10}, flowStep{62, '<', ack, 500, 150, 100}, flowStep{90, '<', ack, 600, 160, 1}), []int{30, 30}, true},
		"long request":         {with(flowStep{10, '>', ack, 100, 500, 1000}, flowStep{20, '>', ack, 1100, 500, 1000}, flowStep{50, '<', ack, 500, 2100, 1}), []int{40}, true},
		"segments swapped":     {with(flowStep{10, '>', ack, 1100, 500, 1000}, flowStep{20, '>', ack, 100, 500, 1000}, flowStep{50, '<', ack, 500, 2100, 1}), []int{40}, true},
		"pipelined":            {with(flowStep{10, '>', ack, 100, 500, 50}, flowStep{11, '>', ack, 150, 500, 50}, flowStep{40, '<', ack, 500, 200, 100}, flowStep{70, '<', ack, 600, 200, 100}), []int{30}, true},
		"earlier answer's end": {with(flowStep{10, '>', ack, 100, 500, 50}, flowStep{40, '<', ack, 500, 150, 100}, flowStep{41, '>', ack, 150, 600, 50}, flowStep{42, '<', ack, 600, 150, 100}, flowStep{71, '<', ack, 700, 200, 100}), []int{30, 30}, true},
		"server speaks first":  {with(flowStep{10, '<', ack, 500, 100, 80}, flowStep{50, '>', ack, 100, 580, 10}, flowStep{55, '<', ack, 580, 110, 10}), []int{5}, true},
		"keepalive probe":      {with(flowStep{10, '>', ack, 99, 500, 1}, flowStep{11, '<', ack, 500, 100, 0}, flowStep{20, '>', ack, 100, 500, 5}, flowStep{25, '<', ack, 500, 105, 1}), []int{5}, true},
		"SYN sent again":       {with(flowStep{3, '>', syn, 99, 0, 0}, flowStep{10, '>', ack, 100, 500, 50}, flowStep{40, '<', ack, 500, 150, 1}), []int{30}, true},
		"port used again":      {with(flowStep{10, '>', ack, 100, 500, 50}, flowStep{20, '>', syn, 7000, 0, 0}, flowStep{21, '<', syn | ack, 9000, 7001, 0}, flowStep{30, '>', ack, 7001, 9001, 5}, flowStep{33, '<', ack, 9001, 7006, 5}), []int{3}, true},
		"half closed":          {with(flowStep{10, '>', ack | fin, 100, 500, 50}, flowStep{40, '<', ack | fin, 500, 151, 100}), []int{30}, false},
		"reset":                {with(flowStep{10, '>', ack, 100, 500, 50}, flowStep{20, '<', rst, 500, 150, 0}, flowStep{40, '<', ack, 500, 150, 0}), nil, false},
		"closed":               {with(flowStep{10, '>', ack, 100, 500, 50}, flowStep{20, '<', ack, 500, 150, 9}, flowStep{21, '>', ack | fin, 150, 509, 0}, flowStep{22, '<', ack | fin, 509, 151, 0}, flowStep{23, '>', ack, 151, 510, 0}), []int{10}, false},
		"seen from the middle": {[]flowStep{{10, '>', ack, 100, 500, 50}, {40, '<', ack, 500, 150, 10}, {50, '>', ack, 150, 510, 50}, {58, '<', ack, 510, 200, 10}}, []int{8}, true},
		"numbers wrap":         {[]flowStep{{0, '>', syn, 0xffffffdf, 0, 0}, {1, '<', syn | ack, 0xfffffffe, 0xffffffe0, 0}, {10, '>', ack, 0xffffffe0, 0xffffffff, 100}, {15, '<', ack, 0xffffffff, 68, 10}, {20, '>', ack, 68, 9, 5}, {27, '<', ack, 9, 73, 5}}, []int{5, 7}, true},
	} {
		t.Run(name, func(t *testing.T) {
			flows, backends := newLatencyFlows(), map[netip.AddrPort]bool{backend4: true}
			t0 := time.Now()
			var got []int
			// Each segment is seen on two ports.
			for _, s := range c.steps {
				f := latencyFrame{client4, backend4, s.seq, s.ack, s.payload, s.flags}
				if s.way == '<' {
					f.src, f.dst = backend4, client4
				}
				for range 2 {
					if _, took, ok := flows.see(f, backends, t0.Add(time.Duration(s.ms)*time.Millisecond)); ok {
						got = append(got, int(took.Milliseconds()))
					}
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("measured %v, want %v", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("measured %v, want %v", got, c.want)
				}
			}
			if left := len(flows.flows) > 0; left != c.left {
				t.Errorf("still known: %v, want %v", left, c.left)
			}
		})
	}
}

func TestLatencyFlowsAreBounded(t *testing.T) {
	flows, backends, now := newLatencyFlows(), map[netip.AddrPort]bool{backend4: true}, time.Now()
	for i := range uint32(maxLatencyFlows + 10) {
		c := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 9)
		flows.see(latencyFrame{src: c, dst: backend4, flags: flagSYN, seq: i}, backends, now)
	}
	if len(flows.flows) != maxLatencyFlows || flows.refused != 10 {
		t.Errorf("%d flows, %d refused", len(flows.flows), flows.refused)
	}
	flows.see(latencyFrame{src: client4, dst: client6, flags: flagSYN}, backends, now) // neither is a backend
	flows.sweep(now.Add(latencyHalfOpen + time.Second))
	if len(flows.flows) != 0 {
		t.Errorf("%d half-open ones are kept", len(flows.flows))
	}
	flows.see(latencyFrame{src: client4, dst: backend4, flags: flagSYN, seq: 1}, backends, now)
	flows.see(latencyFrame{src: client4, dst: backend4, flags: flagACK, seq: 2, payload: 5}, backends, now)
	flows.sweep(now.Add(latencyLongest - time.Second))
	for start := range flows.waiting {
		if !start.Equal(now) {
			t.Errorf("waits since %s", start)
		}
	}
	flows.sweep(now.Add(latencyLongest + time.Second))
	for range flows.waiting {
		t.Error("no answer after a minute, still a request")
	}
	flows.sweep(now.Add(latencyIdle + time.Second))
	if len(flows.flows) != 0 {
		t.Error("a silent connection is kept")
	}
}
