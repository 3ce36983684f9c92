package netswitch

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// talk drives one flow by hand, with the numbers of both sides counted here.
type talk struct {
	t    testing.TB
	f    *flow
	now  time.Time
	c, s uint32
	shut bool // closing is wanted
	cut  bool
}

func newTalk(t testing.TB, app App) *talk {
	now := time.Now()
	f := newFlow(flowKey{netip.MustParseAddrPort("198.51.100.7:4000"), netip.MustParseAddrPort("198.51.100.1:80")}, app, now)
	f.strict = true
	return &talk{t: t, f: f, now: now, c: 0xfffffff0, s: 0xffffff00, shut: true} // both wrap soon
}

func (k *talk) seg(tcp layers.TCP, data string) segment {
	tcp.ACK = true
	p, err := parseSegment(packet(k.t, tcp, []byte(data)))
	if err != nil {
		k.t.Fatal(err)
	}
	return p
}

func (k *talk) client(data string, fin bool) (verdict, segment) {
	p := k.seg(layers.TCP{SrcPort: 4000, DstPort: 80, Seq: k.c, Ack: k.s, FIN: fin}, data)
	v := k.f.fromClient(p, k.now, k.cut)
	if v == pass || v == passChanged {
		k.c += uint32(len(data))
	}
	return v, p
}

func (k *talk) server(data string, fin bool) (verdict, segment) {
	p := k.seg(layers.TCP{SrcPort: 80, DstPort: 4000, Seq: k.s, Ack: k.c, FIN: fin}, data)
	v := k.f.fromServer(p, k.now, k.shut)
	k.s += uint32(len(data))
	return v, p
}

const (
	getReq  = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	dated   = "HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\nContent-Length: 5\r\n\r\n"
	undated = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
)

func TestFlowEndsWithTheAnswer(t *testing.T) {
	k := newTalk(t, HTTP)
	if v, _ := k.client(getReq, false); v != pass || !k.f.inFlight() {
		t.Fatal("request not followed")
	}
	v, p := k.server(dated, false)
	if v != passChanged || p.has(flagFIN) || !strings.Contains(string(p.payload()), "Connection: close  ") {
		t.Fatalf("header: %v %q", v, p.payload())
	}
	if len(p.payload()) != len(dated) {
		t.Fatal("the length has changed")
	}
	body := k.s
	v, p = k.server("hello", false)
	if v != passChanged || !p.has(flagFIN) || k.f.phase != flowClosing || k.f.finished() {
		t.Fatalf("last byte: %v, phase %d", v, k.f.phase)
	}
	// The server repeats the bytes: the FIN is repeated with them.
	again := k.seg(layers.TCP{SrcPort: 80, DstPort: 4000, Seq: body}, "hello")
	if v := k.f.fromServer(again, k.now, true); v != passChanged || !again.has(flagFIN) {
		t.Errorf("repeated: %v", v)
	}
	// The client acknowledges a FIN that the server has not sent.
	ack := k.seg(layers.TCP{SrcPort: 4000, DstPort: 80, Seq: k.c, Ack: k.s + 1, FIN: true}, "")
	if v := k.f.fromClient(ack, k.now, true); v != passChanged || ack.ack() != k.s || !k.f.finished() {
		t.Errorf("acknowledgement: %v, %d", v, ack.ack()-k.s)
	}
	// The server's bare acknowledgement must fit behind the FIN for the client.
	bare := k.seg(layers.TCP{SrcPort: 80, DstPort: 4000, Seq: k.s, Ack: k.c + 1}, "")
	if v := k.f.fromServer(bare, k.now, true); v != passChanged || bare.seq() != k.s+1 {
		t.Errorf("bare acknowledgement: %v", v)
	}
	// Its own FIN has the number of ours and passes; from then on nothing is changed.
	if v, _ := k.server("", true); v != pass {
		t.Errorf("server's FIN: %v", v)
	}
	last := k.seg(layers.TCP{SrcPort: 4000, DstPort: 80, Seq: k.c + 1, Ack: k.s + 1}, "")
	if v := k.f.fromClient(last, k.now, true); v != pass {
		t.Errorf("last acknowledgement: %v", v)
	}
}

func TestFlowWithoutExpendableHeader(t *testing.T) {
	k := newTalk(t, HTTP)
	k.client(getReq, false)
	if v, p := k.server(undated+"hello", false); v != passChanged || !p.has(flagFIN) || string(p.payload()) != undated+"hello" {
		t.Errorf("%v %q", v, p.payload())
	}
}

// A header that passed before the hold could not say close: that connection is
// left for its next answer.
func TestFlowBegunBeforeTheHoldIsLeftForTheNextAnswer(t *testing.T) {
	k := newTalk(t, HTTP)
	k.shut = false
	k.client(getReq, false)
	k.server(dated, false)
	k.shut = true
	if v, p := k.server("hello", false); v != pass || p.has(flagFIN) {
		t.Fatalf("%v", v)
	}
	if k.f.inFlight() || k.f.finished() {
		t.Fatal("should be idle and open")
	}
	k.client(getReq, false)
	if _, p := k.server(dated+"hello", false); !p.has(flagFIN) {
		t.Error("not closed with the next answer")
	}
}

func TestFlowRetransmissionCarriesThePatch(t *testing.T) {
	k := newTalk(t, HTTP)
	k.client(getReq, false)
	at := k.s
	_, first := k.server(dated, false)
	for _, from := range []int{0, 20, 30} {
		again := k.seg(layers.TCP{SrcPort: 80, DstPort: 4000, Seq: at + uint32(from)}, dated[from:])
		if v := k.f.fromServer(again, k.now, true); v != passChanged || string(again.payload()) != string(first.payload()[from:]) {
			t.Errorf("from %d: %v %q", from, v, again.payload())
		}
	}
}

func TestFlowPipelined(t *testing.T) {
	k := newTalk(t, HTTP)
	k.client(getReq+"HEAD / HTTP/1.1\r\n\r\n"+getReq, false)
	if v, p := k.server(dated+"hello"+dated, false); v != pass || p.has(flagFIN) {
		t.Fatalf("two of three: %v", v)
	}
	if v, _ := k.server(dated, false); v != passChanged {
		t.Fatalf("the last header: %v", v)
	}
	if v, _ := k.client(getReq, false); v != discard {
		t.Errorf("a request after close was said: %v", v)
	}
	if _, p := k.server("hello", false); !p.has(flagFIN) {
		t.Error("not closed")
	}
}

func TestFlowGapsAreNotDelivered(t *testing.T) {
	k := newTalk(t, HTTP)
	k.client(getReq, false)
	k.s += 3
	if v, _ := k.server("lost before", false); v != discard {
		t.Errorf("server's gap: %v", v)
	}
	k = newTalk(t, HTTP)
	k.f.strict = false
	k.client(getReq, false)
	k.s += 3
	if v, _ := k.server("lost before", false); v != pass || k.f.sync != syncOpaque {
		t.Errorf("watched: %v", v)
	}
}

func TestFlowUpgradeIsOpaque(t *testing.T) {
	k := newTalk(t, HTTP)
	k.client("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", false)
	v, p := k.server("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello", false)
	if v != pass || p.has(flagFIN) || k.f.sync != syncOpaque || !k.f.inFlight() {
		t.Fatalf("%v, sync %d", v, k.f.sync)
	}
	times := holdTimes{quiet: time.Second, idle: time.Second}
	if out := k.f.tick(k.now.Add(2*time.Second), times); out != nil {
		t.Error("closed, and the client lacks bytes")
	}
	k.client("", false)
	if out := k.f.tick(k.now.Add(900*time.Millisecond), times); out != nil {
		t.Error("closed too early")
	}
	out := k.f.tick(k.now.Add(time.Second), times)
	if len(out) != 1 || out[0].flags != flagFIN|flagACK || out[0].seq != k.s || out[0].ack != k.c {
		t.Errorf("%+v", out)
	}
}

func TestFlowLearnsByProbe(t *testing.T) {
	k := newTalk(t, HTTP)
	times := holdTimes{quiet: time.Second, idle: time.Second}
	if out := k.f.tick(k.now, times); out != nil {
		t.Error("probed before it was quiet")
	}
	now := k.now.Add(time.Second)
	out := k.f.tick(now, times)
	if len(out) != 2 || out[1].seq-out[0].seq != 1<<31 {
		t.Fatalf("%+v", out)
	}
	if v, _ := k.client("", false); v != pass {
		t.Fatal(v)
	}
	out = k.f.tick(now, times)
	if len(out) != 1 || out[0].seq != k.s || out[0].ack != k.c || k.f.phase != flowClosing {
		t.Errorf("%+v", out)
	}
	// Unanswered, the FIN is repeated, and given up at last.
	n := 0
	for range 2000 {
		now = now.Add(10 * time.Millisecond)
		n += len(k.f.tick(now, times))
	}
	if n != maxFINs || !k.f.finished() {
		t.Errorf("repeated %d times, finished %t", n, k.f.finished())
	}
}

func TestFlowSilentClientIsGivenUp(t *testing.T) {
	k := newTalk(t, HTTP)
	now, n := k.now, 0
	for range 1000 {
		now = now.Add(10 * time.Millisecond)
		n += len(k.f.tick(now, holdTimes{quiet: time.Second, idle: time.Second}))
	}
	if n != 2*maxProbes || !k.f.finished() {
		t.Errorf("%d probes, finished %t", n, k.f.finished())
	}
}

func TestFlowRequestBeforeTheFINIsInFlight(t *testing.T) {
	k := newTalk(t, HTTP)
	times := holdTimes{quiet: time.Second, idle: time.Second}
	k.f.tick(k.now.Add(time.Second), times) // a probe is under way
	k.now = k.now.Add(time.Second)
	if v, _ := k.client(getReq, false); v != pass || !k.f.inFlight() {
		t.Fatalf("%v", v)
	}
	if out := k.f.tick(k.now.Add(time.Minute), times); out != nil {
		t.Errorf("closed during a request: %+v", out)
	}
}

func TestFlowHeadOfUnknownMethod(t *testing.T) {
	k := newTalk(t, HTTP)
	if v, _ := k.server(dated, false); v != passChanged {
		t.Fatalf("%v", v)
	}
	k.client("", false) // acknowledged; no body comes
	times := holdTimes{quiet: time.Second, idle: time.Second}
	if out := k.f.tick(k.now.Add(500*time.Millisecond), times); out != nil {
		t.Error("too early")
	}
	if out := k.f.tick(k.now.Add(time.Second), times); len(out) != 1 || out[0].seq != k.s {
		t.Errorf("%+v", out)
	}
}

func TestFlowAfterTheCut(t *testing.T) {
	k := newTalk(t, HTTP)
	k.cut = true
	for _, data := range []string{getReq, "something else"} {
		if v, _ := k.client(data, false); v != refuse {
			t.Errorf("%q: %v", data, v)
		}
	}
	if v, _ := k.client("", false); v != pass {
		t.Errorf("an acknowledgement: %v", v)
	}
}

func TestCloseLineChoosesTheBest(t *testing.T) {
	for want, head := range map[string]string{
		"Connection: close     ":         "Connection: keep-alive\r\nKeep-Alive: timeout=5, max=9\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\n",
		"Connection: close           \r": "Date: Mon, 23 Nov 2026 00:00:00 GMT\r\nKeep-Alive: timeout=5, max=9\r\n",
		"Connection: close   ":           "Date: Mon, 23 Nov 2026 00:00:00 GMT\r\nServer: nginx/1.22.1\r\n",
		"Server: a":                      "Server: a\r\n",
		"Connection: close\r\n":          "Connection: close\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\n",
	} {
		for _, split := range []bool{false, true} {
			k := newTalk(t, HTTP)
			k.client(getReq, false)
			start := "HTTP/1.1 200 OK\r\n" + head
			rest := "Content-Length: 0\r\n\r\n"
			var got string
			if split { // the header comes in two segments
				_, p := k.server(start, false)
				got = string(p.payload())
				_, p = k.server(rest, false)
				got += string(p.payload())
			} else {
				_, p := k.server(start+rest, false)
				got = string(p.payload())
			}
			if !strings.Contains(got, want) || len(got) != len(start+rest) {
				t.Errorf("split %t: %q is not in %q", split, want, got)
			}
			if k.f.phase != flowClosing {
				t.Errorf("split %t: %q: not closed", split, head)
			}
		}
	}
}

// Any bytes in any order of sides: no panic, bounded memory, lengths kept, and a
// FIN only at the end of an answer.
func FuzzFlow(f *testing.F) {
	f.Add([]byte("c"+getReq+"\x00s"+dated+"hello\x00c"+getReq), true)
	f.Add([]byte("s"+dated+"\x00shello\x00c\x00shello"), true)
	f.Add([]byte("cxyz\x00sabc\x00t\x00c"), false)
	f.Fuzz(func(t *testing.T, script []byte, http bool) {
		app := Opaque
		if http {
			app = HTTP
		}
		k := newTalk(t, app)
		for step := range strings.SplitSeq(string(script), "\x00") {
			if step == "" || len(step) > 1400 {
				continue
			}
			data := step[1:]
			switch step[0] {
			case 'c', 'C':
				if _, p := k.client(data, step[0] == 'C'); len(p.payload()) != len(data) {
					t.Fatal("length changed")
				}
			case 's', 'S':
				if _, p := k.server(data, step[0] == 'S'); len(p.payload()) != len(data) {
					t.Fatal("length changed")
				}
			case 'b':
				k.s -= uint32(len(data)) // what follows is sent again
			case 'x':
				k.cut = true
			case 't':
				k.now = k.now.Add(time.Second)
				for _, p := range k.f.tick(k.now, holdTimes{quiet: time.Second, idle: time.Second}) {
					if _, err := parseSegment(p.bytes()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if len(k.f.pending) > maxPending+1 || len(k.f.patches) > 1 {
				t.Fatalf("keeps %d requests, %d patches", len(k.f.pending), len(k.f.patches))
			}
			_ = fmt.Sprint(k.f.describe(k.now), k.f.finished())
		}
	})
}
