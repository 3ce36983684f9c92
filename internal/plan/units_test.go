package plan

import (
	"testing"
	"time"
)

func TestUnits(t *testing.T) {
	for text, want := range map[string]Bytes{"2GiB": 2 << 30, "1.5GiB": 3 << 29, "500MB": 500e6, "0B": 0, "4096B": 4096} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s is %d, %v", text, b, err)
		}
	}
	for _, text := range []string{"", "5", "GiB", "-1GiB", "1e3MiB", "0.3B", "9999999TiB", "1 GiB", "1/2GiB", "0x1GiB"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, b)
		}
	}
	var d Duration
	if err := d.UnmarshalText([]byte("7d")); err != nil || d.Duration != 168*time.Hour {
		t.Errorf("7d is %s, %v", d, err)
	}
	if err := d.UnmarshalText([]byte("999999999d")); err == nil {
		t.Error("a duration that does not fit was read")
	}
}

// FuzzBytes holds that what is written is what was read.
func FuzzBytes(f *testing.F) {
	for _, s := range []string{"2GiB", "1.5MB", "0B", "17B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var a, b Bytes
		if a.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := b.UnmarshalText([]byte(a.String())); err != nil || a != b {
			t.Fatalf("%q is %d, written %q, read %d, %v", text, a, a, b, err)
		}
	})
}
