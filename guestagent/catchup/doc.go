// Package catchup makes one directory tree equal to another inside one guest:
// the tree of a production VM, mounted from a frozen view of its disk, and the
// tree of the VM that is to replace it. It owns the comparison, the copying,
// and the manifest that lets the next call read only what moved.
//
// The walk goes through both trees at once in a fixed order and keeps little in
// memory but the names of the directories it is in. What has to change is
// prepared in a private directory below the target's root (content by a few
// workers), put on stable storage, and then given its names in the walk's order.
//
// It follows no link and opens each name below a directory it holds open, so
// it stays in the two trees whatever they hold. It neither mounts (package
// viewmount) nor talks to the host (package inguest).
package catchup
