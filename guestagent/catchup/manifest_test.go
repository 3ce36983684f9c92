package catchup

import (
	"bytes"
	"testing"
)

// FuzzManifest: whatever a manifest holds, its reader ends, gives no name that
// leaves a directory, and keeps its own order of depth.
func FuzzManifest(f *testing.F) {
	w := newWriter("", header{label: "l", target: "/t", uid: -1, gid: -1, window: 5})
	for _, r := range []record{
		{kind: recordEntry, name: "a", src: ident{1, 2, 3, 4}, dst: ident{5, 6, 7, 8}},
		{kind: recordDir, name: "b"}, {kind: recordEntry, name: "c"}, {kind: recordEnd}, {kind: recordEnd},
	} {
		if err := w.put(r); err != nil {
			f.Fatal(err)
		}
	}
	w.cut()
	f.Add(bytes.Clone(w.out), "b")
	w.add(footer{clock: 1, taken: 2, settled: 3, records: 4}.append(nil))
	f.Add(bytes.Clone(w.out), "a")
	f.Fuzz(func(t *testing.T, in []byte, name string) {
		r := newReader(bytes.NewReader(in))
		if r == nil {
			return
		}
		steps := 0
		for r.more {
			if r.next.kind != recordEnd && !goodName(r.next.name) {
				t.Fatalf("name %q", r.next.name)
			}
			switch steps % 4 {
			case 0:
				r.find(name)
			case 1:
				r.enter(name)
			case 2:
				r.knows(name)
			}
			if r.more {
				r.advance()
			}
			if steps++; steps > len(in) {
				t.Fatal("it does not end")
			}
		}
		r.leave()
		r.skip()
	})
}

// FuzzDirents: the kernel's list of names, even a damaged one.
func FuzzDirents(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08abc\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		all, err := appendNames(nil, in)
		if err != nil {
			return
		}
		for _, e := range all {
			if !goodName(e.name) {
				t.Fatalf("%q", e.name)
			}
		}
	})
}

func TestManifestRoundTrip(t *testing.T) {
	h := header{label: "l", target: "/t", uid: 3, gid: -1, window: frozenWindow}
	w := newWriter("", h)
	w.newest = 77e9
	var want []record
	for i := range 20000 {
		want = append(want, record{kind: recordEntry, name: string(rune('a'+i%26)) + string(rune(0x4e00+i)),
			src: ident{uint64(i), -1, 1 << 60, -1 << 60}, dst: ident{1 << 63, 5, 0, int64(i)}})
	}
	for _, r := range want {
		if err := w.put(r); err != nil {
			t.Fatal(err)
		}
	}
	w.cut()
	for _, ended := range []bool{false, true} {
		if ended {
			w.add(footer{settled: 123, records: w.records}.append(nil))
		}
		r := newReader(bytes.NewReader(w.out))
		if r == nil || !r.head.same(h) || r.ended != ended {
			t.Fatalf("header %+v", r)
		}
		if want := before(77e9, frozenWindow); !ended && r.settled != want || ended && r.settled != 123 {
			t.Errorf("settled %d", r.settled)
		}
		for i, rec := range want {
			if !r.more || r.next != rec {
				t.Fatalf("record %d: %+v", i, r.next)
			}
			r.advance()
		}
		if r.more {
			t.Error("more than was written")
		}
	}
}
