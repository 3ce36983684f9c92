package images

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestInstanceRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   Instance
		want string
	}{
		"host name":     {Instance{Hostname: "a b"}, "hostname"},
		"gateway":       {Instance{Address: netip.MustParsePrefix("10.0.0.2/24"), Gateway: netip.MustParseAddr("10.0.1.1")}, "gateway"},
		"format":        {Instance{Format: "vmdk"}, "vmdk"},
		"machine id":    {Instance{MachineID: "x"}, "machine id"},
		"relative path": {Instance{Files: []GuestFile{{Path: "x"}}}, "path"},
		"quote in path": {Instance{Files: []GuestFile{{Path: "/a\"b"}}}, "path"},
		"line in path":  {Instance{Files: []GuestFile{{Path: "/a\nrm /etc/passwd"}}}, "path"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "disk")
			err := Instantiate(t.Context(), Image{Disk: "/dev/null"}, dst, c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			if _, err := os.Stat(dst); err == nil {
				t.Error("a disk was made")
			}
		})
	}
}

func TestParents(t *testing.T) {
	made := map[string]bool{"/": true}
	if got := parents("/a/b/c", made); !slices.Equal(got, []string{"/a", "/a/b"}) {
		t.Errorf("got %v", got)
	}
	if got := parents("/a/d", made); got != nil {
		t.Errorf("again: %v", got)
	}
}

// testDisk is a real ext4 disk with a few files of its own.
func testDisk(t *testing.T) Image {
	t.Helper()
	for _, tool := range []string{"mke2fs", "debugfs", "qemu-img"} {
		if _, err := findTool(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree", "etc")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "hostname"), []byte("image, with a long name\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "disk.raw")
	if err := runTool(t.Context(), nil, t.Output(), nil, "mke2fs", "-q", "-t", "ext4", "-d", filepath.Join(dir, "tree"), disk, "64M"); err != nil {
		t.Fatal(err)
	}
	return Image{Name: "test", Disk: disk, Format: "raw"}
}

func TestInstantiate(t *testing.T) {
	img := testDisk(t)
	before, err := digest(t.Context(), img.Disk)
	if err != nil {
		t.Fatal(err)
	}
	private, public, err := NewHostKey()
	if err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), "disk")
	in := Instance{Hostname: "web", Address: netip.MustParsePrefix("10.0.0.2/24"), Gateway: netip.MustParseAddr("10.0.0.1"),
		MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, AuthorizedKeys: []string{"ssh-ed25519 AAAA"}, HostKey: private, HostKeyPublic: public,
		Files: []GuestFile{{Path: "/srv/deep/er/file", Mode: 0o750, UID: 33, GID: 34, Content: make([]byte, 100_000)}}}
	if err := Instantiate(t.Context(), img, dst, in); err != nil {
		t.Fatal(err)
	}
	if err := runTool(t.Context(), nil, t.Output(), nil, "e2fsck", "-fn", dst); err != nil {
		t.Errorf("the file system is not whole: %v", err)
	}
	for path, want := range map[string]string{
		"/etc/hostname":                 "web\n",
		"/etc/hosts":                    "127.0.0.1 localhost\n10.0.0.2 web\n",
		"/etc/imago/network":            "address=10.0.0.2/24\ngateway=10.0.0.1\nmac=02:00:00:00:00:01\n",
		"/srv/deep/er/file":             string(make([]byte, 100_000)),
		"/root/.ssh/authorized_keys":    "ssh-ed25519 AAAA\n",
		"/etc/ssh/ssh_host_ed25519_key": string(private),
	} {
		got, err := debugfs(t.Context(), dst, t.TempDir(), "cat "+path+"\n")
		if _, got, _ = strings.Cut(got, "\n"); err != nil || strings.TrimPrefix(got, "debugfs: cat "+path+"\n") != want {
			t.Errorf("%s: %.200q %v", path, got, err)
		}
	}
	stat, err := debugfs(t.Context(), dst, t.TempDir(), "stat /root/.ssh\n")
	if err != nil || !strings.Contains(stat, "Mode:  0700") {
		t.Errorf("/root/.ssh: %s %v", stat, err)
	}
	if after, err := digest(t.Context(), img.Disk); err != nil || after != before {
		t.Errorf("the image changed: %v %v", after, err)
	}
	left, err := os.ReadDir(filepath.Dir(dst))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A disk too full for a file must be an error, and no disk.
func TestInstantiateIntoFullDisk(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "disk")
	err := Instantiate(t.Context(), testDisk(t), dst, Instance{Files: []GuestFile{{Path: "/big", Content: bytes.Repeat([]byte("full"), 20<<20)}}})
	if err == nil {
		t.Error("80 MiB fitted into 64")
	}
	if _, err := os.Stat(dst); err == nil {
		t.Error("a disk was made")
	}
}

func TestInstantiateQcow2(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "disk")
	if err := Instantiate(t.Context(), testDisk(t), dst, Instance{Format: "qcow2"}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(dst); err != nil || string(data[:4]) != "QFI\xfb" {
		t.Errorf("not qcow2: %q %v", data[:4], err)
	}
}

func TestHostKeysMatch(t *testing.T) {
	private, public, err := NewHostKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil || string(ssh.MarshalAuthorizedKey(signer.PublicKey())) != string(public) {
		t.Errorf("%v: %s is not of that key", err, public)
	}
}
