package transfer

import (
	"context"
	"errors"
	"fmt"
)

// Limits of one object, in bytes.
const (
	MaxKey    = 64 << 10
	MaxDigest = 64
)

// ObjectSource yields every object of one side once, in any order, and returns
// when it has done so or at the first error. It must return an error when it
// could not see everything: a source that ends early without one would make a
// loss look like agreement. yield copies what it is given.
type ObjectSource func(ctx context.Context, yield func(key string, digest []byte) error) error

// ErrInvalidObject is wrapped for a key or a digest outside the limits.
var ErrInvalidObject = errors.New("not a valid object")

// object is one key with its digest.
type object struct {
	key    string
	digest string
}

func newObject(key string, digest []byte) (object, error) {
	switch {
	case key == "" || len(key) > MaxKey:
		return object{}, fmt.Errorf("%w: key of %d bytes, 1 to %d allowed", ErrInvalidObject, len(key), MaxKey)
	case len(digest) == 0 || len(digest) > MaxDigest:
		return object{}, fmt.Errorf("%w: %.80q has a digest of %d bytes, 1 to %d allowed", ErrInvalidObject, key, len(digest), MaxDigest)
	}
	return object{key, string(digest)}, nil
}

// compare orders by key, then by digest, so that equal sets sort equally even
// where a key comes twice.
func (o object) compare(p object) int {
	switch {
	case o.key < p.key:
		return -1
	case o.key > p.key:
		return 1
	case o.digest < p.digest:
		return -1
	case o.digest > p.digest:
		return 1
	}
	return 0
}
