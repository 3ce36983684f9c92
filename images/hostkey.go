package images

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// NewHostKey makes an SSH host key: the private key as an OpenSSH PEM file and
// the public key as one line.
func NewHostKey() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return nil, nil, fmt.Errorf("make host key: %w", err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, nil, fmt.Errorf("make host key: %w", err)
	}
	return pem.EncodeToMemory(block), ssh.MarshalAuthorizedKey(key), nil
}
