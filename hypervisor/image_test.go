package hypervisor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v %s", args, err, out)
	}
}

func TestReadImageChain(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	qemuImg(t, "create", "-q", "-f", "raw", at("base.raw"), "5M")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "-F", "raw", "-b", "base.raw", at("mid"))
	qemuImg(t, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", at("mid"), at("top"), "7M")
	qemuImg(t, "bitmap", "--add", "-g", "65536", at("top"), "daily")
	qemuImg(t, "bitmap", "--add", "-g", "4096", at("top"), "a-rather-longer-name")
	chain, err := ReadImageChain(at("top"), "qcow2")
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 3 || chain[0].VirtualSize != 7<<20 || chain[1].VirtualSize != 5<<20 || chain[2].VirtualSize != 5<<20 {
		t.Fatalf("%+v", chain)
	}
	if chain[0].BackingFormat != "qcow2" || chain[1].BackingFile != "base.raw" || chain[2].Path != at("base.raw") {
		t.Errorf("%+v", chain)
	}
	b := chain[0].Bitmaps
	if len(b) != 2 || b[0].Name != "daily" || b[0].Granularity != 65536 || b[1].Name != "a-rather-longer-name" || b[1].Granularity != 4096 {
		t.Errorf("bitmaps %+v", b)
	}
}

func TestReadImageRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	qemuImg(t, "create", "-q", "-f", "qcow2", at("plain"), "1M")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "data_file="+at("secret")+",data_file_raw=on", at("datafile"), "1M")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "nbd+unix:///x?socket=/y", at("nbd"), "1M")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", at("loop2"), at("loop"), "1M")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", "loop", at("loop2"), "1M")
	plain, err := os.ReadFile(at("plain"))
	if err != nil {
		t.Fatal(err)
	}
	patch := func(name string, change func([]byte)) {
		b := bytes.Clone(plain)
		change(b)
		if err := os.WriteFile(at(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	patch("magic", func(b []byte) { b[0] = 'X' })
	patch("version", func(b []byte) { b[7] = 9 })
	patch("huge", func(b []byte) { binary.BigEndian.PutUint64(b[24:], 1<<62) })
	patch("luks", func(b []byte) { b[35] = 2 })
	patch("corrupt", func(b []byte) { b[79] |= incompatCorrupt })
	patch("unknown", func(b []byte) { b[72] = 0x80 })
	patch("noformat", func(b []byte) {
		binary.BigEndian.PutUint64(b[8:], 512)
		binary.BigEndian.PutUint32(b[16:], 4)
		copy(b[512:], "base")
	})
	patch("outside", func(b []byte) {
		binary.BigEndian.PutUint64(b[8:], 1<<40)
		binary.BigEndian.PutUint32(b[16:], 4)
	})
	if err := os.WriteFile(at("short"), plain[:50], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"datafile": "another file", "luks": "encrypted", "nbd": "not a plain path", "loop": "loop", "magic": "not a qcow2",
		"version": "version 9", "huge": "virtual size", "corrupt": "corrupt", "unknown": "unknown incompatible",
		"noformat": "does not state the format", "outside": "outside", "short": "too short", "": "not a regular file",
	} {
		_, err := ReadImageChain(at(name), "qcow2")
		if !errors.Is(err, ErrHostileImage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if _, err := ReadImageHeader(at("plain"), "vmdk"); !errors.Is(err, ErrHostileImage) {
		t.Errorf("vmdk: %v", err)
	}
	// A guest that writes a qcow2 header into its raw disk changes nothing.
	h, err := ReadImageHeader(at("datafile"), "raw")
	if err != nil || h.BackingFile != "" {
		t.Errorf("raw: %+v %v", h, err)
	}
}

func FuzzQcow2(f *testing.F) {
	seed := make([]byte, 512)
	copy(seed, "QFI\xfb\x00\x00\x00\x03")
	binary.BigEndian.PutUint32(seed[20:], 16)
	binary.BigEndian.PutUint64(seed[24:], 1<<20)
	binary.BigEndian.PutUint32(seed[100:], qcow2HeaderV3)
	f.Add(bytes.Clone(seed))
	binary.BigEndian.PutUint32(seed[104:], extBitmaps)
	binary.BigEndian.PutUint32(seed[108:], 24)
	binary.BigEndian.PutUint32(seed[112:], 1)
	binary.BigEndian.PutUint64(seed[120:], 40)
	binary.BigEndian.PutUint64(seed[128:], 200)
	seed[217], seed[219] = 16, 5
	copy(seed[224:], "daily")
	f.Add(bytes.Clone(seed))
	f.Add([]byte("QFI\xfb"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var h ImageHeader
		err := parseQcow2(io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), &h)
		if err != nil {
			if !errors.Is(err, ErrHostileImage) {
				t.Errorf("an image in memory gave %v", err)
			}
			return
		}
		if h.VirtualSize > maxVirtualSize || len(h.BackingFile) > maxBackingName || len(h.Bitmaps) > maxBitmaps {
			t.Errorf("accepted %+v", h)
		}
	})
}
