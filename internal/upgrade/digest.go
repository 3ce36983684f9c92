package upgrade

import "crypto/sha256"

// digestOf makes any text a digest of fixed size.
func digestOf(value []byte) []byte {
	sum := sha256.Sum256(value)
	return sum[:]
}
