// Package netswitch owns everything between wires: the sealed network of a
// parallel universe with its gateway namespace, the VIP map that decides which
// version the clients reach, and the hold that keeps clients waiting while the
// map is flipped.
//
// It does not know libvirt, disks or data, and it does not decide when to flip:
// its callers do. The universe's bridge must exist before OpenUniverse is called.
//
// What it makes in the kernel carries the universe's ID in its name and outlives
// the process: namespaces, links, nftables tables. After a crash FindUniverse and
// NewVIPMap pick the same objects up again, and RemoveAll takes them away by name.
// Rulesets of others are never flushed or edited.
//
// "The host" is the network namespace in which this package is called. All of it
// speaks netlink itself; no nft or ip program is run.
package netswitch
