// Package snapshot takes frozen views of running production disks and turns
// them into disks for clones.
//
// A view is one instant of all disks of all VMs of a system. libvirt's backup
// API in pull mode gives it: QEMU copies what the guest is about to overwrite
// into a scratch file first, and serves the old content over NBD on a unix
// socket. A clone's disk is a qcow2 overlay on that view, so it boots at once;
// [Pull] copies the rest behind its back, and [Set.End] ends the backup job.
//
// Production comes first, always. Scratch files have all their space before
// production is touched, so they cannot fill up; frozen file systems are
// thawed by a second process if this one dies; a watchdog gives the view up
// and resumes the guest when a disk of production reports an error. What is
// lost is then the clone, never production.
//
// The package owns views, scratch files, overlays and pulls. It does not boot
// VMs, write domain XML or look into images, and leaves no mark (such as a
// dirty bitmap) in production's images. The libvirt connections of the domains
// given to it need a running event loop, which is their owner's business.
package snapshot
