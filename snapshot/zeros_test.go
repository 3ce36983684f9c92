package snapshot

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSkipZeros marks what is a hole in an image served as a view is.
func TestSkipZeros(t *testing.T) {
	needTools(t, "qemu-img", "qemu-io", "qemu-nbd")
	dir := t.TempDir()
	image, overlay := filepath.Join(dir, "disk"), filepath.Join(dir, "overlay")
	const size = 512<<20 + 512
	f, err := os.Create(image)
	must(t, err)
	must(t, f.Truncate(size))
	random := rand.NewChaCha8([32]byte{})
	data := make([]byte, 300_000)
	for _, off := range []int64{0, 5<<20 + 100, 6 << 20, 200 << 20, size - 300_000} {
		_, _ = random.Read(data)
		_, err := f.WriteAt(data, off)
		must(t, err)
	}
	must(t, f.Close())
	view := View{VM: "x", Target: "vda", Socket: filepath.Join(dir, "s"), Export: "vda", Capacity: size}
	nbd := exec.Command("qemu-nbd", "-f", "raw", "-r", "-t", "-e", "4", "-x", "vda", "-k", view.Socket, image)
	must(t, nbd.Start())
	t.Cleanup(func() { _ = nbd.Process.Kill(); _ = nbd.Wait() })
	eventually(t, 10*time.Second, "qemu-nbd", func() error { _, err := os.Stat(view.Socket); return err })

	must(t, CreateOverlay(t.Context(), overlay, view))
	begin := time.Now()
	marked, err := SkipZeros(t.Context(), overlay, view)
	must(t, err)
	t.Logf("%d of %d bytes in %s", marked, size, time.Since(begin))
	if marked < 500<<20 || marked > size-5*300_000 {
		t.Errorf("marked %d", marked)
	}
	run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", image, overlay)
	if st, err := os.Stat(overlay); err != nil || st.Size() > 1<<20 {
		t.Errorf("the overlay has %d bytes: %v", st.Size(), err)
	}
	// What is marked is the overlay's own: a pull does not ask the view for it.
	text := run(t, "qemu-img", "map", "-f", "qcow2", "--output=json", overlay)
	if own := strings.Count(text, `"depth": 0`); own != 3 {
		t.Errorf("%s", text)
	}

	must(t, os.Remove(view.Socket))
	if _, err := SkipZeros(t.Context(), overlay, view); err == nil {
		t.Error("no view, and no error")
	}
}

func TestParseMapRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "not a list": "x", "a gap": `[{"start":5,"length":5,"zero":true}]`, "too long": `[{"start":0,"length":101,"zero":true}]`,
		"no length": `[{"start":0,"length":0,"zero":true}]`, "negative": `[{"start":0,"length":-1}]`, "cut": `[{"start":0,"length":10`,
		"overlap": `[{"start":0,"length":50,"zero":true},{"start":40,"length":50,"zero":true}]`,
	} {
		if err := parseMap(strings.NewReader(text), 100, func(extent) {}); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

// FuzzMap: no run leaves the disk, and all are whole clusters in order.
func FuzzMap(f *testing.F) {
	f.Add(`[{"start":0,"length":3000000,"depth":0,"zero":true,"data":false},{"start":3000000,"length":5000000,"zero":true},{"start":8000000,"length":1}]`)
	f.Fuzz(func(t *testing.T, in string) {
		const capacity = 64 << 20
		at := uint64(0)
		_ = parseMap(strings.NewReader(in), capacity, func(e extent) {
			if e.start < at || e.start%overlayCluster != 0 || e.length%overlayCluster != 0 || e.length < zeroRun || e.start+e.length > capacity {
				t.Fatalf("%+v after %d", e, at)
			}
			at = e.start + e.length
		})
	})
}
