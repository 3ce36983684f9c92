// Package viewmount finds a hot-attached disk in a guest by its serial number
// and mounts it read-only. It knows what a file system looks like on a disk, so
// that what cannot be mounted is named; it does not read files (package catchup
// does), and needs no tool of the guest.
package viewmount
