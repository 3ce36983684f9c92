package netswitch

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// packet builds a segment with an independent library.
func packet(t testing.TB, tcp layers.TCP, data []byte) []byte {
	t.Helper()
	ip := layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: []byte{198, 51, 100, 7}, DstIP: []byte{198, 51, 100, 1}}
	if err := tcp.SetNetworkLayerForChecksum(&ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, &ip, &tcp, gopacket.Payload(data)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestSegmentAgreesWithLibrary(t *testing.T) {
	ts := layers.TCPOption{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{0, 0, 0, 7, 0, 0, 0, 9}}
	for _, data := range []string{"", "a", "ab", "hello there"} {
		b := packet(t, layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 0xfffffff0, Ack: 77, ACK: true, Window: 500,
			Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, ts}}, []byte(data))
		p, err := parseSegment(b)
		if err != nil {
			t.Fatal(err)
		}
		if p.src() != netip.MustParseAddrPort("198.51.100.7:4000") || p.dst() != netip.MustParseAddrPort("198.51.100.1:80") ||
			p.seq() != 0xfffffff0 || p.ack() != 77 || p.window() != 500 || !p.has(flagACK) || p.has(flagFIN) || string(p.payload()) != data {
			t.Errorf("%q: read wrongly: %v", data, p)
		}
		if val, ecr, ok := p.timestamps(); !ok || val != 7 || ecr != 9 {
			t.Errorf("timestamps %d %d %t", val, ecr, ok)
		}
		was := bytes.Clone(b)
		p.seal()
		if !bytes.Equal(was, b) {
			t.Errorf("%q: checksum differs from the library's", data)
		}
	}
}

func TestForgedIsWhatTheLibraryReads(t *testing.T) {
	f := forged{from: netip.MustParseAddrPort("198.51.100.1:80"), to: netip.MustParseAddrPort("198.51.100.7:4000"),
		seq: 5, ack: 6, flags: flagFIN | flagACK, window: 9, stamped: true, tsVal: 3, tsEcr: 4}
	pkt := gopacket.NewPacket(f.bytes(), layers.LayerTypeIPv4, gopacket.Default)
	tcp, ok := pkt.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok || !tcp.FIN || !tcp.ACK || tcp.Seq != 5 || tcp.Ack != 6 || tcp.SrcPort != 80 || tcp.DstPort != 4000 || tcp.Window != 9 {
		t.Fatalf("%v", pkt)
	}
	if p, err := parseSegment(f.bytes()); err != nil {
		t.Error(err)
	} else if val, ecr, ok := p.timestamps(); !ok || val != 3 || ecr != 4 {
		t.Errorf("timestamps %d %d %t", val, ecr, ok)
	}
}

func FuzzSegment(f *testing.F) {
	f.Add(packet(f, layers.TCP{SrcPort: 1, DstPort: 80, SYN: true}, nil))
	f.Add(packet(f, layers.TCP{SrcPort: 1, DstPort: 80, ACK: true}, []byte("GET / HTTP/1.1\r\n\r\n")))
	f.Add([]byte{0x45})
	f.Fuzz(func(t *testing.T, b []byte) {
		udpEndpoints(b)
		p, err := parseSegment(b)
		if err != nil {
			return
		}
		n, total := len(p.payload()), len(p.b)
		p.timestamps()
		p.setFlag(flagFIN)
		p.setAck(p.ack() - 1)
		p.setSeq(p.seq() + 1)
		p.seal()
		sum := p.checksum() // over a segment with a right checksum, the sum is 0
		if sum != 0 && sum != 0xffff {
			t.Fatalf("checksum does not fit: %x", sum)
		}
		again, err := parseSegment(p.b)
		if err != nil || len(again.payload()) != n || len(again.b) != total {
			t.Fatalf("after the changes: %v", err)
		}
	})
}
