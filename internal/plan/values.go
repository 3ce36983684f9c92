package plan

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Port is a TCP port; 0 stands for none.
type Port uint16

// MAC is an Ethernet address of one station, in lower case with colons.
type MAC string

// UnmarshalText reads a unicast 48-bit address.
func (m *MAC) UnmarshalText(text []byte) error {
	hw, err := net.ParseMAC(string(text))
	if err != nil || len(hw) != 6 {
		return fmt.Errorf("%q is no MAC address", text)
	}
	if hw[0]&1 != 0 {
		return fmt.Errorf("%q is a multicast address", text)
	}
	*m = MAC(hw.String())
	return nil
}

// HostKey is an SSH host key as in a .pub file, without its comment.
type HostKey string

// UnmarshalText reads one line of a .pub file.
func (k *HostKey) UnmarshalText(text []byte) error {
	key, _, options, rest, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return fmt.Errorf("%q is no SSH public key", shorten(string(text)))
	}
	if len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return errors.New("holds more than one SSH public key")
	}
	*k = HostKey(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
	return nil
}

// PublicKey parses the key; one that came from [Load] never fails.
func (k HostKey) PublicKey() (ssh.PublicKey, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k))
	if err != nil {
		return nil, fmt.Errorf("parse host key: %w", err)
	}
	return key, nil
}

// GuestPath is a place in a VM of the universe, written "vm:/absolute/path".
type GuestPath struct{ VM, Path string }

// UnmarshalText reads a guest path and cleans it.
func (g *GuestPath) UnmarshalText(text []byte) error {
	vm, p, ok := strings.Cut(string(text), ":")
	if !ok || vm == "" || !path.IsAbs(p) || strings.ContainsRune(p, 0) {
		return fmt.Errorf("%q is no vm:/absolute/path", shorten(string(text)))
	}
	*g = GuestPath{VM: vm, Path: path.Clean(p)}
	return nil
}

// String gives the path as a plan writes it.
func (g GuestPath) String() string { return g.VM + ":" + g.Path }

// MarshalText writes the path as a plan does.
func (g GuestPath) MarshalText() ([]byte, error) { return []byte(g.String()), nil }
