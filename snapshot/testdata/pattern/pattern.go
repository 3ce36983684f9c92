// Package pattern is the sequence that the test guest writes to its disks. The
// content of a disk after n writes follows from n alone, so a frozen view can
// be checked byte for byte.
package pattern

import (
	"encoding/binary"
	"fmt"
)

const (
	// Block is the size of one write in bytes.
	Block = 4096
	// Stride spreads the writes, so each of the first ones touches a new cluster.
	Stride = 17
)

// Place is the block that write n (from 1) goes to on a disk of that many blocks, a power of two.
func Place(n, blocks uint64) uint64 { return n * Stride % blocks }

// Fill writes the content of write n into a block.
func Fill(block []byte, n uint64) {
	for i := 0; i < len(block); i += 8 {
		binary.LittleEndian.PutUint64(block[i:], n)
	}
}

// State finds n such that the disk is exactly as after n writes; an error if
// there is no such n.
func State(disk []byte) (uint64, error) {
	blocks := uint64(len(disk) / Block)
	var n uint64
	for b := range blocks {
		n = max(n, binary.LittleEndian.Uint64(disk[b*Block:]))
	}
	want := make([]uint64, blocks)
	first := uint64(1)
	if n > blocks {
		first = n - blocks + 1
	}
	for m := first; m <= n; m++ {
		want[Place(m, blocks)] = m
	}
	for b := range blocks {
		for i := b * Block; i < (b+1)*Block; i += 8 {
			if got := binary.LittleEndian.Uint64(disk[i:]); got != want[b] {
				return n, fmt.Errorf("after %d writes block %d must hold %d, it holds %d", n, b, want[b], got)
			}
		}
	}
	return n, nil
}
