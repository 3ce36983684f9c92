// Package hypervisor owns the connection to libvirt and what imago does with
// domains: it describes, clones, defines, starts and removes them, rewrites
// their XML for the universe, proves by fingerprints that production did not
// change, and waits until a guest is ready.
//
// It owns neither the contents of disks (package snapshot takes the frozen
// views that clones run on) nor addresses and packets (package netswitch).
//
// Safety rule: whatever stops, removes or pokes a domain or a network first
// asks whether it carries imago's mark, and refuses with [ErrNotOurs] if not.
package hypervisor
