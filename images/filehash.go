package images

import "context"

// FileSHA256 returns the SHA-256 of a file in hex, as sha256sum prints it.
func FileSHA256(ctx context.Context, path string) (string, error) {
	d, err := digest(ctx, path)
	return d.SHA256, err
}
