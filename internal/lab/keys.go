package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"imago.dev/imago/images"
)

// writeUserKey makes the key pair that imago and the lab log in with, and
// returns the public line.
func writeUserKey(dir string) (string, error) {
	private, public, err := images.NewHostKey()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "id_ed25519")
	if err := os.WriteFile(path, private, 0o600); err != nil {
		return "", fmt.Errorf("write the lab's key: %w", err)
	}
	if err := os.WriteFile(path+".pub", public, 0o644); err != nil {
		return "", fmt.Errorf("write the lab's key: %w", err)
	}
	return strings.TrimSpace(string(public)), nil
}

func newUUID() (string, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("make a UUID: %w", err)
	}
	return id.String(), nil
}
