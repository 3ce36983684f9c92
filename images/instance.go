package images

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Instance says what makes one machine different from another of the same image.
// Zero fields leave the image's own.
type Instance struct {
	Hostname       string
	Address        netip.Prefix // of the first network card, such as 10.20.0.10/24
	Gateway        netip.Addr
	MAC            net.HardwareAddr // of the card that gets Address; nil means the first
	AuthorizedKeys []string         // who may log in as root
	HostKey        []byte           // private ed25519 key in OpenSSH PEM, as NewHostKey makes it
	HostKeyPublic  []byte           // its public line
	MachineID      string           // 32 hex digits; default random
	Files          []GuestFile
	Format         string // of the new disk: "raw" (default) or "qcow2"
}

// GuestFile is one file put into an instance's disk.
type GuestFile struct {
	Path     string      // absolute
	Mode     fs.FileMode // permission bits; default 0644
	UID, GID int
	Content  []byte
}

var (
	hostnameShape  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	machineIDShape = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// Instantiate makes the disk of one machine at dst from a built image: a copy
// with the instance's files written into it, without mounting it. dst appears
// whole or not at all.
func Instantiate(ctx context.Context, img Image, dst string, in Instance) error {
	if err := in.validate(); err != nil {
		return fmt.Errorf("instance of %s: %w", img.Name, err)
	}
	if img.Disk == "" {
		return fmt.Errorf("instance of %s: the image has no disk", img.Name)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dst), ".instance-")
	if err != nil {
		return fmt.Errorf("instance of %s: %w", img.Name, err)
	}
	err = instantiate(ctx, img, tmp, dst, in)
	if err = errors.Join(err, os.RemoveAll(tmp)); err != nil {
		return fmt.Errorf("instance %s of %s: %w", dst, img.Name, err)
	}
	return nil
}

func instantiate(ctx context.Context, img Image, tmp, dst string, in Instance) error {
	files, err := in.files()
	if err != nil {
		return err
	}
	disk := filepath.Join(tmp, "disk")
	if err := convertDisk(ctx, img.Disk, img.Format, disk, "raw"); err != nil {
		return err
	}
	if err := writeIntoDisk(ctx, disk, tmp, files); err != nil {
		return err
	}
	if in.Format == "qcow2" {
		raw := disk
		disk = filepath.Join(tmp, "disk.qcow2")
		if err := convertDisk(ctx, raw, "raw", disk, "qcow2"); err != nil {
			return err
		}
	}
	return os.Rename(disk, dst)
}

func (in Instance) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if in.Hostname != "" && !hostnameShape.MatchString(in.Hostname) {
		fault("hostname %q is not one", in.Hostname)
	}
	if in.MachineID != "" && !machineIDShape.MatchString(in.MachineID) {
		fault("machine id %q is not 32 hex digits", in.MachineID)
	}
	if in.Gateway.IsValid() && !in.Address.Contains(in.Gateway) {
		fault("gateway %s is not in the network of %s", in.Gateway, in.Address)
	}
	if in.Format != "" && in.Format != "raw" && in.Format != "qcow2" {
		fault("disk format %q is neither raw nor qcow2", in.Format)
	}
	for _, f := range in.Files {
		checkPath(func(at, format string, args ...any) { fault("%s: "+format, append([]any{at}, args...)...) },
			"file", f.Path)
	}
	return errors.Join(faults...)
}

// files turns the instance's fields into files of the guest.
func (in Instance) files() ([]GuestFile, error) {
	id := in.MachineID
	if id == "" {
		b := make([]byte, 16)
		if _, err := rand.Read(b); err != nil {
			return nil, err
		}
		id = hex.EncodeToString(b)
	}
	files := []GuestFile{{Path: "/etc/machine-id", Mode: 0o444, Content: []byte(id + "\n")}}
	if in.Hostname != "" {
		files = append(files, GuestFile{Path: "/etc/hostname", Content: []byte(in.Hostname + "\n")},
			GuestFile{Path: "/etc/hosts", Content: []byte(in.hosts())})
	}
	if in.Address.IsValid() {
		files = append(files, GuestFile{Path: "/etc/imago/network", Content: []byte(in.network())})
	}
	if len(in.AuthorizedKeys) > 0 {
		files = append(files, GuestFile{Path: "/root/.ssh/authorized_keys", Mode: 0o600,
			Content: []byte(strings.Join(in.AuthorizedKeys, "\n") + "\n")})
	}
	if len(in.HostKey) > 0 {
		files = append(files, GuestFile{Path: "/etc/ssh/ssh_host_ed25519_key", Mode: 0o600, Content: in.HostKey},
			GuestFile{Path: "/etc/ssh/ssh_host_ed25519_key.pub", Content: in.HostKeyPublic})
	}
	return append(files, in.Files...), nil
}

func (in Instance) hosts() string {
	s := "127.0.0.1 localhost\n"
	if in.Address.IsValid() {
		return s + in.Address.Addr().String() + " " + in.Hostname + "\n"
	}
	return s + "127.0.1.1 " + in.Hostname + "\n"
}

// network is what the images' imago-network service reads.
func (in Instance) network() string {
	gateway := ""
	if in.Gateway.IsValid() {
		gateway = in.Gateway.String()
	}
	return "address=" + in.Address.String() + "\ngateway=" + gateway + "\nmac=" + in.MAC.String() + "\n"
}
