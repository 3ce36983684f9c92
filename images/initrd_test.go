package images

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const testDep = `kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/drivers/virtio-net.ko: kernel/drivers/failover.ko kernel/drivers/virtio.ko
kernel/drivers/failover.ko: kernel/drivers/virtio.ko
kernel/drivers/virtio.ko:
`

func TestOrderModules(t *testing.T) {
	got, err := orderModules(strings.NewReader(testDep), strings.NewReader("kernel/drivers/virtio_pci.ko\n"),
		[]string{"virtio_pci", "virtio_net", "ext4"})
	want := []string{"kernel/drivers/virtio.ko", "kernel/drivers/failover.ko", "kernel/drivers/virtio-net.ko",
		"kernel/fs/jbd2/jbd2.ko.xz", "kernel/fs/mbcache.ko.xz", "kernel/fs/ext4/ext4.ko.xz"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v %v", got, err)
	}
	if _, err := orderModules(strings.NewReader(testDep), strings.NewReader(""), []string{"nvme"}); err == nil {
		t.Error("a module that is nowhere was accepted")
	}
}

func FuzzOrderModules(f *testing.F) {
	f.Add(testDep, "ext4")
	f.Add("a.ko: b.ko\nb.ko: a.ko\n", "a")
	f.Fuzz(func(t *testing.T, dep, want string) {
		order, err := orderModules(strings.NewReader(dep), strings.NewReader(""), []string{want})
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, m := range order {
			if seen[m] {
				t.Errorf("%s twice", m)
			}
			seen[m] = true
		}
	})
}

// readCpio reads what cpioWriter wrote, by the format's own rules.
func readCpio(t *testing.T, data []byte) map[string]string {
	t.Helper()
	found := map[string]string{}
	for {
		if len(data) < 110 || string(data[:6]) != "070701" {
			t.Fatalf("no header at %q", data[:min(20, len(data))])
		}
		field := func(i int) int {
			n, err := strconv.ParseInt(string(data[6+8*i:14+8*i]), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		size, nameSize := field(6), field(11)
		start := (110 + nameSize + 3) &^ 3
		name := string(data[110 : 110+nameSize-1])
		if name == "TRAILER!!!" {
			return found
		}
		found[name] = fmt.Sprintf("%o %s", field(1), data[start:start+size])
		data = data[(start+size+3)&^3:]
	}
}

func TestCpio(t *testing.T) {
	var buf bytes.Buffer
	c := &cpioWriter{w: &buf}
	c.add("dir", cpioDir|0o755, nil)
	c.add("dir/file", cpioFile|0o644, []byte("12345"))
	c.add("link", cpioLink|0o777, []byte("dir/file"))
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	got := readCpio(t, buf.Bytes())
	want := map[string]string{"dir": "40755 ", "dir/file": "100644 12345", "link": "120777 dir/file"}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: %q, want %q", name, got[name], w)
		}
	}
}

func TestToolsAreKilledWithTheirChildren(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out signalWriter = make(chan struct{}, 1)
	done := make(chan error)
	// The grandchild holds the output open: run returns only when it is gone as well.
	go func() { done <- runTool(ctx, nil, out, nil, "sh", "-c", "echo up; sleep 1000 & sleep 1000") }()
	<-out
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// signalWriter tells that something was written.
type signalWriter chan struct{}

func (w signalWriter) Write(p []byte) (int, error) {
	select {
	case w <- struct{}{}:
	default:
	}
	return len(p), nil
}
