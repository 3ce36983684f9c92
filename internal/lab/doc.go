// Package lab makes a whole virtualization host for one machine: its own
// network, mount and process namespaces, a real libvirtd in them, a sample
// system of production VMs behind a virtual IP, and clients that use it.
//
// Everything of a lab lives in namespaces that end with its first process, so
// nothing of it can stay behind: no process, no mount, no network, whatever
// kills it. Only the lab's directory is left, and Down removes that.
//
// The package owns no upgrade logic: an upgrade runs in a lab exactly as it
// runs on an admin's host, through the imago command.
package lab
