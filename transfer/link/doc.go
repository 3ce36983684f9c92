// Package link lets a host feed an apply.Engine that runs in a guest, over one
// stream of bytes. It owns the frames, their limits, the flow control, and what
// happens when one end falls silent or goes away; it knows nothing of what carries
// the bytes.
//
// Whatever the other end sends, an end holds a bounded number of bytes for it.
package link
