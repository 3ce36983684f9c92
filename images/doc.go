// Package images builds disk images of virtual machines from Debian packages.
//
// It owns recipes (what an image holds), the cache of built images, and the
// per-machine disks made from them. A recipe is declared in YAML and named by a
// hash over everything that decides its content; an image is built once per hash,
// with mmdebstrap and mke2fs, without mounting a disk, and its files are checked
// against their SHA-256 before each use. Images carry no boot loader: a machine
// boots the kernel and initrd files that lie beside the disk.
//
// It does not define, start or reach machines, and it does not decide which
// addresses they get.
package images
