// Package benchtransfer measures the transfer on real MariaDB servers, beside its
// peers in one run. 'make bench-transfer' runs it.
package benchtransfer
